"""Command lines: which of them serve an aiohttp application, and with what."""

import re
import shlex
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from aiosystemd.migrate import aiohttp, folding, gunicorn, roles
from aiosystemd.migrate.found import Draft, Given, Setting, Text
from aiosystemd.migrate.target import guess, interpreter, take_named
from aiosystemd.migrate.words import plain, shielded

_OTHERS: Final = {
    "a worker of a queue": "celery dramatiq rq huey_consumer huey arq taskiq procrastinate saq flower airflow",
    "an ASGI server": "uvicorn hypercorn daphne granian",
    "a WSGI server": "uwsgi uwsgi-core waitress-serve chaussette flask django-admin",
    "a program of Node": "node nodejs npm npx yarn pnpm bun pm2 next",
    "a database or cache": "redis-server postgres pg_ctl mysqld mariadbd memcached mongod rabbitmq-server influxd "
    "elasticsearch clickhouse-server beanstalkd",
    "a proxy or web server": "nginx haproxy caddy apache2 httpd traefik varnishd",
    "a program of Java": "java",
    "a program of Ruby": "ruby bundle puma unicorn rails rake sidekiq",
    "a program of PHP": "php php-fpm",
}
_KIND: Final = {name: kind for kind, names in _OTHERS.items() for name in names.split()}
_MODULES: Final = {"http": "Python's own file server"}
_SHELL: Final = re.compile(r"^(\||\|\||&&|&|;|\d?>>?|\d?>&\d|<)$|`|\$\(|^~/|;$")
_ASSIGNMENT: Final = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<value>.*)", re.DOTALL | re.ASCII)
_RUNNERS: Final = {"poetry", "pipenv", "uv", "pdm", "rye", "hatch"}
_WITH_VALUE: Final = {"-W", "-X", "--check-hash-based-pycs"}
_SERVES: Final = re.compile(r"--?(path|port|socket|unix|sock|bind|host|listen|fd)\b|\.sock\b", re.IGNORECASE)


def command(draft: Draft, setting: Setting, text: str, *, given: Given, shelled: bool = False) -> None:
    """Make a deployment of a command line, ``text`` of ``setting``, or say in ``draft.left_out`` why there is none.

    ``shelled`` is whether a shell ran it.
    """
    try:
        words = shlex.split(shielded(text))
    except ValueError:
        draft.warn(setting, "a quote in it is never closed")
        draft.leave("its command cannot be read")
        draft.drop(setting, "cannot be read")
        return
    words = list(map(plain, _unwrapped(draft, setting, words, shelled=shelled)))
    if not words:
        draft.leave("it has no command")
        draft.drop(setting, "nothing to start")
        return
    draft.replaced(setting, "systemd starts the instances: app, python and arguments")
    _program(draft, setting, words, given)


def _unwrapped(draft: Draft, setting: Setting, words: list[str], *, shelled: bool) -> list[str]:
    """Return the words of the program itself, without what stands around it for a shell or another program."""
    words = _of_a_shell(draft, setting, words) if shelled else _without_shell(draft, setting, words)
    if len(words) > 2 and PurePosixPath(words[0]).name in {"sh", "bash", "dash"} and words[1] in {"-c", "-lc"}:  # noqa: PLR2004
        script = plain(words[2])
        inner = Setting(setting.at, f"{setting.name} (sh -c)", script)
        try:
            return _of_a_shell(draft, inner, shlex.split(shielded(script)))
        except ValueError:
            return []
    if words and PurePosixPath(words[0]).name == "env":
        words = list(_variables(draft, setting, words[1:]))
    while len(words) > 2 and words[0] in _RUNNERS and words[1] == "run":  # noqa: PLR2004 (poetry run PROGRAM)
        says = f"the interpreter of {words[0]}'s environment has to be named: python"
        draft.drop(Setting(setting.at, f"{setting.name} ({words[0]} run)"), says)
        words = words[2:]
    return words


