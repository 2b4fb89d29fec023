"""Splits: groups whole, classes in all of them, the same each time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanas.core.errors import InputError
from qanas.tasks.anomaly.task import Anomaly
from qanas.tasks.base import Task
from qanas.tasks.images.task import Images
from qanas.tasks.labels import Sample
from qanas.tasks.segmentation import Segmentation
from qanas.tasks.splits import SPLITS, divided, together, told_group
from qanas.tasks.timeseries.task import TimeSeries

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), min_size=1, max_size=60), st.integers(0, 3))
@settings(max_examples=60)
def test_groups_stay_whole_and_every_class_is_trained(rows: list[tuple[str, int]], seed: int) -> None:
    labels, groups = [label for label, _ in rows], [group for _, group in rows]
    found = divided(labels, groups, SHARES, seed)
    assert all(len({split for split, own in zip(found, groups, strict=True) if own == group}) == 1 for group in groups)
    assert found == divided(labels, groups, SHARES, seed)
    if len(set(labels)) == 1:
        assert "train" in found


def test_shares_are_kept_by_class() -> None:
    labels = ["common"] * 1000 + ["rare"] * 20 + ["three"] * 3
    found = divided(labels, list(range(len(labels))), SHARES, 0)
    counts = Counter(zip(labels, found, strict=True))
    assert [counts["common", split] for split in SPLITS] == [700, 150, 150]
    assert [counts["rare", split] for split in SPLITS] == [14, 3, 3]
    assert [counts["three", split] for split in SPLITS] == [1, 1, 1]
    assert found != divided(labels, list(range(len(labels))), SHARES, 1)


def test_persons_of_several_classes_are_dealt_out() -> None:
    labels = [label for label in "ab" for _ in range(200)]
    persons = [index // 10 for _ in "ab" for index in range(200)]
    found = divided(labels, persons, SHARES, 0)
    assert [found.count(split) for split in SPLITS] == [280, 60, 60]


def test_chains_of_equal_files_and_persons_are_one_group() -> None:
    assert together(["p", "", "p", "q", "q"], ["1", "2", "3", "3", "4"]) == [0, 1, 0, 0, 0]


@pytest.mark.parametrize("of", [Anomaly, Images, TimeSeries])
def test_something_is_left_for_training(of: Callable[..., Task]) -> None:
    task = of("synthetic", val_fraction=0.6, test_fraction=0.4)
    with pytest.raises(InputError, match=r"task.val_fraction: .*: nothing is left for training"):
        task.load()


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "no regular expression"), ("p.", "it has 0 groups"), ("(p)(.)", "it has 2 groups"), ("()p", "no group")],
)
def test_patterns_that_tell_no_group(pattern: str, message: str) -> None:
    with pytest.raises(InputError, match=f"task.group_pattern: .*{message}"):
        told_group(pattern, "p1_left.png", "people/p1_left.png")


def test_intervals_name_what_they_are_over() -> None:
    assert Images("synthetic").unit == "picture"
    assert Images("synthetic", group="person").unit == "person"
    assert Anomaly("synthetic", group_pattern=r"(m\d)").unit == "group"
    assert Segmentation("synthetic").unit == "image"
    assert Segmentation("synthetic", group_pattern=r"(drive\d)").unit == "group"


def test_anomalies_are_held_out_with_the_normal_recordings_of_their_machine(tmp_path: Path) -> None:
    labels = [label for machine in range(10) for label in ("normal", "normal", "rattle")]
    machines = [number // 3 for number in range(len(labels))]
    samples = [Sample(tmp_path, f"{number}.wav", label) for number, label in enumerate(labels)]
    splits, said = Anomaly("synthetic")._splits(samples, machines, "here")
    of_normal = {m: s for m, s, label in zip(machines, splits, labels, strict=True) if label == "normal"}
    of_anomalies = {m: s for m, s, label in zip(machines, splits, labels, strict=True) if label != "normal"}
    assert set(of_normal.values()) == set(SPLITS)
    assert all(of_anomalies[machine] == split for machine, split in of_normal.items() if split != "train")
    trained = [of_anomalies[machine] for machine, split in of_normal.items() if split == "train"]
    assert set(trained) == {"val", "test"}
    assert f"have anomalies, {len(trained)} of them" in said[-1]
    alone = list(range(len(labels)))  # each recording is a group of its own
    assert not any("groups" in line for line in Anomaly("synthetic")._splits(samples, alone, "here")[1])
