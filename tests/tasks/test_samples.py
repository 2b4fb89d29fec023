"""Samples as arrays, memory maps and decoded on demand: the same batches, the same after a way over the disk."""

import functools
import operator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qanas.recipe.components import component
from qanas.recipe.tables import NamedTable
from qanas.tasks.base import Task, TaskData
from qanas.tasks.prepared import load_prepared, save_prepared
from qanas.tasks.samples import DecodedSplit, FloatArray, RememberedSplit, Samples, Split, ragged
from qanas.testing.small import SmallTask

BOXES = (2, 0, 3, 2)
decoded: list[int] = []


def picture(source: tuple[int, NDArray[Any]], size: int) -> FloatArray:
    """Decode a made-up picture, and note that it was."""
    decoded.append(source[0])
    return np.full((1, size, size + 1), source[0], dtype=np.float32)


def boxes() -> list[NDArray[np.float32]]:
    return [np.full((count, 5), number, dtype=np.float32) for number, count in enumerate(BOXES)]


def on_demand() -> DecodedSplit:
    sources = list(enumerate(boxes()))
    extras = {"name": np.array(["a", "b", "c", "d"])}
    return DecodedSplit(sources, functools.partial(picture, size=4), operator.itemgetter(1), extras, join=ragged)


def in_memory() -> Split:
    split = on_demand()
    return Split(split.inputs, split.targets, split.extras)


SPLITS = {"decoded": on_demand, "arrays": in_memory}


def assert_rows(found: NDArray[Any], expected: list[NDArray[np.float32]]) -> None:
    assert found.shape == (len(expected),)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


@pytest.mark.parametrize("kind", SPLITS)
@given(indices=st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_a_batch_has_the_samples_asked_for_in_their_order(kind: str, indices: list[int]) -> None:
    samples: Samples = SPLITS[kind]()
    inputs, targets = samples.batch(np.array(indices))
    assert inputs.shape == (len(indices), *samples.input_shape) == (len(indices), 1, 4, 5)
    assert inputs.dtype == np.float32
    assert inputs[:, 0, 0, 0].tolist() == indices
    assert_rows(targets, [boxes()[index] for index in indices])


def test_targets_of_one_shape_are_one_array() -> None:
    split = DecodedSplit(list(enumerate(range(3))), functools.partial(picture, size=2), operator.itemgetter(1))
    np.testing.assert_array_equal(split.batch(np.array([2, 0]))[1], [2, 0])
    np.testing.assert_array_equal(split.targets, [0, 1, 2])


def test_only_what_is_asked_for_is_decoded_and_nothing_is_kept() -> None:
    split = on_demand()
    decoded.clear()
    assert len(split) == 4
    assert len(split.targets) == 4
    assert decoded == []
    assert split.input_shape == (1, 4, 5)
    split.batch(np.array([3, 1]))
    split.batch(np.array([3]))
    assert decoded == [0, 3, 1, 3]


@pytest.mark.parametrize(("room", "expected"), [(4, [0, 3, 1]), (2, [0, 3, 1, 3]), (0, [0, 3, 1, 3, 1])])
def test_what_a_training_repeats_is_decoded_once_as_far_as_there_is_room(room: int, expected: list[int]) -> None:
    split = on_demand()
    decoded.clear()
    remembered = RememberedSplit(split, room * 4 * 5 * 4)
    inputs, targets = remembered.batch(np.array([3, 1]))
    inputs += 1  # whoever changes a batch changes no sample
    again, _ = remembered.batch(np.array([3, 1]))
    assert decoded == expected
    np.testing.assert_array_equal(again, split.batch(np.array([3, 1]))[0])
    np.testing.assert_array_equal(inputs - 1, again)
    assert_rows(targets, [boxes()[3], boxes()[1]])
    assert remembered.extras == split.extras


def test_without_samples_there_is_no_shape() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        DecodedSplit([], functools.partial(picture, size=2), operator.itemgetter(1))


@pytest.mark.parametrize("kind", SPLITS)
def test_prepared_samples_are_the_same(kind: str, tmp_path: Path) -> None:
    """Also in another process: what is decoded is pickled, ragged targets are two plain arrays."""
    data = TaskData(SPLITS[kind](), in_memory(), on_demand(), output_size=2)
    assert data.input_shape == (1, 4, 5)
    save_prepared(data, tmp_path)
    again = load_prepared(tmp_path)
    for name in ("train", "val", "test"):
        split = getattr(again, name)
        assert isinstance(split, type(getattr(data, name)))
        inputs, targets = split.batch(np.arange(4))
        np.testing.assert_array_equal(inputs, in_memory().inputs)
        assert_rows(targets, boxes())
        assert split.extras["name"].tolist() == ["a", "b", "c", "d"]
    assert isinstance(again.val.inputs, np.memmap)


def test_no_boxes_at_all_survive_the_disk(tmp_path: Path) -> None:
    none = [np.zeros((0, 5), np.float32)] * 4
    split = replace(in_memory(), targets=ragged(none))
    save_prepared(TaskData(split, split, split, output_size=2), tmp_path)
    assert_rows(load_prepared(tmp_path).train.targets, none)


def test_what_can_not_be_pickled_is_refused(tmp_path: Path) -> None:
    split = DecodedSplit([1.0], lambda source: np.full((2,), source, np.float32), np.atleast_1d)
    with pytest.raises(ValueError, match="the train split can't be given to other processes"):
        save_prepared(TaskData(split, split, split, output_size=1), tmp_path)


def test_the_default_fingerprint_is_of_the_samples() -> None:
    """In memory of all of them, of decoded ones of some; other data has another one."""

    class Plain(SmallTask):
        fingerprint = Task.fingerprint

    class Other(Plain):
        def load(self) -> TaskData:
            data = super().load()
            return replace(data, test=replace(data.test, targets=1 - data.test.targets))

    assert Plain().fingerprint() == Plain().fingerprint() != Other().fingerprint()


@dataclass(frozen=True)
class Placed(SmallTask):
    """Takes paths.

    Attributes:
        data: where it lies.
        more: further ones.
    """

    data: Path = Path()
    more: Path | None = None


def test_a_task_may_take_paths() -> None:
    table = NamedTable.model_validate({"name": "tests.tasks.test_samples:Placed", "data": "somewhere", "more": "else"})
    task, resolved = component(table, "task", Task)
    assert isinstance(task, Placed)
    assert (task.data, task.more) == (Path("somewhere"), Path("else"))
    assert {"name": table.name, "data": "somewhere", "more": "else"}.items() <= resolved.items(), "as TOML has it"
