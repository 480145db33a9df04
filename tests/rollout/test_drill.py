"""A drill from its first request to its last, with a real nginx in front."""

import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from aiosystemd.build import Build
from aiosystemd.drill import Drill, drill
from aiosystemd.errors import ProblemsError
from aiosystemd.export.nginx import site_path, standalone
from aiosystemd.plan import plan, render
from tests.releases import APP, NO_IMPORT
from tests.rollout.conftest import NAMES, Deploy
from tests.rollout.test_rollout import interrupt
from tests.runtime.lab import eventually
from tests.tools import require
from tests.up.program import free_ports


class Site:
    """The deployment behind its proxy."""

    def __init__(self, deploy: Deploy) -> None:
        self.deploy = deploy
        self.port = free_ports()

    @property
    def built(self) -> Build:
        lines = (f'proxy.listen = ["127.0.0.1:{self.port}"]', 'proxy.server_names = ["shop.example"]')
        return self.deploy.built(*lines, "proxy.keepalive = 0.2", "timeouts.drain = 40")

    def drill(self) -> Drill:
        return drill(self.built, self.deploy.host, "/echo", 0.5, self.deploy.say)


@pytest.fixture
def site(deploy: Deploy) -> Iterator[Site]:
    site = Site(deploy)
    directory, built = deploy.directory, site.built
    tree = render(plan(built.deployment, deploy.host, "shop.toml"))
    (directory / "site.conf").write_bytes(tree[site_path(built.deployment)].content)
    configuration = standalone(PurePosixPath(directory, "site.conf"), PurePosixPath(directory), None)
    (directory / "nginx.conf").write_text(configuration.render())
    # Workers of a master run by root become nobody, who may not enter the temporary directory.
    user = ("-g", "user root;") if Path("/proc/self").stat().st_uid == 0 else ()
    argv = (require("nginx"), "-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf"), *user)
    with (directory / "nginx.log").open("wb") as log, subprocess.Popen(argv, stderr=log) as nginx:
        try:
            eventually((directory / "nginx.pid").exists)
            yield site
        finally:
            nginx.terminate()


def test_every_instance_is_reloaded_and_restarted_and_nothing_fails(site: Site) -> None:
    found = site.drill()
    assert found.status == 0
    assert [(each.name, dict(each.failures)) for each in found.phases] == [
        ("steady", {}),
        ("reload", {}),
        ("restart", {}),
    ]
    assert all(each.requests > 10 for each in found.phases)
    verbs = [command[0] for command in site.deploy.systemd.commands]
    assert verbs == ["reload"] * len(NAMES) + ["restart"] * len(NAMES)
    assert [line.split()[0] for line in found.table()] == ["phase", "steady", "reload", "restart"]
    phases = found.as_json()["phases"]
    assert isinstance(phases, list)
    assert set(phases[0]) == {"name", "requests", "failures", "failed", "p50", "p99", "max", "ratio"}


def test_answer_that_differs_from_the_undisturbed_one_is_a_failure(site: Site) -> None:
    # The new release answers well, and another thing.
    site.deploy.release(APP.replace("return web.Response(body=", "return web.Response(status=201, body="))
    found = site.drill()
    assert found.status == 1
    assert set(found.phases[1].failures) == {"POST 201"}
    assert found.phases[0].failures == {}


def test_release_that_does_not_start_ends_the_drill(site: Site) -> None:
    site.deploy.release(NO_IMPORT)
    found = site.drill()
    assert (found.status, [each.name for each in found.phases]) == (1, ["steady", "reload"])
    assert "no such luck" in found.outcome.failure


def test_site_that_does_not_answer_well_is_left_alone(site: Site) -> None:
    for instance in site.deploy.systemd.instances.values():
        instance.stop()
        assert instance.listener
        instance.listener.close()
    with pytest.raises(ProblemsError, match=r"GET through the proxy: gives 502 \(\d+ times\), with nothing going on"):
        site.drill()
    assert site.deploy.systemd.commands == []


def test_site_that_answers_now_this_now_that_is_left_alone(site: Site) -> None:
    text = "return web.Response(status=201 if time.monotonic() % 0.2 < 0.1 else 200, body="
    site.deploy.release(APP.replace("return web.Response(body=", text))
    site.drill()
    site.deploy.systemd.commands.clear()
    with pytest.raises(
        ProblemsError, match=r"POST through the proxy: gives 20\d \(\d+ times\), 20\d \(\d+ times\), with"
    ):
        site.drill()
    assert site.deploy.systemd.commands == []


def test_interruption_before_anything_is_disturbed_is_one(site: Site) -> None:
    site.deploy.when["steady"] = interrupt
    found = site.drill()
    assert (found.status, found.table(), found.as_json()["phases"]) == (130, [], [])
    assert site.deploy.systemd.commands == []


def test_interruption_in_a_phase_ends_the_drill_there(site: Site) -> None:
    site.deploy.when["shop@1: the new version serves"] = interrupt
    found = site.drill()
    assert (found.status, found.outcome.interrupted) == (130, True)
    assert site.deploy.systemd.commands == [["reload", "shop@1.service"]]


def test_without_a_proxy_there_is_nothing_to_prove(deploy: Deploy) -> None:
    built = deploy.built('proxy.kind = "none"')
    with pytest.raises(ProblemsError, match="there is no proxy that could go to another instance"):
        drill(built, deploy.host, "", 0.1, deploy.say)
