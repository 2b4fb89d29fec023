"""Which samples are copies of one another that differ in a few bytes: saved again in another format, size or quality.

A file becomes a short print, made by its task. What all files have in common is taken off the prints, so that pictures
of one camera or sounds of one machine aren't alike by their background; two files are copies where what is left points
in the same direction. Files that hold next to nothing, such as silence, are like no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qanas.tasks.samples import FloatArray
from qanas.tasks.splits import linked

FARTHEST = 0.12
"""The largest distance of two prints of length 1 that are of copies: a cosine of 0.993."""

_FAINT = 1e-2
"""A print that is shorter than this share of the set's typical one is of a file that holds next to nothing."""

_AXES = 24
"""Principal axes that prints are compared along first: distances along them are never larger than whole ones."""

_BLOCK = 1024


@dataclass(frozen=True)
class Likeness:
    """Which files are copies of one another, if not byte by byte.

    Attributes:
        keys: equal for copies; empty for files that have none.
        pairs: of copies, by their numbers.
        crowd: files that resemble so many others that they can't be kept together.
    """

    keys: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    crowd: int = 0


def likeness(prints: FloatArray, digests: Sequence[str], most: int) -> Likeness:
    """Return which files are nearly, but not quite, equal.

    Args:
        prints: shape (n, values).
        digests: of the n files: of equal ones the first is looked at.
        most: files that can be kept together: more of them are no copies, but views of one scene.
    """
    first: dict[str, int] = {}
    for place, digest in enumerate(digests):
        first.setdefault(digest, place)
    alone = list(first.values())
    pairs = [(alone[one], alone[other]) for one, other in _close(prints[alone])]
    roots = linked(len(digests), pairs)
    sizes = Counter(roots)
    crowds = {root for root, size in sizes.items() if size > max(most, 2)}
    keys = tuple(f"like {root}" if sizes[root] > 1 and root not in crowds else "" for root in roots)
    kept = tuple(pair for pair in pairs if roots[pair[0]] not in crowds)
    return Likeness(keys, kept, sum(sizes[root] for root in crowds))


def near_remarks(
    what: str, names: Sequence[str], groups: Sequence[str], splits: Sequence[str], alike: Likeness
) -> list[str]:
    """Say which samples are nearly equal, and what was made of that.

    Args:
        what: they are, in the plural.
        names: of the samples.
        groups: that people say they are of; empty where none is given.
        splits: where each is.
        alike: which are.
    """
    lines = []
    if alike.pairs:
        one, other = (names[place] for place in alike.pairs[0])
        count = len({place for pair in alike.pairs for place in pair})
        apart = sum(splits[one] != splits[other] for one, other in alike.pairs)
        kept = "kept in one split" if not apart else f"{apart} pairs are in two splits: scores will be too good"
        torn = sum(groups[one] != groups[other] for one, other in alike.pairs)
        told = f"; {torn} pairs are of two groups" if torn else ""
        lines.append(f"{count} {what} are nearly equal to another one, such as {other} and {one}: {kept}{told}")
    if alike.crowd:
        lines.append(
            f"{alike.crowd} {what} are so alike that they fit into no split: are they of few scenes? Say what "
            "belongs together by a column, task.group, or by task.group_pattern"
        )
    return lines


def _close(prints: FloatArray) -> Iterator[tuple[int, int]]:
    """Yield the numbers of prints that are closer than `FARTHEST`, the smaller one first.

    Args:
        prints: shape (n, values).
    """
    own = prints - prints.mean(axis=0)
    lengths = np.linalg.norm(own, axis=1)
    told = np.flatnonzero(lengths > _FAINT * np.median(lengths)) if len(own) else np.zeros(0, np.intp)
    if len(told) < 2:  # noqa: PLR2004 - of a pair
        return
    units = own[told] / lengths[told, None]
    axes = np.linalg.eigh(units.T @ units)[1][:, ::-1][:, :_AXES]
    seen = units @ axes
    order = np.argsort(seen[:, 0], kind="stable")
    seen, units, told = seen[order], units[order], told[order]
    for start in range(0, len(seen), _BLOCK):
        block = seen[start : start + _BLOCK]
        end = int(np.searchsorted(seen[:, 0], block[-1, 0] + FARTHEST, side="right"))
        others = seen[start:end]
        squares = (block**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * block @ others.T
        # Sums in single precision: a little more is let through to the whole comparison.
        for one, other in np.argwhere(np.triu(squares < FARTHEST**2 + 1e-4, 1)).tolist():
            if np.linalg.norm(units[start + one] - units[start + other]) < FARTHEST:
                low, high = sorted((int(told[start + one]), int(told[start + other])))
                yield low, high
