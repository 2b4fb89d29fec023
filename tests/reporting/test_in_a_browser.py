"""Reports as Chromium draws them, on a screen and on a telephone; `make browser` runs these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.reporting.blockwise_run import write_blockwise_run
from tests.reporting.browser import CHROMIUM, lay_out
from tests.reporting.conftest import write_run

from qanas.core.run_folder import RunFolder
from qanas.reporting.comparison import compare_runs
from qanas.reporting.comparison_page import write_comparison
from qanas.reporting.report import write_report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"),
]


def report(path: Path) -> Path:
    return write_report(write_run(path))


def blockwise(path: Path) -> Path:
    return write_report(write_blockwise_run(path))


def large(path: Path) -> Path:
    """Of 2,000 measured trials."""
    return write_report(write_run(path, trials=2000))


def comparison(path: Path) -> Path:
    folders: list[RunFolder] = [write_run(path / name) for name in ("one", "two")]
    return write_comparison(compare_runs(folders), path)[0]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", [report, blockwise, large, comparison])
def test_nothing_overflows_overlaps_or_complains(page: Callable[[Path], Path], width: int, tmp_path: Path) -> None:
    path = page(tmp_path / "run")
    assert path.stat().st_size < 3_000_000
    seen = lay_out(path, width, tmp_path)
    assert (tmp_path / f"{width}.png").is_file()
    assert seen.complaints == []
    assert (seen.overflow, seen.wide) == (0, [])
    assert seen.overlaps == []
    assert seen.plots > 0
