"""The rules between keys, at their edges: what is just right. What is wrong stands in ``errors/``."""

import pytest

from aiosystemd.errors import Problem, ProblemsError
from aiosystemd.rules import SUN_PATH
from tests.test_errors import problems_of

SHOP = 'name = "shop"\napp = "shop:app"\n'


def found(more: str) -> list[Problem]:
    return list(problems_of(SHOP + more))


@pytest.mark.parametrize(
    "more",
    [
        "timeouts = { request = 60, drain = 65 }",
        "timeouts = { request = 60, drain = 60 }\nproxy.kind = 'none'",
        "timeouts = { request = 30.1, drain = 35.3 }\nproxy.keepalive = 5.2",
        "timeouts = { drain = 45, stop = 50 }",
        "timeouts = { request = 0.1, drain = 5.3, stop = 10.3 }",
        "server.keepalive = 5.001",
        "server.keepalive = 0.001\nproxy.kind = 'none'",
        "proxy.body_size = '1M'\nserver.body_limit = '1M'",
        "proxy.body_size = '2M'",
        f"listen.directory = '/{'x' * (SUN_PATH - len('//4.sock'))}'",
        f"listen.directory = '/{'x' * (SUN_PATH - len('//1000.sock'))}'\ninstances = 'auto'",
        f"listen.directory = '/{'ü' * ((SUN_PATH - len('//4.sock')) // 2)}'",
        "listen.port = 65532",
        "listen.port = 65535\ninstances = 'auto'",
        "listen = { port = 1, address = '::' }",
        "service = { user = 'shop', group = 'shops' }",
        "service = { user = 'shop', dynamic_user = true, group = 'shops' }",
        "directory = '/homestead'\npython = '/rooted/bin/python'",
        "directory = '/tmpfiles'\npython = '/srv/tmp/bin/python'",
        "directory = '/home/shop'\nsandbox.home = true",
        "directory = '/tmp/shop'\nservice.user = 'shop'\nsandbox.shared_tmp = true",
        "sandbox.writable = ['/srv/shop', '/var/lib/shopping']\nservice.user = 'shop'",
        "listen.directory = '/run/shop/sockets'",
        "listen.directory = '/runner'",
        "sandbox = { network = 'none', addresses = [] }",
        "service.environment = { TOKENIZER = 'x', LISTEN = 'x', MAINPIDS = 'x', SECRETARY = 'x' }",
        "service.directives = { ExecStartPre = '/bin/true', Typed = 1 }",
        "proxy = { static = { '/a' = '/a', '/ab/' = '/a' }, streams = ['/a/b', '/'] }",
        "proxy.listen = ['80', '[::]:80', '127.0.0.1:80', '[::1]:80', 'localhost:80', '81']",
        "proxy = { listen = ['80'], tls = { certificate = '/a', key = '/b', listen = ['443'] } }",
        f"proxy.server_names = ['{'a' * 46}', 'example.com', '*.example.com', 'www.example.com']",
        "server = { access_log = 'text', access_log_format = '%a' }",
        "server.access_log = 'journal'",
    ],
)
def test_what_just_fits_is_accepted(more: str) -> None:
    assert found(more) == []


@pytest.mark.parametrize(
    "more",
    [
        "timeouts = { request = 60, drain = 64.999 }",
        "timeouts = { drain = 45, stop = 49.999 }",
        "server.keepalive = 5",
        "proxy.body_size = 1048577\nserver.body_limit = '1M'",
        f"listen.directory = '/{'x' * (SUN_PATH + 1 - len('//4.sock'))}'",
        f"listen.directory = '/{'x' * (SUN_PATH + 1 - len('//10.sock'))}'\ninstances = 10",
        "listen.port = 65533",
        "listen.port = 65535\ninstances = 2",
        f"proxy.server_names = ['{'a' * 47}']",
        "directory = '/home'",
        "listen.directory = '/dev/shm'",
        "sandbox.writable = ['/srv/shop', '/srv/shop']\nservice.user = 'shop'",
    ],
)
def test_what_just_does_not_fit_is_refused(more: str) -> None:
    assert len(found(more)) == 1


def test_a_warning_alone_refuses_nothing() -> None:
    (warning,) = found("service.environment.API_KEY = 'x'")
    assert warning.severity == "warning"
    assert str(warning).startswith("t.toml:3:31: warning: API_KEY looks like a secret")


def test_one_run_reports_what_is_wrong_with_keys_and_between_keys() -> None:
    problems = found("timeouts.stop = 1\nserver.loop = 'x'\nservice.nothing = 1\nlisten.address = '::1'")
    assert [problem.at.line for problem in problems] == [3, 4, 5, 6]


def test_a_wrong_value_is_not_reported_again_by_the_rules_about_it() -> None:
    assert [problem.at.line for problem in found("server.keepalive = 'x'\nproxy.keepalive = 80")] == [3]
    assert [problem.at.line for problem in found("timeouts = { request = 'x', drain = 1 }")] == [3]


def test_problems_come_in_the_order_of_the_file() -> None:
    problems = found("[proxy]\nkind = 'x'\n[server]\nkeepalive = 1\nloop = 'x'\n[sandbox]\nzzz = 1\n")
    assert [problem.at.line for problem in problems] == [4, 6, 7, 9]
    error = ProblemsError(*reversed(problems))
    assert list(error.problems) == problems
    assert str(error).count("\n") == 3
