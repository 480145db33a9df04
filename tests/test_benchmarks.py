"""The page of figures says what was measured, and judges it rightly."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import report, throughput

DOCS = Path(__file__).parent.parent / "docs" / "benchmarks"


def rates(ours: float) -> report.Results:
    names = ("docs: supervisord", "gunicorn uvloop, 2, tuned nginx", "aiosystemd, 2")
    figures = dict.fromkeys(("rate", "slowest", "fastest", "app", "proxy", "p50", "p99"), 1000.0)
    return {"throughput": {**dict.fromkeys(names, figures), "aiosystemd, 2": {**figures, "rate": ours}}}


def test_page_and_plot_are_of_the_committed_figures() -> None:
    results = json.loads((DOCS / "results.json").read_text())
    page = (DOCS / "README.md").read_text()
    assert report.text(results) in page
    assert report.page(page, results) == page
    assert (DOCS / "throughput.svg").read_text() == report.plot(results["throughput"])


def test_page_keeps_the_words_around_the_figures() -> None:
    page = report.page(f"before\n{report.BEGIN}old\n{report.END}after\n", rates(1.0))
    assert page.startswith(f"before\n{report.BEGIN}\n## Targets\n")
    assert page.endswith(f"\n{report.END}after\n")
    assert "old" not in page


@pytest.mark.parametrize(("ours", "met"), [(3000.0, [True, True]), (1100.0, [False, True]), (1099.0, [False, False])])
def test_target_is_met_from_its_limit_on(ours: float, met: list[bool]) -> None:
    assert [target.met for target in report.targets(rates(ours))] == met


def test_failed_request_misses_the_target() -> None:
    event = {"failed": 1, "requests": 200_000}
    (target,) = report.targets({"deploys": {"aiosystemd, 4": {"12 reloads in a row": event}}})
    assert not target.met


def test_too_few_requests_miss_the_target() -> None:
    event = {"failed": 0, "requests": 99_999}
    (target,) = report.targets({"deploys": {"aiosystemd, 4": {"12 reloads in a row": event}}})
    assert not target.met


def test_plot_shows_every_contender_and_is_well_formed() -> None:
    figures = {"a < b & c": {"rate": 50.0, "slowest": 40.0, "fastest": 60.0}, "aiosystemd": rates(1.0)["throughput"]}
    figures["aiosystemd"] = {"rate": 100.0, "slowest": 90.0, "fastest": 120.0}
    root = ET.fromstring(report.plot(figures))  # type: ignore[arg-type]  # noqa: S314 - our own
    words = "".join(root.itertext())
    assert "a < b & c" in words
    bars = [int(bar.get("width", "")) for bar in root.iter() if bar.get("height") == str(report.BAR - 6)]
    assert bars[1] == pytest.approx(2 * bars[0], abs=1)


WRK = """Running 1s test @ http://127.0.0.1:80/
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    10.94ms    6.88ms  39.74ms   61.50%
    Req/Sec     3.02k   792.00     5.08k    85.99%
  Latency Distribution
     50%  985.00us
     75%   14.94ms
     99%    1.50s
"""


def test_quantile_is_the_one_of_the_distribution() -> None:
    assert throughput.quantile(WRK, "50%") == pytest.approx(0.985)
    assert throughput.quantile(WRK, "99%") == pytest.approx(1500)
    with pytest.raises(RuntimeError, match=re.escape("90%")):
        throughput.quantile(WRK, "90%")


@pytest.mark.parametrize("trouble", ["  Non-2xx or 3xx responses: 1\n", "  Socket errors: connect 0, read 1\n"])
def test_one_failed_request_ends_the_measurement(trouble: str) -> None:
    with pytest.raises(RuntimeError, match="fails requests"):
        throughput.without_errors("contender", WRK + trouble)
    assert throughput.without_errors("contender", WRK) == WRK
