"""Strategies for deployment files, made from the model itself so that no key is forgotten."""

from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from aiosystemd import load, values
from aiosystemd.model import Deployment
from aiosystemd.rules import violations
from tests.render.hostile import texts

Data = dict[str, Any]
Strategy = st.SearchStrategy[Any]


def _one_line(text: str) -> str:
    return "".join(char for char in text if not values.control_character(char))


_lines = texts.map(_one_line)


def _after(start: str, forbidden: str = "") -> Strategy:
    table = str.maketrans("", "", forbidden)
    return _lines.map(lambda text: start + text.translate(table).strip())


def _pattern(pattern: str) -> Strategy:
    return st.from_regex(pattern, fullmatch=True)


_SHAPES: Final[dict[str, Strategy]] = {
    "AbsolutePath": _after("/"),
    "Address": st.ip_addresses().map(str),
    "App": st.sampled_from(["a:b", "Ä.b:c.d"]),
    "Argument": texts,
    "Credential": _pattern(values._CREDENTIAL).map(lambda name: name[:40]),
    "CredentialPath": _after("/", " \\"),
    "DevicePath": _after("/dev/x"),
    "DirectiveName": _pattern(values._DIRECTIVE),
    "DirectiveValue": _lines,
    "EnvironmentFile": _after("/") | _after("-/"),
    "EnvironmentValue": _lines | _lines.map(lambda text: f"{text}\n\t{text}"),
    "HeaderName": _pattern(values._HEADER),
    "HeaderValue": _after("", "$"),
    "Line": _lines,
    "ListenAddress": st.sampled_from(["80", "*:8080", "127.0.0.1:80", "[::]:80", "localhost:8081"]),
    "Mode": _pattern(values._MODE),
    "Name": _pattern(values.NAME),
    "Network": st.ip_addresses().map(str) | st.just("localhost"),
    "Prefix": _after("/", "/$?#"),
    "Program": _after("/", "\"'$\\"),
    "ProxyPath": _after("/", "$"),
    "Seconds": st.decimals("0.001", 900, places=3).map(float) | st.integers(1, 604_800),
    "SecondsOrNever": st.decimals(0, 900, places=3).map(float) | st.integers(0, 604_800),
    "ServerName": _pattern(values._HOST).map(lambda name: name[:40]),
    "Size": st.integers(1, 1 << 50) | st.sampled_from(["1K", "512 MiB", "2GB"]),
    "User": _pattern(values._USER),
    "Variable": _pattern(values._VARIABLE).map(lambda name: name[:40]),
}
"""Values that are often right, by kind."""

_DIRECTIVES: Final = st.fixed_dictionaries(
    {},
    optional={
        "Nice": st.integers(-20, 19),
        "IgnoreSIGPIPE": st.booleans(),
        "ReadOnlyPaths": st.lists(st.sampled_from(["-/srv/a", '"-/srv/a b"', "-/srv/%i"]), max_size=2),
        "OOMPolicy": st.just("continue"),
    },
)
"""Real ones: which there are, only systemd knows."""

_KINDS: Final = {id(kind): name for name, kind in vars(values).items() if get_origin(kind) is Annotated}


def any_data(*, valid: bool) -> st.SearchStrategy[Data]:
    """Return what a deployment file may hold: each value right on its own, or possibly wrong."""
    return _table(Deployment, valid=valid)


def accepted() -> st.SearchStrategy[Data]:
    """Return what a deployment file may hold and every rule agrees with."""
    return any_data(valid=True).map(_without_contradictions)


def _without_contradictions(data: Data) -> Data:
    while broken := [each for each in violations(Deployment.model_validate(load._tuples(data))) if each.concerns]:
        data = load._tuples(data)
        for violation in broken:
            for concern in violation.concerns:
                if concern not in {("name",), ("app",)}:
                    load._remove(data, concern)
    return data


def _table(model: type[BaseModel], *, valid: bool) -> st.SearchStrategy[Data]:
    hints = get_type_hints(model, include_extras=True)
    required = {name for name, info in model.model_fields.items() if info.is_required()}
    keys = {name: _key(name, hints[name], valid=valid) for name in model.model_fields}
    return st.fixed_dictionaries(
        {name: keys[name] for name in required},
        optional={name: strategy for name, strategy in keys.items() if name not in required},
    )


def _key(name: str, annotation: Any, *, valid: bool) -> Strategy:
    if name == "instances":
        return st.integers(1, 3) if valid else st.integers()
    if name == "directives" and valid:
        return _DIRECTIVES
    return _strategy(annotation, valid=valid)


def _strategy(annotation: Any, *, valid: bool) -> Strategy:
    origin, arguments = get_origin(annotation), get_args(annotation)

    def inner() -> list[Strategy]:
        return [_strategy(each, valid=valid) for each in arguments if each not in (NoneType, ...)]

    if name := _KINDS.get(id(annotation)):
        return _SHAPES[name].filter(_accepts(annotation)) if valid else _SHAPES[name] | texts
    if origin is Annotated:
        return _bounded(annotation, valid=valid)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _table(annotation, valid=valid)
    simple: dict[Any, Callable[[], Strategy]] = {
        bool: st.booleans,
        int: st.integers,
        str: lambda: texts,
        Literal: lambda: st.sampled_from(arguments) if valid else st.sampled_from(arguments) | texts,
        tuple: lambda: st.lists(*inner(), max_size=3),
        dict: lambda: st.dictionaries(*inner(), max_size=3),
        Union: lambda: st.one_of(inner()),
        UnionType: lambda: st.one_of(inner()),
    }
    return simple[origin or annotation]()


def _bounded(annotation: Any, *, valid: bool) -> Strategy:
    inner = get_args(annotation)[0]
    if get_origin(inner) is tuple:
        return _strategy(inner, valid=valid).filter(lambda items: bool(items) or not valid)
    numbers = st.integers(0, 1000) if inner is int else st.integers(0, 10) | st.decimals(0, 10, places=2).map(float)
    return numbers.filter(_accepts(annotation)) if valid else st.integers() | st.floats()


def _accepts(kind: Any) -> Callable[[object], bool]:
    adapter = TypeAdapter(kind)

    def accepts(value: object) -> bool:
        try:
            adapter.validate_python(value, strict=True)
        except ValidationError:
            return False
        return True

    return accepts
