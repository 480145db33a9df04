"""What nginx's directives of TLS and HTTP/3 mean for a deployment."""

from typing import Final

from aiosystemd.migrate.nginx_place import Place, Role
from aiosystemd.migrate.nginx_syntax import Directive

_OLD: Final = frozenset({"SSLv2", "SSLv3", "TLSv1", "TLSv1.1"})


def certificate(key: str) -> Role:
    def role(place: Place, each: Directive) -> None:
        file, key_path = each.words[0], ("proxy", "tls", key)
        if file.startswith("/") and "$" not in file:
            place.draft.keep(each.setting, key_path, file)
        elif "$" in file or file.startswith(("data:", "engine:")):
            place.draft.drop(each.setting, f"not the path of one file: set proxy.tls.{key}")
        else:
            place.draft.change(each.setting, key_path, f"/etc/nginx/{file}", "from nginx's directory on")

    return role


def ssl(place: Place, each: Directive) -> None:
    if each.words == ("on",):
        place.draft.warn(
            each.setting, "nginx has no ssl directive from 1.25.1 on, and refuses it: ssl belongs to listen"
        )
    place.draft.replaced(each.setting, "proxy.tls.listen has the addresses that speak TLS")


def protocols(place: Place, each: Directive) -> None:
    if old := sorted(_OLD & set(each.words)):
        place.draft.warn(
            each.setting, f"{' and '.join(old)} can be broken, and no browser of today asks for it (RFC 8996)"
        )
    place.draft.replaced(each.setting, "TLS 1.2 and 1.3")


def quic(place: Place, each: Directive) -> None:
    """Keep HTTP/3; its addresses are those of TLS."""
    place.draft.keep(each.setting, ("proxy", "tls", "http3"), True)  # noqa: FBT003 (a value, no switch)
    if "reuseport" not in each.words:
        place.draft.keep(each.setting, ("proxy", "tls", "reuseport"), False)  # noqa: FBT003
