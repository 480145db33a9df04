"""``python -m aiosystemd.runtime.introspection SECONDS MODULE:ATTRIBUTE [ARGUMENT]...``: an application, of itself.

Prints a JSON document: its static routes, those of its routes that are websockets or streams, and the largest body it
takes; or what keeps it from being imported. It is imported and made as a start does, and no hook of its start is run.
"""

import asyncio
import faulthandler
import functools
import inspect
import json
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from urllib.parse import unquote

from aiosystemd.runtime.errors import StartError

if TYPE_CHECKING:
    from aiohttp import web

Kind: TypeAlias = Literal["websocket", "stream", ""]

_DEPTH: Final = 3
"""Functions that are looked at behind a handler, each called by the one before."""
_STREAMS: Final = frozenset({"StreamResponse", "EventSourceResponse", "sse_response"})
"""aiohttp's, and what aiohttp-sse makes of it."""
_LIBRARIES: Final = tuple(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def main(argv: Sequence[str]) -> None:
    """Print what the application that ``argv`` names says of itself, and end the process."""
    answer = os.dup(1)
    os.dup2(2, 1)  # what the application prints, or a library of its in C, must not stand in the answer
    limit, target, *arguments = argv
    with os.fdopen(answer, "w", encoding="utf-8") as stream:
        json.dump(_told(float(limit), target, tuple(arguments)), stream)
    os._exit(0)  # threads that the import has started must not keep it


def _told(limit: float, target: str, arguments: tuple[str, ...]) -> dict[str, object]:
    try:
        return _facts(_made(limit, target, arguments))
    except StartError as error:
        return _failure(str(error), error.__cause__)
    except BaseException as error:  # noqa: BLE001 (such as SystemExit; whatever it is, it is the answer)
        return _failure(f'making "{target}" failed: {type(error).__name__}: {error}', error)


def _made(limit: float, target: str, arguments: tuple[str, ...]) -> "web.Application":
    try:
        from aiosystemd.runtime import importer  # noqa: PLC0415 (an environment without aiohttp is an answer too)
    except ModuleNotFoundError as error:
        raise StartError(f"{error.name} is not installed for {sys.executable}") from None
    # A thread of its own, which works while the interpreter's lock is held; the stack shows what the import waits for.
    faulthandler.dump_traceback_later(limit, exit=True)
    return asyncio.run(importer.resolve(target, importer.load(target, arguments)))


def _failure(what: str, error: BaseException | None) -> dict[str, object]:
    file, line = _place(error) if error else ("", 0)
    return {"failure": " ".join(what.split()), "file": file, "line": line}


def _place(error: BaseException) -> tuple[str, int]:
    """Return the innermost line that the application itself may have written."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno or 0
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if os.path.isabs(frame.filename)]  # noqa: PTH117
    own = [frame for frame in frames if _is_own(frame.filename)]
    return (own[-1].filename, own[-1].lineno or 0) if own else ("", 0)


def _is_own(filename: str) -> bool:
    return not filename.startswith((*_LIBRARIES, os.path.dirname(__file__))) and "-packages/" not in filename  # noqa: PTH120


def _facts(application: "web.Application") -> dict[str, object]:
    from aiohttp import web  # noqa: PLC0415

    static: list[dict[str, object]] = []
    routes: list[dict[str, object]] = []
    for resource in _resources(application):
        path = unquote(resource.canonical)
        if isinstance(resource, web.StaticResource):
            static.append({"prefix": path, "directory": str(resource.get_info()["directory"])})
            continue
        for route in resource:
            if kind := _kind(route.handler):
                file, line = _written(route.handler)
                routes.append({"path": path, "kind": kind, "file": file, "line": line})
    # aiohttp has no other name for it; a route below a sub-application has the limit of the outermost one.
    return {"static": static, "routes": routes, "body_limit": application._client_max_size}  # noqa: SLF001


def _resources(application: "web.Application") -> "Iterator[web.AbstractResource]":
    for resource in application.router.resources():
        if inner := resource.get_info().get("app"):
            yield from _resources(inner)
        else:
            yield resource


def _kind(handler: object) -> Kind:
    """Return what a handler answers with, as far as the names in its code and in what it calls tell."""
    kinds = {kind for function in _functions(handler, 0) for kind in _named(function)}
    return "websocket" if "websocket" in kinds else "stream" if "stream" in kinds else ""


def _functions(handler: object, depth: int) -> Iterator[FunctionType]:
    """Yield the application's own functions behind a handler, the first one first: views, wrappers, what each calls."""
    if depth > _DEPTH:
        return
    if isinstance(handler, functools.partial):
        yield from _functions(handler.func, depth)
    elif isinstance(handler, type):
        for _, method in inspect.getmembers(handler, inspect.isfunction):
            yield from _functions(method, depth + 1) if _is_own(method.__code__.co_filename) else ()
    elif isinstance(handler, MethodType):
        yield from _functions(handler.__func__, depth)
        yield from _methods(handler, depth)
    elif isinstance(handler, FunctionType):
        if _is_own(handler.__code__.co_filename):
            yield handler
        for each in _behind(handler):
            yield from _functions(each, depth + 1)
    elif isinstance(call := getattr(type(handler), "__call__", None), FunctionType):  # noqa: B004 (it is looked into)
        yield from _functions(MethodType(call, handler), depth)


def _methods(handler: MethodType, depth: int) -> Iterator[FunctionType]:
    """Yield the methods of the same object that a method calls."""
    for name in _names(handler.__func__.__code__) if isinstance(handler.__func__, FunctionType) else ():
        if isinstance(method := getattr(type(handler.__self__), name, None), FunctionType):
            yield from _functions(method, depth + 1)


def _behind(function: FunctionType) -> Iterator[object]:
    """Yield what a function has been wrapped around, and the functions of the application that it calls."""
    yield from (cell.cell_contents for cell in function.__closure__ or () if not _is_empty(cell))
    called = (function.__globals__.get(name) for name in _names(function.__code__))
    for each in (getattr(function, "__wrapped__", None), *called):
        if isinstance(each, FunctionType) and each is not function and _is_own(each.__code__.co_filename):
            yield each


def _is_empty(cell: object) -> bool:
    return not hasattr(cell, "cell_contents")


def _names(code: CodeType) -> set[str]:
    inner = (_names(each) for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*inner)


def _named(function: FunctionType) -> Iterator[Kind]:
    from aiohttp import web  # noqa: PLC0415

    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        if name == "WebSocketResponse" or _is_kind(value, web.WebSocketResponse):
            yield "websocket"
        elif name in _STREAMS or (_is_kind(value, web.StreamResponse) and not _is_whole(value)):
            yield "stream"


def _is_kind(value: object, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)


def _is_whole(value: object) -> bool:
    from aiohttp import web  # noqa: PLC0415

    return _is_kind(value, web.Response) or _is_kind(value, web.FileResponse)


def _written(handler: object) -> tuple[str, int]:
    found = list(_functions(handler, 0))
    if not found:
        return "", 0
    # A decorator's own function says less than the one that it stands above.
    code = inspect.unwrap(found[0]).__code__
    return code.co_filename, code.co_firstlineno


if __name__ == "__main__":
    main(sys.argv[1:])
