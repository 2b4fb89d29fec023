"""Windows that are cut when they are asked for."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from qanas.performance_estimation.bench import training_set_of
from qanas.tasks import window_front_end, window_split
from qanas.tasks.samples import Split
from qanas.tasks.timeseries import TimeSeries
from qanas.tasks.window_split import WindowSplit
from qanas.testing import check_task

TASK = TimeSeries("synthetic", window=20, hop=3, stride_in_window=3, time="time")
DESCRIBED = TimeSeries("synthetic", window=20, hop=3, time="time", features="mean+slope+deviation+last", mean_window=7)


def test_they_are_those_that_an_array_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    array = TASK.load().train
    monkeypatch.setattr(window_split, "MOST_CUT_BYTES", 0)
    cut = TASK.load().train
    assert (type(array), type(cut)) == (Split, WindowSplit)
    assert not cut.in_memory
    assert (len(cut), cut.input_shape) == (len(array), array.input_shape)
    for split in (cut, pickle.loads(pickle.dumps(cut))):  # noqa: S301 - our own
        chosen = np.array([5, 0, len(array) - 1])
        for own, kept in zip(split.batch(chosen), array.batch(chosen), strict=True):
            np.testing.assert_array_equal(own, kept)
        np.testing.assert_array_equal(np.concatenate(list(split.chunks(7))), array.inputs)
        np.testing.assert_array_equal(split.inputs, array.inputs)
    assert cut.extras.keys() == array.extras.keys()


def test_a_task_of_them_keeps_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_split, "MOST_CUT_BYTES", 0)
    check_task(TASK)
    batch, _ = training_set_of(TASK, TASK.load().train, 0).batch(torch.arange(4))
    assert batch.shape == (4, 7, 3)


def test_descriptions_are_the_same_however_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = DESCRIBED.load().train.inputs
    monkeypatch.setattr(window_front_end, "_DESCRIBED_BYTES", 8 * 20 * 3 * 5)
    np.testing.assert_array_equal(DESCRIBED.load().train.inputs, whole)
