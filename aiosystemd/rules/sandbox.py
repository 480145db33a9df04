"""What the sandbox shows and lets write."""

from collections.abc import Iterator

from aiosystemd.model import Deployment
from aiosystemd.rules.rule import KeyPath, Violation, is_under, rule


def _read_paths(d: Deployment) -> Iterator[tuple[KeyPath, str]]:
    """Paths that the application itself must reach once the sandbox is up."""
    if d.directory:
        yield ("directory",), d.directory
    yield ("python",), d.python
    for index, path in enumerate(d.sandbox.writable):
        yield ("sandbox", "writable", index), path


@rule
def _sandbox_shows_its_paths(d: Deployment) -> Iterator[Violation]:
    """``directory``, ``python`` and ``sandbox.writable`` are where the sandbox lets the application see them."""
    for key, path in _read_paths(d):
        if not d.sandbox.home and is_under(path, "/home", "/root", "/run/user"):
            # systemd.exec(5), ProtectHome=: these three are made inaccessible and empty.
            hint = f"move it, as to /srv/{d.name}, or set sandbox.home = true"
            yield Violation((key,), f"{path} is in a home directory, which the sandbox hides", hint)
        if not d.sandbox.shared_tmp and is_under(path, "/tmp", "/var/tmp"):  # noqa: S108 (a rule about them)
            hint = f"move it, as to /srv/{d.name}, or set sandbox.shared_tmp = true"
            yield Violation((key,), f"{path} is in a directory of which instances get an empty one of their own", hint)
        if is_under(path, "/dev", "/proc", "/sys"):
            yield Violation((key,), f"{path} is in a file system of the kernel", "use another directory")


_SYSTEM_TREES = ("/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/root", "/sbin", "/usr")
_SYSTEM_DIRECTORIES = frozenset(
    "/ /home /media /mnt /opt /run /srv /tmp /var /var/backups /var/cache /var/lib /var/lock /var/log /var/mail "
    "/var/opt /var/run /var/spool /var/tmp /var/www".split()
)


@rule
def _writable_paths(d: Deployment) -> Iterator[Violation]:
    """``sandbox.writable`` needs ``service.user``, and directories of the application's own."""
    state = f"/var/lib/{d.name}"
    for index, path in enumerate(d.sandbox.writable):
        key = ("sandbox", "writable", index)
        if is_under(path, state, f"/var/lib/private/{d.name}"):
            yield Violation((key,), f"{path} is in the state directory", "remove it: that is writable anyway")
        elif d.dynamic_user:
            hint = f"set service.user, or write to $STATE_DIRECTORY ({state})"
            yield Violation((key, ("service", "user")), f"a dynamic user cannot own {path}", hint)
        elif path in _SYSTEM_DIRECTORIES or is_under(path, *_SYSTEM_TREES):
            yield Violation((key,), f"{path} belongs to the whole system", "name a directory of the application's own")
        if path in d.sandbox.writable[:index]:
            yield Violation((key,), f"{path} is named twice", "remove one")


@rule
def _shared_tmp_needs_a_static_user(d: Deployment) -> Iterator[Violation]:
    """``sandbox.shared_tmp`` needs ``service.user``."""
    # systemd.exec(5), DynamicUser=: PrivateTmp= is implied and cannot be turned off, since the user's number is reused.
    if d.sandbox.shared_tmp and d.dynamic_user:
        concerns = (("sandbox", "shared_tmp"), ("service", "user"), ("service", "dynamic_user"))
        yield Violation(concerns, "a dynamic user always has a /tmp of its own", "set service.user, or remove it")


@rule
def _addresses_need_a_network(d: Deployment) -> Iterator[Violation]:
    """``sandbox.addresses`` needs ``sandbox.network`` to be ``"outbound"``."""
    if d.sandbox.addresses and d.sandbox.network == "none":
        hint = 'remove them, or set sandbox.network = "outbound"'
        yield Violation((("sandbox", "addresses"),), "addresses are allowed, but no network", hint)
