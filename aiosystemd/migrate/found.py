"""What was found in somebody's files, and what became of each setting of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from aiosystemd.errors import Location
from aiosystemd.render.text import visible

KeyPath = tuple[str, ...]
Value = str | int | float | bool | tuple[str, ...]
Outcome = Literal["kept", "changed", "dropped", "left out", "mistake"]

_MAX_SHOWN: Final = 100
"""Characters of a value that a report or comment repeats."""

_SENSITIVE: Final = r"(?i)(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY|DSN)"
_ASSIGNED: Final = _SENSITIVE + r"([A-Z0-9_]*[\"']?\s*[=: ]\s*)(\"[^\"]*\"?|'[^']*'?|[^\s,]+)"
_IN_ADDRESS: Final = r"(://[^\s/@:]*:)[^\s/@]+@"


@dataclass(frozen=True, slots=True)
class Text:
    """A file as it was read."""

    file: str
    text: str


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """One thing that somebody set: where, what it is called there, and to what."""

    at: Location
    name: str
    value: str = ""

    def __str__(self) -> str:
        """Return it as one line, without what looks like a secret."""
        value = "…" if re.search(_SENSITIVE, self.name) else re.sub(_ASSIGNED, r"\1\2…", self.value)
        value = visible(re.sub(_IN_ADDRESS, r"\1…@", value))
        shown = value if len(value) <= _MAX_SHOWN else f"{value[:_MAX_SHOWN]}…"
        return f"{visible(self.name)} = {shown}" if value else visible(self.name)

    @property
    def place(self) -> str:
        """Where it stands, as ``FILE:LINE``."""
        return f"{self.at.file}:{self.at.line}" if self.at.line else self.at.file


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a setting, or what is wrong with it: a mistake is told beside the other."""

    setting: Setting
    outcome: Outcome
    says: str = ""
    key: KeyPath = ()
    """Where it is in the deployment file."""


@dataclass(frozen=True, slots=True)
class Given:
    """What was named beside the files of the old program."""

    python: tuple[Text, ...] = ()
    """Files of settings that gunicorn's ``-c`` may mean."""
    environments: tuple[Text, ...] = ()
    """Files of variables."""
    together: bool = False
    """Whether those files are meant by every command, not only by one that names them."""
    apps: Mapping[str, str] = field(default_factory=dict)
    """Applications that a command may not name, by the name of the program; ``""`` for any."""

    def draft(self, program: str, at: Location, name: str = "") -> "Draft":
        """Return a draft of which nothing is known yet."""
        return Draft(program, at, name, self.apps.get(name) or self.apps.get("", ""))


@dataclass(slots=True)
class Draft:
    """A deployment in the making: the values of its keys, where each came from, and what became of every setting."""

    program: str
    """What it is called in the original, such as ``program:shop``."""
    at: Location
    name: str = ""
    app: str = ""
    """The application, for a command that does not name it."""
    values: dict[KeyPath, Value] = field(default_factory=dict)
    sources: dict[KeyPath, list[Setting]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    left_out: str = ""
    """Why it is no deployment; empty for one that is."""
    bound: list[str] = field(default_factory=list)
    """Where the old program listened, as it was written."""
    stopped: tuple[Setting, float] | None = None
    """What says after how many seconds the old program was killed."""
    drained: tuple[Setting, float] | None = None
    """What says how many seconds its requests had to end."""

    def keep(self, setting: Setting, key: KeyPath, value: Value, says: str = "") -> None:
        """Let ``key`` be ``value``, which is what ``setting`` meant."""
        self._put(Finding(setting, "kept", says, key), value)

    def change(self, setting: Setting, key: KeyPath, value: Value, says: str) -> None:
        """Let ``key`` be ``value``, which is not quite what ``setting`` meant."""
        self._put(Finding(setting, "changed", says, key), value)

    def combine(self, setting: Setting, key: KeyPath, value: Value, says: str) -> None:
        """Let ``key`` be ``value``, which ``setting`` makes of what it was before."""
        self.values[key] = value
        self.sources[key] = [*self.sources.get(key, []), setting]
        self.findings.append(Finding(setting, "changed", says, key))

    def replaced(self, setting: Setting, says: str) -> None:
        """Say that another way, which needs no key, is the default here."""
        self.findings.append(Finding(setting, "changed", says))

    def drop(self, setting: Setting, says: str) -> None:
        """Say why ``setting`` has no place in a deployment file."""
        self.findings.append(Finding(setting, "dropped", says))

    def warn(self, setting: Setting, says: str) -> None:
        """Tell a mistake of the original; what becomes of the setting is told beside it."""
        self.findings.append(Finding(setting, "mistake", says))

    def leave(self, why: str) -> None:
        """Make no deployment of it; the first reason stays."""
        self.left_out = self.left_out or why

    def without(self, key: KeyPath, says: str) -> None:
        """Take a key away again, and say so of the settings that it was made from."""
        self.values.pop(key, None)
        self.sources.pop(key, None)
        self.findings = [
            Finding(each.setting, "dropped", says) if each.key == key and each.outcome != "mistake" else each
            for each in self.findings
        ]

    def told(self) -> tuple[Finding, ...]:
        """Return the findings in the order of the files."""
        findings = self.findings
        if self.left_out:
            findings = [Finding(each, "left out") for each in dict.fromkeys(each.setting for each in findings)]
            findings += [each for each in self.findings if each.outcome == "mistake"]
        return tuple(sorted(dict.fromkeys(findings), key=lambda each: (each.setting.at, each.setting.name)))

    def _put(self, finding: Finding, value: Value) -> None:
        key, setting = finding.key, finding.setting
        before = self.sources.get(key, [])
        if isinstance(value, tuple) and isinstance(old := self.values.get(key), tuple):
            value = tuple(dict.fromkeys((*old, *value)))
            self.sources[key] = [*before, setting]
        elif before and before != [setting]:
            self.without(key, f"{setting.place} sets it again, and that one counts")
            self.sources[key] = [setting]
        else:
            self.sources[key] = [setting]
        self.values[key] = value
        self.findings.append(finding)
