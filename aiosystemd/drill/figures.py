"""What the requests of each phase add up to."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from aiosystemd.drill.traffic import Sample


@dataclass(frozen=True, slots=True)
class Phase:
    """The requests of one phase; times in milliseconds."""

    name: str
    requests: int
    failures: Mapping[str, int]
    """By ``METHOD answer``."""
    p50: float
    p99: float
    max: float

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return sum(self.failures.values())


def phases(samples: Iterable[Sample], names: Iterable[str], expected: Mapping[str, str]) -> tuple[Phase, ...]:
    """Return the figures of each phase; every answer but the ``expected`` one of its method is a failure."""
    samples = tuple(samples)
    return tuple(_phase(name, [each for each in samples if each.phase == name], expected) for name in names)


def answers(samples: Iterable[Sample]) -> Mapping[str, Counter[str]]:
    """Return how often each answer was given, by method."""
    found: dict[str, Counter[str]] = {}
    for each in samples:
        found.setdefault(each.method, Counter())[each.answer] += 1
    return found


def _phase(name: str, samples: list[Sample], expected: Mapping[str, str]) -> Phase:
    wrong = (f"{each.method} {each.answer}" for each in samples if each.answer != expected.get(each.method))
    times = sorted(each.seconds * 1000 for each in samples)
    return Phase(name, len(times), dict(Counter(wrong)), *(_quantile(times, share) for share in (0.5, 0.99, 1.0)))


def _quantile(ordered: list[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1) if ordered else 0.0


def table(found: tuple[Phase, ...]) -> Iterator[str]:
    """Yield the lines of a table: each phase against the first one, and what failed."""
    yield f"{'phase':10}{'requests':>10}{'failures':>10}{'p50':>12}{'p99':>12}{'max':>12}{'p99 / steady':>16}"
    for each in found:
        times = "".join(f"{f'{figure:.1f} ms':>12}" for figure in (each.p50, each.p99, each.max))
        yield f"{each.name:10}{each.requests:10}{each.failed:10}{times}{ratio(each, found[0]):16.2f}"
    for each in found:
        yield from (f"{each.name}: {count} times {what}" for what, count in each.failures.items())


def ratio(phase: Phase, steady: Phase) -> float:
    """Return how many times the steady p99 that of a phase is."""
    return round(phase.p99 / steady.p99, 2) if steady.p99 else 0.0