def _without_shell(draft: Draft, setting: Setting, words: list[str]) -> list[str]:
    for word in words:
        if _SHELL.search(word):
            draft.warn(setting, f"no shell reads it: {plain(word)} is passed to the program as it is")
            break
    cut = next((i for i, word in enumerate(words) if _SHELL.fullmatch(word) and not word.startswith("~")), len(words))
    _cut_off(draft, setting, words[cut:])
    return words[:cut]


def _of_a_shell(draft: Draft, setting: Setting, words: list[str]) -> list[str]:
    """Return the last command of a list joined by ``&&`` or ``;``, with the directory and variables set before it."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word in {"&&", ";"}:
            parts.append([])
        elif word.endswith(";"):
            parts[-1].append(word[:-1])
            parts.append([])
        else:
            parts[-1].append(word)
    *before, last = [part for part in parts if part] or [[]]
    for part in before:
        _before(draft, setting, part)
    last = list(_variables(draft, setting, last[1:] if last[:1] == ["exec"] else last))
    last = last[1:] if last[:1] == ["exec"] else last
    cut = next((i for i, word in enumerate(last) if _SHELL.match(word) and word[0] != "~"), len(last))
    _cut_off(draft, setting, last[cut:])
    return last[:cut]


def _before(draft: Draft, setting: Setting, words: list[str]) -> None:
    match words:
        case ["cd", path]:
            roles.directory(draft, Setting(setting.at, f"{setting.name} (cd)", plain(path)))
        case ["export", *assignments] if assignments:
            list(_variables(draft, setting, assignments))
        case _:
            shown = Setting(setting.at, f"{setting.name} (before it)", shlex.join(map(plain, words)))
            draft.drop(shown, "a command before it: ExecStartPre= in service.directives, or a step of the deploy")


def _cut_off(draft: Draft, setting: Setting, words: list[str]) -> None:
    if words:
        shown = Setting(setting.at, f"{setting.name} (after it)", shlex.join(map(plain, words)))
        draft.drop(shown, f"of a shell; {roles.JOURNAL}")


def _variables(draft: Draft, setting: Setting, words: list[str]) -> Iterator[str]:
    """Keep the assignments before a program, and yield the words from the program on."""
    for index, word in enumerate(words):
        match = _ASSIGNMENT.fullmatch(word)
        if match is None:
            yield from words[index:]
            return
        roles.variable(draft, Setting(setting.at, "variable"), match["name"], plain(match["value"]))


def _program(draft: Draft, setting: Setting, words: list[str], given: Given) -> None:
    program, rest = words[0], words[1:]
    name = PurePosixPath(program).name
    if re.fullmatch(r"(python|pypy)[0-9.]*", name):
        interpreter(draft, setting, program)
        _python(draft, setting, rest, given)
    elif name == "gunicorn":
        interpreter(draft, setting, program)
        _gunicorn(draft, setting, rest, given)
    elif name == "aiosystemd-serve":
        interpreter(draft, setting, program)
        aiohttp.runtime(draft, setting, rest)
    elif name in _KIND:
        draft.leave(f"{name} is {_KIND[name]}, no aiohttp application")
    elif name.endswith(".py"):
        _script(draft, setting, program, rest, given)
    else:
        _started(draft, setting, name, rest)


def _python(draft: Draft, setting: Setting, words: list[str], given: Given) -> None:
    rest = list(words)
    while rest and rest[0].startswith("-") and not rest[0].startswith("-m") and rest[0] != "-c":
        flag = rest.pop(0)
        value = f" {rest.pop(0)}" if flag in _WITH_VALUE and rest else ""
        draft.drop(Setting(setting.at, f"{setting.name} (python {flag}{value})"), "a variable of Python's does it too")
    match rest:
        case [module, *arguments] if module.startswith("-m") and len(module) > len("-m"):
            _module(draft, setting, module[2:], arguments, given)
        case ["-m", module, *arguments]:
            _module(draft, setting, module, arguments, given)
        case ["-c", *_]:
            draft.leave("code on a command line is no module that could be imported")
        case [script, *arguments]:
            _script(draft, setting, script, arguments, given)
        case _:
            draft.leave("it starts Python and nothing with it")


def _module(draft: Draft, setting: Setting, module: str, words: list[str], given: Given) -> None:
    top = module.partition(".")[0]
    if module == "aiohttp.web":
        aiohttp.web(draft, setting, words)
    elif module == "aiosystemd.runtime":
        aiohttp.runtime(draft, setting, words)
    elif top == "gunicorn":
        _gunicorn(draft, setting, words, given)
    elif top in _KIND or top in _MODULES:
        draft.leave(f"{top} is {_KIND.get(top) or _MODULES[top]}, no aiohttp application")
    else:
        _started(draft, setting, module, words)


def _script(draft: Draft, setting: Setting, script: str, words: list[str], given: Given) -> None:
    path = PurePosixPath(script)
    if path.name == "manage.py":
        draft.leave("manage.py is Django's, no aiohttp application")
    elif path.name in _KIND:
        _program(draft, setting, [script, *words], given)
    elif path.name == "gunicorn":
        _gunicorn(draft, setting, words, given)
    else:
        if path.is_absolute() and ("directory",) not in draft.values:
            shown = Setting(setting.at, f"{setting.name} (its directory)", str(path.parent))
            draft.change(shown, ("directory",), str(path.parent), "where Python imports from when it runs a script")
        _started(draft, setting, path.stem, words)


def _started(draft: Draft, setting: Setting, module: str, words: list[str]) -> None:
    """Take a program of somebody's own for an application if it is told where to listen, and not otherwise."""
    if not draft.app and not any(_SERVES.search(word) for word in words):
        draft.leave(f"nothing says that {module} is an aiohttp application: if it is, use --app MODULE:ATTRIBUTE")
    elif not draft.app:
        guess(draft, Setting(setting.at, f"{setting.name} (module)", module))
    take_named(draft)
    for word in words:
        argument = Setting(setting.at, f"{setting.name} (argument)", word)
        if _SERVES.search(word):
            roles.bind(draft, Setting(argument.at, argument.name, word.partition("=")[2] or word))
        else:
            draft.drop(argument, "of its own server; what the application itself needs of it goes into arguments")


