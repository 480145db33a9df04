"""What aiosystemd keeps of a deployment on a host: its manifest and its generations.

``STATE/NAME/manifest.json`` says which files are ours, by hash; ``STATE/NAME/generations/N.json`` is one apply, whole.
A generation is on the disk before the first file of it takes its place, and the manifest names it after the last step:
one that is newer than the manifest is of a run that was killed.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from aiosystemd import apply
from aiosystemd.compare import Owned, digest
from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.plan import Rendered, Tree

_GENERATIONS: Final = "generations"
_KEPT: Final = 10
"""Generations that are kept, the one in force among them."""


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    format: Literal[1] = 1


class Manifest(_Kept):
    """Which files of a host are a deployment's."""

    generation: int
    files: dict[str, str]
    """Path on the target → hash of what was written there."""


class Content(BaseModel):
    """A file as it was written."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    mode: int
    text: str


class Release(BaseModel):
    """The symbolic link on the way to the application's directory, and where it led."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    link: str
    target: str


class Generation(_Kept):
    """One apply: everything that it takes to go back to it."""

    number: int
    at: str
    """When, ISO 8601."""
    command: str
    """What made it."""
    file: str
    """The deployment file; "" when it was not on this host."""
    source: str
    """Its text."""
    files: dict[str, Content]
    created: tuple[str, ...] = ()
    """Those that were not there before."""
    instances: dict[str, str]
    """Name → address of the socket."""
    release: Release | None = None
    led: Release | None = None
    """Where that link led before."""

    @property
    def written(self) -> Iterator[str]:
        """Names of all that may have been written for it."""
        yield from (self.file, *self.files)
        if self.release:
            yield self.release.link

    @property
    def tree(self) -> Tree:
        """The files, as they are to be on the disk."""
        return {PurePosixPath(path): Rendered(each.mode, each.text.encode()) for path, each in self.files.items()}


_K = TypeVar("_K", bound=_Kept)


