import re
from collections.abc import Iterator
from io import StringIO
from itertools import count
from typing import Any

import pytest
from rich.console import Console

from qanas.core.events import Event
from qanas.reporting.live import LiveDisplay

FRONT: list[dict[str, Any]] = [
    {"mae_quantized": 9.81 + place, "weight_bytes": 880 * (place + 1), "layers": 1, "optimizer": "adam [bold]"}
    for place in range(7)
]
VALUES = {"mae_quantized": 9.812, "weight_bytes": 1880.0}


class Clock:
    """Goes on by ten seconds whenever a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _console(terminal: bool, width: int = 140) -> Console:
    return Console(file=StringIO(), force_terminal=terminal, width=width, height=60, color_system=None)


def _output(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def _search(display: LiveDisplay, clock: Clock) -> None:
    display.start(60, 0, resumed=False)
    display.trial_started(0, "2 layers [red]")
    display.epoch(0, Event(3, 100, 0.5))
    display.front(FRONT)
    clock.now += 20
    display.trial_finished(0, "measured", VALUES, "")
    display.trial_finished(1, "failed", None, "the loss is [not] finite")


def test_plain_lines_tell_each_trial_without_control_codes() -> None:
    console, clock = _console(terminal=False), Clock()
    with LiveDisplay(console, clock) as display:
        _search(display, clock)
    assert _output(console).splitlines() == [
        "trial 1/60 mae_quantized 9.81 weight_bytes 1880 (front: 7)",
        "trial 2/60 failed (index 1): the loss is [not] finite",
    ]


def test_a_long_training_is_heard_of_once_a_minute_where_there_is_no_terminal() -> None:
    console, clock = _console(terminal=False), Clock()
    with LiveDisplay(console, clock) as display:
        display.stage("teacher", 1, 0)
        for epoch in range(1, 31):
            clock.now += 40
            display.epoch(0, Event(epoch, 30, 0.5))
        display.unit_finished("seed, training 1")
        clock.now += 50
        display.epoch(0, Event(1, 30, 0.5))
    first, *told, last = _output(console).splitlines()
    assert (first, last) == ("teacher: 0 of 1 done", "teacher 1/1 seed, training 1")
    assert told[0] == "teacher: epoch 2/30, loss 0.5 about 19 min left"
    assert told[-1] == "teacher: epoch 28/30, loss 0.5 about 1 min left"
    assert len(told) == 14  # every second epoch; the last one is said by what is finished


def test_a_trial_behind_a_stage_is_told_as_a_trial() -> None:
    console, clock = _console(terminal=False), Clock()
    with LiveDisplay(console, clock) as display:
        display.stage("teacher", 1, 0)
        display.unit_finished("seed, training 1")
        display.start(60, 0, resumed=False)
        clock.now += 70
        display.epoch(5, Event(1, 20, 0.5))
    assert _output(console).splitlines()[-1] == "trial 5: epoch 1/20, loss 0.5"


def test_a_forecast_is_not_made_of_the_reference() -> None:
    """A reference that takes a hundred times as long as candidates made it jump from hours to minutes."""
    console, clock = _console(terminal=False), Clock()
    with LiveDisplay(console, clock) as display:
        display.start(60, 0, resumed=False)
        for index in range(5):
            clock.now += 10 if index else 1000
            display.trial_finished(index, "measured", VALUES, "")
        display.stage("finalists", 10, 0)
        for place in range(5):
            clock.now += 10 if place else 1000
            display.unit_finished(f"{'m' if place else 'seed'}, training 1")
    lines = _output(console).splitlines()
    assert not any("left" in line for line in lines[:3])
    assert lines[3].endswith("about 9 min left")
    assert lines[4].endswith("about 9 min left")
    assert not any("left" in line for line in lines[5:9])
    assert lines[9].endswith("about 1 min left")


def test_at_80_columns_nothing_is_broken() -> None:
    console, clock = _console(terminal=True, width=80), Clock()
    with LiveDisplay(console, clock) as display:
        display.start(60, 0, resumed=False)
        for index in range(4):
            clock.now += 3000
            display.trial_started(index + 1, "layers=2 units_1=32 units_2=16 optimizer=adam scheduler=cosine")
            display.trial_finished(index, "measured", VALUES, "")
        display.front(FRONT)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", _output(console)).splitlines()
    bars = [line for line in shown if "4/60" in line]
    assert bars
    assert all("elapsed, about" in line and line.rstrip().endswith("left") for line in bars), bars


def test_plain_lines_tell_stages_messages_and_resumption() -> None:
    console, clock = _console(terminal=False), Clock()
    with LiveDisplay(console, clock) as display:
        display.start(60, 12, resumed=True)
        display.stage("finalists", 24, 3)
        for place in range(3):
            clock.now += 5
            display.epoch(0, Event(1, 10, 0.1))
            display.unit_finished(f"m{place}, training 1")
        display.message("written to [runs]")
    assert _output(console).splitlines() == [
        "resumed: 12 of 60 trials done before",
        "finalists: 3 of 24 done",
        "finalists 4/24 m0, training 1",
        "finalists 5/24 m1, training 1",
        "finalists 6/24 m2, training 1 about 2 min left",
        "written to [runs]",
    ]


def test_plain_output_tells_few_of_many_rejections() -> None:
    console = _console(terminal=False)
    with LiveDisplay(console) as display:
        display.start(60, 0, resumed=False)
        for number in range(1, 1001):
            display.rejected("peak_ram_bytes over the limit", number)
    assert len(_output(console).splitlines()) == 4


def test_time_left_counts_only_this_session() -> None:
    console, clock = _console(terminal=False), Clock()
    with LiveDisplay(console, clock) as display:
        display.start(60, 50, resumed=True)
        for index in range(50, 53):
            clock.now += 3
            display.trial_finished(index, "measured", VALUES, "")
    assert "trial 53/60" in _output(console)
    assert "about 21 s left" in _output(console)


def test_time_left_is_no_more_than_the_search_may_take() -> None:
    console, clock = _console(terminal=False), Clock()
    with LiveDisplay(console, clock) as display:
        display.start(60, 0, resumed=False, seconds=60)
        for index in range(6):
            clock.now += 11
            display.trial_finished(index, "measured", VALUES, "")
    lines = _output(console).splitlines()
    assert lines[3].endswith("about 16 s left")  # at 11 s a trial
    assert "left" not in lines[5]  # what is at work is waited for


def test_interrupted_trials_do_not_count() -> None:
    console = _console(terminal=False)
    with LiveDisplay(console) as display:
        display.start(60, 0, resumed=False)
        display.trial_finished(0, "interrupted", None, "")
    assert _output(console) == "trial 0/60 interrupted (index 0): no reason given\n"


def test_a_terminal_shows_bars_running_trials_and_the_front() -> None:
    console, clock = _console(terminal=True), Clock()
    with LiveDisplay(console, clock) as display:
        display.start(60, 0, resumed=False)
        display.trial_started(4, "2 layers [red]")
        display.epoch(4, Event(3, 100, 0.5))
        display.rejected("peak_ram_bytes over the limit", 3)
        clock.now += 20
        display.trial_finished(0, "measured", VALUES, "")
        display.front(FRONT)
        display.trial_finished(1, "failed", None, "the loss is not finite")
    output = _output(console)
    for told in (
        "2/60",
        "20 s elapsed, forecast after 2 more",
        "trial 4",
        "epoch 3/100",
        "loss 0.5",
        "2 layers [red]",
        "rejected before training: 3",
        "front: 7 points",
        "MAE (quantized)",
        "15.81",
        "adam [bold]",
        "trial 2/60 failed (index 1): the loss is not finite",
    ):
        assert told in output
    assert "\x1b[?25h" in output  # the cursor is back


def test_something_moves_before_there_is_anything_to_count() -> None:
    console = _console(terminal=True)
    with LiveDisplay(console) as display:
        display.waiting("reading [data]")
        display.message("data: 5 samples")
    assert "reading [data]" in _output(console)
    console = _console(terminal=False)
    with LiveDisplay(console) as display:
        display.waiting("reading data")
    assert _output(console) == "", "a log has lines alone"


def test_a_terminal_shows_the_stage_and_forgets_finished_trainings() -> None:
    console = _console(terminal=True)
    with LiveDisplay(console) as display:
        display.stage("finalists", 6, 1)
        display.epoch(2, Event(5, 10, 0.25))
        display.epoch(3, Event(10, 10, 0.25))
        display.unit_finished("m0, training 2")
        display.epoch(4, Event(6, 10, 0.125))
    output = _output(console)
    assert "finalists" in output
    assert "2/6" in output
    assert "training 4" in output
    assert "training 3 " not in output


def test_a_long_front_is_thinned_and_a_narrow_terminal_drops_settings() -> None:
    console = _console(terminal=True, width=48)
    with LiveDisplay(console) as display:
        display.start(60, 0, resumed=False)
        display.trial_finished(0, "measured", VALUES, "")
        display.front([{**FRONT[0], "weight_bytes": 1000 + place} for place in range(30)])
    output = _output(console)
    assert "front: 30 points, 12 of them shown" in output
    assert "1,000" in output
    assert "1,029" in output
    assert "adam" not in output


def test_epochs_are_cheap_to_tell() -> None:
    ticks = count()

    def clock() -> float:
        return float(next(ticks))

    console = _console(terminal=True)
    with LiveDisplay(console, clock) as display:
        display.start(60, 0, resumed=False)
        for epoch in range(5000):
            display.epoch(0, Event(epoch, 5000, 0.1))
    assert next(ticks) < 100  # each redrawing asks the clock: few for thousands of epochs


@pytest.fixture(params=[True, False])
def display(request: pytest.FixtureRequest) -> Iterator[LiveDisplay]:
    shown = LiveDisplay(_console(terminal=request.param))
    yield shown
    shown.close()


def test_closing_twice_or_before_the_start_is_no_error(display: LiveDisplay) -> None:
    display.close()
    display.start(1, 0, resumed=False)
    display.close()
    display.close()


def test_an_error_leaves_the_terminal_as_it_was() -> None:
    console = _console(terminal=True)

    def interrupted() -> None:
        with LiveDisplay(console) as display:
            display.start(1, 0, resumed=False)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "\x1b[?25h" in _output(console)


def test_a_unit_without_a_stage_is_no_error(display: LiveDisplay) -> None:
    display.unit_finished("m0")
