"""What nginx reads from its configuration equals what was put in, whatever that was."""

from collections.abc import Iterator

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiosystemd.render.nginx import TOKEN_MAX, Directive, block, directive, raw, render
from tests.render import hostile, server

PROPERTY = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))

UNSPEAKABLE = hostile.CONTROLS.translate(dict.fromkeys(map(ord, "\t\r\n")))
"""Control characters without an escape."""

WORDS = hostile.without("$" + UNSPEAKABLE)
LINES = hostile.without("$" + hostile.CONTROLS.replace("\t", "")).map(lambda value: f"x{value}x")


@settings(max_examples=50, deadline=None)
@given(st.lists(WORDS, max_size=10), st.lists(WORDS, max_size=5))
def test_arguments_reach_crossplane_unchanged(outer: list[str], inner: list[str]) -> None:
    tree = block("outer", *outer, body=[directive("inner", *inner, comment="\n".join(inner)), block("empty", body=())])
    with server.scratch() as directory:
        read = server.parse(directory, render([tree], header=outer))
    empty = server.Read("empty", (), ())
    assert read == (server.Read("outer", tuple(outer), (server.Read("inner", tuple(inner), None), empty)),)


@PROPERTY
@given(st.lists(WORDS, min_size=1, max_size=40))
def test_values_are_answered_by_nginx_unchanged(values: list[str]) -> None:
    def maps() -> Iterator[Directive]:
        for index, value in enumerate(values):
            yield block("map", raw("$host"), raw(f"$value{index}"), body=[directive("default", value)])

    answers = [
        block("location", raw("="), f"/{index}", body=[directive("return", raw("200"), raw(f"$value{index}"))])
        for index in range(len(values))
    ]
    with server.scratch() as directory, server.running(directory, answers, http=maps()) as nginx:
        assert [nginx.get(f"/{index}").body for index in range(len(values))] == values


@PROPERTY
@given(st.lists(LINES, min_size=1, max_size=20))
def test_headers_are_sent_by_nginx_unchanged(values: list[str]) -> None:
    headers = [directive("add_header", f"X-{index}", value, raw("always")) for index, value in enumerate(values)]
    answer = directive("return", raw("204"))
    with server.scratch() as directory, server.running(directory, [*headers, answer]) as nginx:
        sent = nginx.get("/").headers
    assert {f"X-{index}": value for index, value in enumerate(values)}.items() <= sent.items()


@PROPERTY
@given(st.lists(hostile.names(UNSPEAKABLE), min_size=1, max_size=20, unique=True))
def test_locations_are_the_prefixes_that_were_meant(names: list[str]) -> None:
    locations = [
        block("location", raw("^~"), f"/{name}/", body=[directive("return", raw("200"), str(index))])
        for index, name in enumerate(names)
    ]
    with server.scratch() as directory, server.running(directory, locations) as nginx:
        assert [nginx.get(f"/{name}/").body for name in names] == [str(index) for index in range(len(names))]


@PROPERTY
@given(st.lists(hostile.names("$" + UNSPEAKABLE), min_size=1, max_size=20, unique=True))
def test_directories_are_the_ones_that_were_meant(names: list[str]) -> None:
    with server.scratch() as directory:
        for name in names:
            place = directory / "static" / name
            place.mkdir(parents=True)
            (place / "file").write_text(name, newline="")
        locations = [
            block("location", f"/{index}/", body=[directive("alias", f"{directory}/static/{name}/")])
            for index, name in enumerate(names)
        ]
        with server.running(directory, locations) as nginx:
            assert [nginx.get(f"/{index}/file").body for index in range(len(names))] == names


@PROPERTY
@given(hostile.names(UNSPEAKABLE), hostile.without("$" + hostile.CONTROLS))
def test_an_upstream_is_the_socket_that_was_meant(name: str, value: str) -> None:
    with server.scratch() as directory:
        address = f"unix:{directory}/{name}.sock"
        behind = [
            block("upstream", "instances", body=[directive("server", address, raw("max_fails=0"))]),
            block("server", body=[directive("listen", address), directive("return", raw("200"), value)]),
        ]
        with server.running(directory, [_proxy()], http=behind) as nginx:
            assert nginx.get("/").body == value


def _proxy() -> Directive:
    return block("location", "/", body=[directive("proxy_pass", "http://instances")])


def test_a_server_answers_to_exactly_its_name() -> None:
    name = "a{b};c\"d'e#f\\g$host(h"
    with server.scratch() as directory:
        # The first server of an address answers to every name that no other has.
        names = {"default": "another", name: "the named"}
        servers = [_named(f"unix:{directory}/server.sock", *item) for item in names.items()]
        with server.running(directory, [directive("return", raw("404"))], http=servers) as nginx:
            assert nginx.get("/", host=name).body == "the named"
            assert nginx.get("/", host="a").body == "another"


def _named(address: str, name: str, answer: str) -> Directive:
    body = (directive("listen", address), directive("server_name", name), directive("return", raw("200"), answer))
    return block("server", body=body)


def test_an_argument_may_be_as_long_as_nginx_reads() -> None:
    # Each quoted argument begins elsewhere in nginx's buffer, and each byte counts once it is spelt.
    values = ["a " + "a" * (TOKEN_MAX - 2), ('a " ' + '"' * TOKEN_MAX)[: TOKEN_MAX // 2], "\u00e9" * (TOKEN_MAX // 2)]
    answers = [
        block("location", raw("="), f"/{index}", body=[directive("return", raw("200"), value)])
        for index, value in enumerate(values)
    ]
    with server.scratch() as directory, server.running(directory, answers) as nginx:
        assert [nginx.get(f"/{index}").body for index in range(len(values))] == values


def test_nginx_itself_refuses_what_is_refused_as_too_long() -> None:
    beyond = raw(f'"{"a" * (TOKEN_MAX + 1)}"')
    with server.scratch() as directory:
        said = server.check(directory, [block("server", body=[directive("add_header", raw("X"), beyond)])])
    assert "too long parameter" in said.stderr


def test_a_comment_is_never_too_long_for_nginx() -> None:
    with server.scratch() as directory:
        said = server.check(directory, [block("server", body=(), comment="a" * 10_000)])
    assert (said.stdout + said.stderr, said.returncode) == ("", 0)
