"""gunicorn's settings, and what each means for instances that systemd starts."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from aiosystemd.migrate import roles
from aiosystemd.migrate.found import Draft, Setting
from aiosystemd.migrate.roles import Role
from aiosystemd.migrate.target import take_named, target

_SWITCHES: Final = frozenset(
    "reload spew check_config print_config preload_app sendfile reuse_port daemon initgroups "
    "disable_redirect_access_to_syslog capture_output syslog enable_stdio_inheritance suppress_ragged_eofs "
    "do_handshake_on_connect permit_obsolete_folding strip_header_spaces permit_unconventional_http_method "
    "permit_unconventional_http_version casefold_http_method enable_backlog_metric control_socket_disable".split()
)
"""Settings whose option on the command line takes no value."""

_OPTIONS: Final[Mapping[str, str]] = {
    "-c": "config", "-b": "bind", "-w": "workers", "-k": "worker_class", "-t": "timeout", "-D": "daemon",
    "-e": "raw_env", "--env": "raw_env", "-p": "pidfile", "--pid": "pidfile", "-u": "user", "-g": "group",
    "-m": "umask", "-R": "enable_stdio_inheritance", "-n": "proc_name", "--name": "proc_name",
    "--keep-alive": "keepalive", "--access-logfile": "accesslog", "--access-logformat": "access_log_format",
    "--error-logfile": "errorlog", "--log-file": "errorlog", "--log-level": "loglevel", "--log-config": "logconfig",
    "--log-config-json": "logconfig_json", "--log-syslog-to": "syslog_addr", "--log-syslog": "syslog",
    "--log-syslog-prefix": "syslog_prefix", "--log-syslog-facility": "syslog_facility", "--preload": "preload_app",
    "--no-sendfile": "sendfile", "--paster": "paste", "--paste-global": "raw_paste_global_conf",
    "--proxy-allow-from": "proxy_allow_ips", "--reload-extra-file": "reload_extra_files",
    "--limit-request-field_size": "limit_request_field_size", "--no-control-socket": "control_socket_disable",
}  # fmt: skip
"""Options of gunicorn's command line that are not called as their setting is."""


EITHER_LOOP: Final = "aiohttp.GunicornWebWorker or aiohttp.GunicornUVLoopWebWorker"
"""A worker class that is chosen when the file runs, as by whether uvloop is installed."""


def _worker_class(draft: Draft, setting: Setting) -> None:
    if setting.value == EITHER_LOOP:
        draft.replaced(setting, 'instances take the place of workers; server.loop = "auto" takes uvloop if it is there')
        return
    says = "uvloop, as the worker class had it" if "UVLoop" in setting.value else "the worker class had no uvloop"
    loop = "uvloop" if "UVLoop" in setting.value else "asyncio"
    draft.change(setting, ("server", "loop"), loop, f"instances take the place of workers; {says}")


def _workers(draft: Draft, setting: Setting) -> None:
    processes, workers = draft.values.get(("instances",)), roles.number(setting.value)
    if setting.value == CPUS:
        draft.change(setting, ("instances",), "auto", "one per CPU: an event loop keeps one busy")
    elif isinstance(processes, int) and processes > 1 and workers:
        says = f"{processes} processes with {workers} workers each"
        draft.combine(setting, ("instances",), processes * workers, says)
    else:
        roles.instances(draft, setting)


def _timeout(draft: Draft, setting: Setting) -> None:
    given = roles.seconds(setting.value)
    if given is None:
        draft.drop(setting, "not a number of seconds: set timeouts.watchdog")
    else:
        says = "a blocked event loop, which is what it meant to aiohttp's worker; 0 is never"
        draft.change(setting, ("timeouts", "watchdog"), given, says)


def _keepalive(draft: Draft, setting: Setting) -> None:
    given = roles.seconds(setting.value)
    if given is None:
        draft.drop(setting, "not a number of seconds: set server.keepalive")
    elif given < 75:  # noqa: PLR2004 (nginx's keepalive_timeout of an upstream is 60 s, and a margin)
        if given:
            draft.warn(setting, "a proxy that keeps connections longer gets some of them closed under a request: a 502")
        draft.replaced(setting, "75 s, which is longer than the proxy keeps them (server.keepalive)")
    else:
        draft.keep(setting, ("server", "keepalive"), given)


def _access_log(draft: Draft, setting: Setting) -> None:
    if setting.value in {"", "None", "/dev/null"}:
        draft.replaced(setting, "off is the default: the proxy keeps an access log")
    else:
        draft.change(setting, ("server", "access_log"), "text", "to the journal, whatever file it was")


