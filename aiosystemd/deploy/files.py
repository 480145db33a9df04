"""The files of one run: put in place together, and taken back when something fails later."""

from contextlib import suppress

from aiosystemd import apply
from aiosystemd.compare import Change
from aiosystemd.deploy.proposal import Proposal, is_unit
from aiosystemd.deploy.recover import go_back, relink, settle
from aiosystemd.deploy.store import Generation, Store
from aiosystemd.errors import ProblemsError
from aiosystemd.plan import Rendered, Tree


class Files:
    """The files of a proposal."""

    def __init__(self, proposal: Proposal, generation: Generation, store: Store) -> None:
        self._proposal = proposal
        self._generation = generation
        self._store = store
        # A unit stays until nothing runs of it; but that of an instance that stays hides the template it is to use.
        hiding = {f"{proposal.name}@{name}.socket" for name in proposal.instances}
        gone = (each for each in proposal.changed if each.wanted is None and is_unit(each.path))
        self._last = tuple(each for each in gone if each.path.name not in hiding)
        self._first = tuple(each for each in proposal.changed if each not in self._last)

    def put(self, meanwhile: Tree) -> None:
        """Write them; in place of some of them ``meanwhile``, until ``finish``. Raises ProblemsError."""
        changes = tuple(_instead(change, meanwhile.get(change.name)) for change in self._first)
        # First of all: it says where files may be left of a run that is killed.
        self._store.begin(self._generation)
        with apply.ready(changes, undoable=True) as put:
            put()
        if self._proposal.moved and self._generation.release:
            before = self._proposal.before
            relink(self._generation.release, self._proposal.root, before.release if before else None)

    def finish(self, meanwhile: Tree) -> None:
        """Write what others stood in for; raises ProblemsError."""
        changes = (change for change in self._first if change.name in meanwhile)
        apply.write(tuple(change._replace(kind="update") for change in changes))

    def remove_units(self) -> bool:
        """Remove the units that are not wanted any more, and tell whether there were any; raises ProblemsError."""
        with apply.ready(self._last, undoable=True) as put:
            put()
        return bool(self._last)

    def go_back(self) -> None:
        """Put everything back as it was; raises ProblemsError."""
        if self._store.pending:
            before = self._proposal.before
            go_back(self._store, self._generation, self._proposal.root, before.release if before else None)
            self._store.abandon(self._generation.number)

    def commit(self) -> None:
        """Keep it as it is now; raises ProblemsError."""
        if self._proposal.instances:
            self._store.commit(self._generation)
        else:
            self._store.forget()
        # From here on it is done; what is left beside our files, the next run removes.
        with suppress(ProblemsError):
            settle(self._store, self._proposal.root, (each.path for each in self._proposal.changes))


def _instead(change: Change, other: Rendered | None) -> Change:
    return change._replace(wanted=other) if other else change


def created(changes: tuple[Change, ...]) -> tuple[str, ...]:
    """Return the names of the files that are not there yet."""
    return tuple(str(each.name) for each in changes if each.kind == "create")
