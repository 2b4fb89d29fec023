"""Which samples are trained, validated and tested on: classes as even as it goes, and groups whole."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from qanas.core.errors import InputError
from qanas.core.seeds import derive_seed

SPLITS = ("train", "val", "test")

SPLIT_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
"""What people call them, in small letters."""


def told_group(pattern: str, name: str, place: str) -> str:
    r"""Return what a sample belongs to, by its name: what the one group (...) of ``task.group_pattern`` finds in it.

    Args:
        pattern: a regular expression.
        name: of the sample.
        place: the sample, for messages.

    Raises:
        InputError: the pattern is none, or finds nothing.

    >>> told_group(r"(person\d)_", "person3_left.png", "person3_left.png")
    'person3'
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"task.group_pattern: no regular expression: {error}") from error
    if compiled.groups != 1:
        raise InputError(f"task.group_pattern: it has {compiled.groups} groups (...): give it the one that is wanted")
    match = compiled.search(name)
    if match is None or not match[1]:
        raise InputError(f"task.group_pattern: {place}: its name tells no group: mend the pattern or the name")
    return match[1]


def shares_held_out(val_fraction: float, test_fraction: float) -> dict[str, float]:
    """Return the shares of samples that are validated and tested on, by split.

    Raises:
        InputError: nothing is left for training.
    """
    if val_fraction + test_fraction >= 1:
        raise InputError("task.val_fraction: with task.test_fraction it is 1 or more: nothing is left for training")
    return {"val": val_fraction, "test": test_fraction}


def together(*keys: Sequence[str]) -> list[int]:
    """Return the number of each sample's group: samples that share any key are of one, and so on along chains.

    Args:
        keys: rows of n keys; an empty key is shared with nobody.

    >>> together(["a", "a", "b", ""], ["x", "y", "y", "z"])
    [0, 0, 0, 3]
    """
    pairs = []
    for row in keys:
        first: dict[str, int] = {}
        pairs += [(first.setdefault(key, place), place) for place, key in enumerate(row) if key]
    return linked(len(keys[0]), pairs)


def linked(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Return the number of each sample's group, its first sample: samples of a pair are of one, and so on along chains.

    Args:
        count: of samples.
        pairs: of samples, by their numbers.
    """
    parent = list(range(count))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for pair in pairs:
        low, high = sorted(map(root, pair))
        parent[high] = low
    return [root(place) for place in range(count)]


_FIRST, _OVERALL = 1e-2, 1e-3
"""What breaks ties between splits that lack as much of a class."""


def divided(labels: Sequence[str], groups: Sequence[int], shares: Mapping[str, float], seed: int) -> list[str]:
    """Return the split of each sample.

    Groups are dealt out, large ones first, else in random order, each to the split that lacks most of its classes, as a
    share of what it is to have. So every class of at least as many groups as there are splits is in all of them, and
    every class is in the first split.

    Args:
        labels: of the samples.
        groups: the number of each one's group; a group stays whole.
        shares: of every split, of which the sum is 1.
        seed: of the order.

    >>> divided(["a"] * 6 + ["b"] * 3, range(9), {"train": 0.6, "val": 0.2, "test": 0.2}, 0).count("train")
    4
    """
    if not labels:
        return []
    classes = {label: place for place, label in enumerate(sorted(set(labels)))}
    names = list(shares)
    numbers = {group: place for place, group in enumerate(sorted(set(groups)))}
    counts = np.zeros((len(numbers), len(classes)))
    np.add.at(counts, ([numbers[group] for group in groups], [classes[label] for label in labels]), 1)
    # Groups as shares of their classes, shape (groups, classes), and what of each class a split is to have.
    parts = counts / counts.sum(axis=0)
    wanted = np.array([shares[name] for name in names])[:, None]
    have = np.zeros((len(names), len(classes)))
    order = np.random.default_rng(derive_seed(seed, "splits")).permutation(len(numbers))
    chosen = np.zeros(len(numbers), np.intp)
    for group in sorted(order, key=lambda group: -round(counts[group].sum() / counts.sum(), 3)):
        lacking = (wanted - have) / wanted
        # Of equals the first split, as long as it has none of a class, else the one that lacks most in all.
        first = (have[0] == 0) * _FIRST * (np.arange(len(names)) == 0)[:, None]
        chosen[group] = int(
            np.argmax((lacking + first + _OVERALL * lacking.mean(axis=1, keepdims=True)) @ parts[group])
        )
        have[chosen[group]] += parts[group]
    return [names[chosen[numbers[group]]] for group in groups]


def completed(
    labels: Sequence[str],
    groups: Sequence[int],
    given: Sequence[str],
    held_out: Mapping[str, float],
    seed: int,
    place: str,
) -> tuple[list[str], list[str]]:
    """Return the split of each sample, and remarks: splits that are given stay, others are cut from the training data.

    Args:
        labels: of the samples.
        groups: the number of each one's group.
        given: its split, empty where there is none; all or none are.
        held_out: shares of val and test, where they are cut.
        seed: of the cut.
        place: the data, for messages.

    Raises:
        InputError: a split would be empty.
    """
    lacking = [name for name in ("val", "test") if name not in given]
    found = [name or "train" for name in given]
    if lacking:
        free = [index for index, name in enumerate(found) if name == "train"]
        shares = {"train": 1.0 - sum(held_out[name] for name in lacking)} | {name: held_out[name] for name in lacking}
        dealt = divided([labels[index] for index in free], [groups[index] for index in free], shares, seed)
        for index, name in zip(free, dealt, strict=True):
            found[index] = name
    for name in SPLITS:
        if name not in found:
            apart = len(set(groups))
            why = f", {apart} of them apart: a group stays together, and so do copies" if apart < len(labels) else ""
            raise InputError(
                f"{place}: nothing is left for {name}: {len(labels)} samples{why}; give more of each class, or splits "
                "of your own"
            )
    return found, _remarks(labels, groups, found)


def _remarks(labels: Sequence[str], groups: Sequence[int], splits: Sequence[str]) -> list[str]:
    lines = []
    there = {name: {label for label, split in zip(labels, splits, strict=True) if split == name} for name in SPLITS}
    for name in ("val", "test"):
        lacking = sorted(set(labels) - there[name])
        if lacking:
            lines.append(f"{name} has no {', '.join(lacking[:8])}: too few groups of it, nothing is known of it there")
    few = [f"{label} ({count})" for label, count in sorted(Counter(labels).items()) if count < len(SPLITS)]
    if few:
        lines.append(f"fewer than {len(SPLITS)} samples of {', '.join(few)}")
    for one, other in itertools.combinations(SPLITS, 2):
        shared = {g for g, s in zip(groups, splits, strict=True) if s == one}
        shared &= {g for g, s in zip(groups, splits, strict=True) if s == other}
        if shared:
            lines.append(f"{len(shared)} groups, or equal files, are in {one} and in {other}: scores will be too good")
    return lines
