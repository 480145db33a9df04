"""The Debian packages: how they are built, and what the debhelper sequence does with a packager's."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.container.debs import BuildError, build, packed
from tests.container.hello import DEPLOYMENT, HELLO, tools
from tests.tools import require

LINTIAN = "lintian --no-cfg --info --pedantic --fail-on=error,warning,info,pedantic --allow-root"


def contents(deb: Path) -> list[str]:
    lines = subprocess.run(("dpkg-deb", "--contents", deb), capture_output=True, text=True, check=True).stdout
    return [line.split()[5].removeprefix(".") for line in lines.splitlines() if not line.endswith("/")]


def script(deb: Path, name: str) -> str:
    shown = subprocess.run(("dpkg-deb", "--info", deb, name), capture_output=True, text=True, check=False)
    return shown.stdout


def field(deb: Path, name: str) -> str:
    return subprocess.run(("dpkg-deb", "--field", deb, name), capture_output=True, text=True, check=True).stdout.strip()


def of(debs: Path, name: str) -> Path:
    return next(debs.glob(f"{name}_*.deb"))


def test_two_builds_have_the_same_bytes(debs: Path, tmp_path: Path) -> None:
    """At another time, in another directory, with another umask, time zone and number of processors."""
    other = {"TZ": "Pacific/Kiritimati", "DEB_BUILD_OPTIONS": "parallel=7 nocheck", "LANGUAGE": "de"}
    command = "umask 027; dpkg-buildpackage --no-sign"
    sources = (debs / "sources.tar").read_bytes()
    build(sources, tmp_path, where="/somewhere/else/aiosystemd", environment=other, command=command)
    names = {path.name for path in tmp_path.iterdir() if path.suffix in (".deb", ".xz", ".dsc")}
    assert len(names) == 6
    assert [name for name in names if (tmp_path / name).read_bytes() != (debs / name).read_bytes()] == []


def test_lintian_finds_nothing(debs: Path, tmp_path: Path) -> None:
    files = {path.name: path for path in debs.iterdir() if path.name.startswith(("aio", "python3-", "dh-"))}
    said = build(packed(files), tmp_path, command=f"{LINTIAN} *.changes")
    assert said == ""


def test_instances_need_no_library_of_the_tool(debs: Path) -> None:
    assert not re.findall("pydantic|rich|tomlkit|typer", field(of(debs, "python3-aiosystemd"), "Depends"))
    assert len(re.findall("pydantic|rich|tomlkit|typer", field(of(debs, "aiosystemd"), "Depends"))) == 4


def test_package_has_what_its_deployment_needs(debs: Path) -> None:
    site = of(debs, "hello-site")
    assert {"/etc/aiosystemd/hello.toml", "/usr/share/hello-site/hello.py"} <= {*contents(site)}
    assert script(site, "conffiles") == "/etc/aiosystemd/hello.toml\n"
    assert field(site, "Depends") == "aiosystemd (>= 0.1.0~), nginx"
    for name in ("postinst", "prerm", "postrm"):
        assert "hello" in script(site, name)
        assert "#NAME#" not in script(site, name)
    assert not [path for path in contents(site) if "systemd/system" in path or "nginx" in path]


def test_package_without_a_deployment_is_left_alone(debs: Path) -> None:
    data = of(debs, "hello-data")
    assert [name for name in ("postinst", "prerm", "postrm", "conffiles") if script(data, name)] == []
    assert "aiosystemd" not in field(data, "Depends")


def packager(debs: Path, directory: Path, **changed: str) -> str:
    """Build hello-site with other files; return what was said."""
    return build(packed({**HELLO, **changed}), directory, debs=tools(debs))


def test_wrong_deployment_file_fails_the_build_with_its_line(debs: Path, tmp_path: Path) -> None:
    file = "debian/hello-site.aiosystemd.toml"
    wrong = DEPLOYMENT.replace("directory", "instances = 0\ndirektory")
    with pytest.raises(BuildError) as failed:
        packager(debs, tmp_path, **{file: wrong})
    said = str(failed.value)
    assert f"{file}:3:13: " in said
    assert f"{file}:4:1: " in said
    assert not list(tmp_path.glob("*.deb"))


def test_package_behind_haproxy_needs_it(debs: Path, tmp_path: Path) -> None:
    behind = DEPLOYMENT.replace("[proxy]", '[proxy]\nkind = "haproxy"')
    packager(debs, tmp_path, **{"debian/hello-site.aiosystemd.toml": behind})
    assert field(of(tmp_path, "hello-site"), "Depends") == "aiosystemd (>= 0.1.0~), haproxy"


def test_what_no_postinst_could_apply_fails_the_build(debs: Path, tmp_path: Path) -> None:
    file = "debian/hello-site.aiosystemd.toml"
    with pytest.raises(BuildError) as failed:
        packager(debs, tmp_path, **{file: f'{DEPLOYMENT}\n[server]\nkind = "gunicorn"\n'})
    assert f"{file}: gunicorn's workers, and instances on one port" in str(failed.value)


def test_package_may_have_two_deployments_and_without_a_proxy_needs_no_nginx(debs: Path, tmp_path: Path) -> None:
    alone = DEPLOYMENT.replace('server_names = ["hello.test"]', 'kind = "none"')
    files = {
        "debian/hello-site.aiosystemd.toml": alone,
        "debian/hello-site.second.aiosystemd.toml": alone.replace('"hello"', '"world"'),
        "debian/rules": f"{HELLO['debian/rules']}\nexecute_after_dh_aiosystemd:\n\tdh_aiosystemd --name=second\n",
    }
    packager(debs, tmp_path, **files)
    site = of(tmp_path, "hello-site")
    assert field(site, "Depends") == "aiosystemd (>= 0.1.0~)"
    assert script(site, "conffiles") == "/etc/aiosystemd/hello.toml\n/etc/aiosystemd/world.toml\n"
    assert re.findall("aiosystemd apply (.*) --yes --renew", script(site, "postinst")) == ["hello", "world"]


def test_piuparts_finds_nothing_of_ours_after_a_purge(debs: Path, debian: Path, tmp_path: Path) -> None:
    ours = [path for path in sorted(debs.glob("*.deb")) if not path.name.startswith("hello")]
    # nginx-common's own postrm leaves them, and nginx runs in this tree to make them.
    options = ("--no-eatmydata", "--ignore-regex=/var/lib/nginx(/.*)?", f"--tmpdir={tmp_path}", "--distribution=trixie")
    command = (require("piuparts"), f"--existing-chroot={debian}", *options, *map(str, ours))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, "\n".join(line for line in done.stdout.splitlines() if "DEBUG" not in line)
