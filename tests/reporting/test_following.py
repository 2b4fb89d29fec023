"""The report while the run goes on."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from qanas.core.run_folder import RunFolder
from qanas.reporting import following
from qanas.reporting.following import FollowingReport
from qanas.reporting.report import write_report


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_says_what_goes_on_and_is_loaded_anew_until_the_end(run: RunFolder) -> None:
    clock = Clock()
    told: list[bool] = []
    report = FollowingReport(run, lambda: told.append(run.report.is_file()), clock)
    assert report.due()
    report.show("search: 3 of 60 trials done")
    page = run.report.read_text("utf-8")
    assert "search: 3 of 60 trials done" in page
    assert "location.reload()" in page
    assert '<span id="silent" hidden>' in page, "shown once nobody writes the page any more"
    (written,) = re.findall(r'<time datetime="(.*?)">', page)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(written)) < timedelta(minutes=10)
    assert not report.due()
    clock.now += following.SECONDS
    assert report.due()
    report.show("finalists: 0 of 4 done")
    assert told == [True], "once, when it is there"
    report.end()
    assert "location.reload()" not in run.report.read_text("utf-8")


def test_it_takes_a_fiftieth_of_the_time(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    def slow(*_: object) -> None:
        clock.now += 4.0

    monkeypatch.setattr(following, "write_report", slow)
    report = FollowingReport(run, clock=clock)
    report.show("search")
    clock.now += 199
    assert not report.due()
    clock.now += 1
    assert report.due()


def test_a_report_that_cant_be_written_ends_no_run(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(following, "write_report", full)
    report = FollowingReport(run)
    report.show("search")
    assert not report.due(), "once is enough"
    report.end()


def test_an_early_folder_has_a_page(run: RunFolder) -> None:
    for path in (run.trials, run.front, run.finalists, run.summary, run.importance):
        path.unlink()
    for path in run.models.glob("*/card.json"):
        path.unlink()
    write_report(run, "it starts")
    assert "it starts" in run.report.read_text("utf-8")