class Store:
    """What is kept of the deployment ``name`` in the directory ``state``."""

    def __init__(self, name: str, state: Path) -> None:
        self.directory = state / name
        self._generations = self.directory / _GENERATIONS

    @property
    def manifest(self) -> Manifest | None:
        """Which files are ours; None before the first apply. Raises ProblemsError, as everything here."""
        return _read(self.directory / "manifest.json", Manifest)

    @property
    def current(self) -> Generation | None:
        """The generation that is in force."""
        manifest = self.manifest
        return None if manifest is None else self.generation(manifest.generation)

    @property
    def pending(self) -> Generation | None:
        """The generation of a run that did not come to its end."""
        manifest, numbers = self.manifest, self.numbers()
        newest = numbers[-1] if numbers else 0
        return self.generation(newest) if newest > (manifest.generation if manifest else 0) else None

    def numbers(self) -> tuple[int, ...]:
        """Return the numbers of all generations, in order."""
        # Not glob: it finds nothing where it may not look, and the next one would be called as the first.
        with _reading(self._generations):
            found = tuple(self._generations.iterdir())
            return tuple(sorted(int(path.stem) for path in found if path.suffix == ".json" and path.stem.isdecimal()))
        return ()

    def generation(self, number: int) -> Generation:
        """Return one of them."""
        path = self._generations / f"{number}.json"
        found = _read(path, Generation)
        if found is None:
            raise ProblemsError(Problem(Location(str(path)), "no such generation", "aiosystemd history lists them"))
        return found

    def history(self) -> Iterator[Generation]:
        """Yield all generations, oldest first."""
        yield from map(self.generation, self.numbers())

    @property
    def newest(self) -> Generation | None:
        """The last one, in force or not."""
        numbers = self.numbers()
        return self.generation(numbers[-1]) if numbers else None

    def owned(self) -> Owned:
        """Return what is ours on the disk: also what a run has written that was killed."""
        manifest, pending = self.manifest, self.pending
        owned = {PurePosixPath(path): frozenset([each]) for path, each in (manifest.files if manifest else {}).items()}
        for path, each in (pending.tree if pending else {}).items():
            owned[path] = owned.get(path, frozenset()) | {digest(each.content)}
        return owned

    def begin(self, generation: Generation) -> None:
        """Keep a generation that is not in force yet."""
        self._write(self._generations / f"{generation.number}.json", generation)

    def commit(self, generation: Generation) -> None:
        """Put it in force, and forget those of runs that were killed since the last one."""
        last = self.manifest.generation if self.manifest else 0
        for number in self.numbers():
            if last < number < generation.number:
                self.abandon(number)
        files = {path: digest(each.text.encode()) for path, each in generation.files.items()}
        try:
            self._write(self.directory / "manifest.json", Manifest(generation=generation.number, files=files))
        except ProblemsError:
            # Where only the wait for the disk has failed, the manifest names it: there is no way back any more.
            if (manifest := self.manifest) is None or manifest.generation != generation.number:
                raise

    def abandon(self, number: int) -> None:
        """Forget a generation, and with the last of one that was never in force the deployment."""
        apply.delete(self._generations / f"{number}.json")
        if self.manifest is None and not self.numbers():
            apply.clear(self.directory)

    def forget(self) -> None:
        """Forget the deployment."""
        # All of it at once, or half of it would look like a run that was killed: without its manifest, like the first.
        apply.set_aside(self.directory, self.removed.directory, "manifest.json")

    @property
    def removed(self) -> "Store":
        """What was kept of a deployment that was forgotten, until ``settle``."""
        return Store(f".{self.directory.name}.removed", self.directory.parent)

    def every_file(self, root: Path) -> Iterator[Path]:
        """Yield where the files of all generations are, some of them more than once."""
        for number in self.numbers():
            with suppress(ProblemsError):
                yield from (place(name, root) for name in self.generation(number).written)

    def settle(self) -> None:
        """Forget generations that are too old, and remove what earlier runs have left here."""
        for number in self.numbers()[:-_KEPT]:
            self.abandon(number)
        for number in (*self.numbers(), next_number(self)):
            apply.settle(self._generations / f"{number}.json")
        apply.settle(self.directory / "manifest.json")
        apply.clear(self.removed.directory)

    def _write(self, path: Path, document: _Kept) -> None:
        # The deployment file may hold what others should not read.
        apply.make_private(self.directory)
        try:
            apply.replace(path, document.model_dump_json(indent=1).encode(), 0o600)
        except OSError as error:
            hint = "use sudo" if isinstance(error, PermissionError) else ""
            raise ProblemsError(Problem(Location(str(path)), f"cannot be written: {error.strerror}", hint)) from None


def place(name: str, root: Path) -> Path:
    """Return where a file of a host is whose files are below ``root``."""
    # Never the file of that name on the machine where an image is built: this one may be gone, and that one there.
    return Path(os.path.normpath(root / name.lstrip("/")))


def name_of(file: Path, root: Path) -> str:
    """Return what ``place`` finds a deployment file by; of one that lies beside the root ``/../…``."""
    return f"/{os.path.relpath(file, root)}"


def kept(state: Path) -> tuple[str, ...]:
    """Return the names of the deployments of which something is kept."""
    try:
        return tuple(sorted(path.name for path in state.iterdir() if (path / "manifest.json").is_file()))
    except OSError:
        return ()


def next_number(store: Store) -> int:
    """Return the number of the next generation."""
    return max((0, *store.numbers())) + 1


def texts(tree: Tree) -> Mapping[str, Content]:
    """Return a tree as a generation keeps it."""
    return {str(path): Content(mode=each.mode, text=each.content.decode()) for path, each in tree.items()}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise what goes wrong as ProblemsError, but not that there is nothing."""
    try:
        yield
    except FileNotFoundError:
        return
    except OSError as error:
        hint = "use sudo" if isinstance(error, PermissionError) else ""
        raise ProblemsError(Problem(Location(str(path)), f"cannot be read: {error.strerror}", hint)) from None


def _read(path: Path, kind: type[_K]) -> _K | None:
    try:
        with _reading(path):
            return kind.model_validate_json(path.read_bytes())
    except ValidationError:
        directory = next(each for each in path.parents if each.name != _GENERATIONS)
        what, hint = "is not what aiosystemd has written", f"move {directory} away; then apply --adopt begins anew"
        raise ProblemsError(Problem(Location(str(path)), what, hint)) from None
    return None
