"""Reports as Chromium draws them, on a screen and on a telephone; `make browser` runs these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.reporting.blockwise_run import write_blockwise_run
from tests.reporting.browser import CHROMIUM, lay_out, loads
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


def test_a_page_that_follows_a_run_is_loaded_anew_and_stays_where_it_was(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    page = write_report(folder, "search: 3 of 60 trials done").read_text("utf-8")
    told = """<script>
      addEventListener("load", () => {
        const menu = document.querySelector("select[data-menu=front]");
        parent.postMessage(`${Math.round(scrollY)} ${menu.value}`, "*");
        menu.value = "1"; scrollTo(0, 700);
      });
    </script></body>"""
    (tmp_path / "page.html").write_text(page.replace("</body>", told), "utf-8")
    assert loads(tmp_path, tmp_path / "page.html")[:3] == ["0 0", "700 1", "700 1"]
    finished = write_report(folder).read_text("utf-8")
    (tmp_path / "page.html").write_text(finished.replace("</body>", told), "utf-8")
    assert loads(tmp_path, tmp_path / "page.html") == ["0 0"], "a finished run's page is not"