def _access_log_format(draft: Draft, setting: Setting) -> None:
    if "%(" in setting.value:
        draft.warn(setting, "aiohttp's worker refuses gunicorn's own notation, %(name)s, and does not start")
        draft.drop(setting, "write it in aiohttp's notation: server.access_log_format")
    else:
        draft.keep(setting, ("server", "access_log_format"), setting.value)


def _forwarded(draft: Draft, setting: Setting) -> None:
    if "*" in setting.value:
        draft.warn(setting, "anyone who reaches the port may say which address he has")
    draft.replaced(setting, "the proxy is believed, and nobody else (server.forwarded)")


def _umask(draft: Draft, setting: Setting) -> None:
    if setting.value in {"0", "00", "000", "0o0"}:
        draft.warn(setting, "files and sockets that everyone may write")
    draft.drop(setting, "the sockets' mode is listen.mode, of files UMask= in service.directives")


def _environment(draft: Draft, setting: Setting) -> None:
    for line in setting.value.splitlines() or [""]:
        name, _, value = line.partition("=")
        roles.variable(draft, setting, name, value)


def _name(draft: Draft, setting: Setting) -> None:
    draft.name = draft.name or setting.value
    draft.keep(setting, ("name",), setting.value)


def _certificate(key: str) -> Role:
    def role(draft: Draft, setting: Setting) -> None:
        draft.change(setting, ("proxy", "tls", key), setting.value, "the proxy speaks TLS, instances do not")

    return role


def _development(draft: Draft, setting: Setting) -> None:
    if roles.is_true(setting.value):
        draft.warn(setting, "is for development: a file that changes restarts every worker at once")
    draft.drop(setting, "a new version is put in place by aiosystemd rollout")


def _pythonpath(draft: Draft, setting: Setting) -> None:
    value = setting.value.replace(",", ":")
    draft.change(setting, ("service", "environment", "PYTHONPATH"), value, "the interpreter's own variable")


def _application(draft: Draft, setting: Setting) -> None:
    target(draft, setting, setting.value, attribute="application")


_LISTS: Final = frozenset({"", "bind", "raw_env"})
CPUS: Final = "multiprocessing.cpu_count()"
"""How the number of CPUs is spelt, whatever was computed with it."""

_OWN: Final = "of gunicorn's own HTTP server, which aiohttp's worker does not use"
_MASTER: Final = "a hook of gunicorn's processes: on_startup and cleanup_ctx of the application, for each instance"
_NO_MASTER: Final = "there is no master process; systemd starts each instance"

SETTINGS: Final[Mapping[str, Role | str]] = {
    **dict.fromkeys(
        "limit_request_line limit_request_fields limit_request_field_size permit_obsolete_folding strip_header_spaces "
        "permit_unconventional_http_method permit_unconventional_http_version casefold_http_method forwarder_headers "
        "header_map proxy_protocol proxy_allow_ips protocol uwsgi_allow_ips http_protocols http2_cleartext "
        "http2_max_concurrent_streams http2_initial_window_size http2_max_frame_size http2_max_header_list_size "
        "http_parser asgi_loop asgi_lifespan asgi_disconnect_grace_period websocket_max_message_size root_path "
        "secure_scheme_headers sendfile threads worker_connections tmp_upload_dir".split(),
        _OWN,
    ),
    **dict.fromkeys(
        "on_starting on_reload when_ready pre_fork post_fork post_worker_init worker_int worker_abort pre_exec "
        "pre_request post_request child_exit worker_exit nworkers_changed on_exit on_dirty_starting dirty_post_fork "
        "dirty_worker_init dirty_worker_exit dirty_apps dirty_workers dirty_timeout dirty_threads "
        "dirty_graceful_timeout".split(),
        _MASTER,
    ),
    **dict.fromkeys(
        "preload_app reuse_port daemon pidfile worker_tmp_dir initgroups reload_engine reload_extra_files spew "
        "check_config print_config default_proc_name control_socket control_socket_mode control_socket_disable "
        "enable_backlog_metric paste raw_paste_global_conf".split(),
        _NO_MASTER,
    ),
    **dict.fromkeys(
        "errorlog loglevel capture_output logger_class logconfig logconfig_dict logconfig_json syslog_addr syslog "
        "syslog_prefix syslog_facility enable_stdio_inheritance disable_redirect_access_to_syslog".split(),
        f"{roles.JOURNAL}; what it logs is its own affair",
    ),
    **dict.fromkeys("statsd_host dogstatsd_tags statsd_prefix".split(), "statistics are in aiosystemd status"),
    **dict.fromkeys(
        "ssl_context ssl_version cert_reqs ca_certs suppress_ragged_eofs do_handshake_on_connect ciphers".split(),
        "the proxy speaks TLS, with settings of its own",
    ),
    **dict.fromkeys(
        ("max_requests", "max_requests_jitter"), "no instance ends by count; service.memory_max ends one that leaks"
    ),
    "config": "its settings are here if that file was named too",
    "wsgi_app": _application,
    "bind": roles.bind,
    "backlog": roles.whole(("listen", "backlog")),
    "workers": _workers,
    "worker_class": _worker_class,
    "timeout": _timeout,
    "graceful_timeout": roles.drain,
    "keepalive": _keepalive,
    "reload": _development,
    "chdir": roles.directory,
    "raw_env": _environment,
    "user": roles.user,
    "group": roles.group,
    "umask": _umask,
    "forwarded_allow_ips": _forwarded,
    "accesslog": _access_log,
    "access_log_format": _access_log_format,
    "proc_name": _name,
    "pythonpath": _pythonpath,
    "keyfile": _certificate("key"),
    "certfile": _certificate("certificate"),
}