def _gunicorn(draft: Draft, setting: Setting, words: list[str], given: Given) -> None:
    own = list(gunicorn.options(setting, words))
    more = list(_from_environment(draft))
    named = [each for each in own + more if each.name == "config"]
    wanted = named[-1].value.removeprefix("file:") if named else "gunicorn.conf.py"
    read = _configuration(draft, wanted, given, named=bool(named))
    conf = folding.settings(read, draft) if read else []
    unread = wanted if named and not read else ""
    gunicorn.serve(draft, (*conf, *more, *own), unread=unread)
    if read is None and named:
        draft.warn(named[-1], f"{wanted} was not read: name it too, behind the other files")


def _configuration(draft: Draft, wanted: str, given: Given, *, named: bool) -> Text | None:
    """Return the file that gunicorn would read; without ``-c`` that is one in its working directory."""
    name = PurePosixPath(wanted).name
    files = [each for each in given.python if PurePosixPath(each.file).name == name]
    if not named and not given.together:
        files = [each for each in files if str(PurePosixPath(each.file).parent) == draft.values.get(("directory",))]
    return next((each for each in files if f"/{each.file}".endswith(f"/{wanted}")), next(iter(files), None))


def _from_environment(draft: Draft) -> Iterator[Setting]:
    key = ("service", "environment", "GUNICORN_CMD_ARGS")
    value, sources = draft.values.get(key), draft.sources.get(key)
    if isinstance(value, str) and sources:
        draft.without(key, "its options are gunicorn's")
        yield from gunicorn.arguments(sources[-1], value)
