"""From ``MODULE:ATTRIBUTE`` to an application, with an exact message for whatever can go wrong."""

import importlib
import inspect
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType

from aiohttp import web

from aiosystemd.runtime.errors import StartError
from aiosystemd.runtime.tracebacks import raised_in_user_code, summary

Factory = Callable[..., object]
Loaded = web.Application | Awaitable[object]


def load(target: str, arguments: tuple[str, ...]) -> Loaded:
    """Return the application that ``target`` names, or the awaitable of a coroutine factory.

    Raises:
        StartError: caused by the user's own exception where there is one.

    """
    module_name, attribute = _split(target)
    _search_current_directory()
    found = _attribute(_module(module_name), attribute)
    if isinstance(found, web.Application):
        if arguments:
            raise StartError(
                f'"{target}" is an application and takes no arguments, but was given: {" ".join(arguments)}'
            )
        return found
    if not callable(found):
        raise StartError(f'"{target}" is {_a(found)}, not an aiohttp.web.Application or a function that returns one')
    return _made(target, found, arguments)


async def resolve(target: str, loaded: Loaded) -> web.Application:
    """Return the application, after running a coroutine factory in the serving loop.

    Raises:
        StartError: when the factory raises or returns something else.

    """
    if isinstance(loaded, web.Application):
        return loaded
    try:
        made = await loaded
    except Exception as error:
        raise StartError(f'"{target}" failed: {summary(error)}') from error
    return _checked(target, made)


def _split(target: str) -> tuple[str, str]:
    module, _, attribute = target.partition(":")
    names = [*module.split("."), *attribute.split(".")]
    if not all(name.isidentifier() for name in names):
        raise StartError(f'"{target}" is not MODULE:ATTRIBUTE (such as my_app_module:my_web_app)')
    return module, attribute


def _search_current_directory() -> None:
    """Put the current directory first, as ``python -m`` and gunicorn do."""
    # "/" is where systemd starts a service without WorkingDirectory=: nobody keeps modules there on purpose.
    current = str(Path.cwd())
    if current != "/" and current not in sys.path[:1]:
        sys.path.insert(0, current)


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if raised_in_user_code(error):
            raise StartError(f'importing "{name}" failed: {summary(error)}') from error
        raise StartError(
            f'no module named "{error.name}" (looked in {Path.cwd()} and on the path of {sys.executable})'
        ) from None
    except Exception as error:
        raise StartError(f'importing "{name}" failed: {summary(error)}') from error


def _attribute(module: ModuleType, dotted: str) -> object:
    found: object = module
    for name in dotted.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            where = f'module "{module.__name__}"' if found is module else f'{_a(found)} in "{module.__name__}"'
            raise StartError(f'{where} has no attribute "{name}"{_nearest(name, found)}') from None
        except Exception as error:
            raise StartError(f'"{name}" of {_a(found)} failed: {summary(error)}') from error
    return found


def _nearest(name: str, found: object) -> str:
    import difflib  # noqa: PLC0415  (only for an error)

    close = difflib.get_close_matches(name, dir(found), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


def _made(target: str, factory: Factory, arguments: tuple[str, ...]) -> Loaded:
    parameters = _parameters(target, factory, arguments)
    try:
        made = factory(*parameters)
    except Exception as error:
        raise StartError(f'"{target}" failed: {summary(error)}') from error
    return made if inspect.isawaitable(made) else _checked(target, made)


def _parameters(target: str, factory: Factory, arguments: tuple[str, ...]) -> tuple[list[str], ...]:
    """Return what to call ``factory`` with: nothing, or the list of arguments as ``python -m aiohttp.web`` does."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # a builtin that does not tell
        parameters = {}.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(required) > 1 or required != [p.name for p in positional][: len(required)]:
        raise StartError(f'"{target}" needs {", ".join(required)}; a factory takes nothing, or one list of arguments')
    if arguments and not positional:
        raise StartError(f'"{target}" takes no arguments, but was given: {" ".join(arguments)}')
    return (list(arguments),) if required or arguments else ()


def _checked(target: str, made: object) -> web.Application:
    if isinstance(made, web.Application):
        return made
    raise StartError(f'"{target}" is a function that returned {_type(made)}, not aiohttp.web.Application')


def _type(value: object) -> str:
    return "None" if value is None else type(value).__qualname__


def _a(value: object) -> str:
    kind = "module" if isinstance(value, ModuleType) else _type(value)
    return kind if value is None else f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"