def options(command: Setting, words: Iterable[str]) -> Iterator[Setting]:
    """Yield the settings of a command line; the application is called ``wsgi_app``, a word behind it ``""``."""
    rest, app = list(words), False
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            yield Setting(command.at, "" if app else "wsgi_app", word)
            app = True
            continue
        option, equals, value = _split(word)
        name = _setting_of(option)
        if equals or name in _SWITCHES:
            yield Setting(command.at, name, value if equals else "true")
        elif name in SETTINGS:
            yield Setting(command.at, name, rest.pop(0) if rest else "")
        else:
            yield Setting(command.at, option)


def _split(word: str) -> tuple[str, str, str]:
    if word.startswith("--"):
        return word.partition("=")
    return (word[:2], "=", word[2:].removeprefix("=")) if len(word) > len("-w") else (word, "", "")


def _setting_of(option: str) -> str:
    return _OPTIONS.get(option) or re.sub("-", "_", option.removeprefix("--"))


def arguments(setting: Setting, text: str) -> Iterator[Setting]:
    """Yield the settings of ``GUNICORN_CMD_ARGS``."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    for each in options(setting, words):
        yield Setting(each.at, each.name, each.value)


def serve(draft: Draft, settings: Iterable[Setting], *, unread: str = "") -> None:
    """Make a deployment of gunicorn's settings, in the order in which the later one counts.

    ``unread`` is a configuration file that was not named: the worker class may stand there.
    """
    settings = _counting(draft, settings)
    for each in settings:
        if each.name not in SETTINGS and each.value.startswith("aiohttp."):
            draft.warn(each, f"gunicorn knows no {each.name} and ignores it, so it would not start aiohttp's worker")
            draft.change(each, ("server", "loop"), "uvloop" if "UVLoop" in each.value else "asyncio", "as was meant")
    roles.apply(draft, (each for each in settings if not _meant(each)), SETTINGS, "gunicorn")
    named = [each for each in settings if each.name == "worker_class"]
    if not any(_meant(each) for each in settings) and not (named and named[-1].value.startswith("aiohttp.")):
        draft.leave(_other_worker(named, unread))
    if not any(each.name == "bind" for each in settings):
        draft.bound.append("127.0.0.1:8000")  # its default
    if ("app",) not in draft.values:
        take_named(draft)
    if ("app",) not in draft.values:
        draft.leave("no application is named: say which with --app MODULE:ATTRIBUTE")


def _counting(draft: Draft, settings: Iterable[Setting]) -> list[Setting]:
    """Return the settings that count: of a name that is set again the last one, unless it is a list."""
    settings = list(settings)
    last = {each.name: each for each in settings}
    for each in settings:
        if each.name not in _LISTS and each is not last[each.name]:
            draft.drop(each, f"{last[each.name].place} sets it again, and that one counts")
    return [each for each in settings if each.name in _LISTS or each is last[each.name]]


def _meant(setting: Setting) -> bool:
    return setting.name not in SETTINGS and setting.value.startswith("aiohttp.")


def _other_worker(named: list[Setting], unread: str) -> str:
    if unread and not named:
        return f"its worker class is in {unread}: name that file too"
    if not named:
        return "no worker class of aiohttp's is named: gunicorn serves a WSGI application then (Django, Flask, …)"
    kind = named[-1].value
    served = "an ASGI application" if "uvicorn" in kind or "asgi" in kind else "a WSGI application (Django, Flask, …)"
    return f"gunicorn serves {served} with workers of class {kind}, no aiohttp application"
