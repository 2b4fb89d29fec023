"""A device's file from measured pairs: networks, and the milliseconds that they take there."""

from __future__ import annotations

import csv
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tomli_w

from qanas.core.errors import InputError
from qanas.core.run_folder import write_atomically
from qanas.deployment.tflite_reader import read_tflite
from qanas.hardware.latency.analytic import Analytic, Term, counts, fitted
from qanas.hardware.work import work_of
from qanas.regression.ranking import spearman

FEWEST = 5
"""Pairs; of fewer, none can be held against the others."""

PAIRS_A_TERM = 2
"""That a further number wants."""

COLUMNS = ("network", "ms")

FITTED = "networks that were measured on it"
"""How the description of a device's file ends that was fitted: one may be fitted anew."""

CYCLES_OF_A_MS = 1e3
"""At 1 MHz."""


@dataclass(frozen=True)
class Pair:
    """A network that was measured.

    Attributes:
        network: the path of its .tflite file, as the table has it.
        ms: that one inference takes.
        counts: how many of each term it has.
    """

    network: str
    ms: float
    counts: Mapping[Term, float]


@dataclass(frozen=True)
class Fit:
    """A formula, and how well it tells what it wasn't fitted to.

    Attributes:
        pairs: that it was fitted to.
        cycles: of one of each term.
        held_out: milliseconds of each pair by a formula that was fitted to the others.
    """

    pairs: Sequence[Pair]
    cycles: Mapping[Term, float]
    held_out: Sequence[float]

    @property
    def errors(self) -> list[float]:
        """How far off each held-out pair is, relative to what was measured."""
        return [said / pair.ms - 1 for said, pair in zip(self.held_out, self.pairs, strict=True)]

    @property
    def rank(self) -> float:
        """Spearman's correlation of held-out and measured milliseconds; nan where all are alike."""
        return spearman(np.array(self.held_out), np.array([pair.ms for pair in self.pairs]))

    @property
    def described(self) -> str:
        """All of it in one line, for the device's file."""
        off = np.abs(self.errors)
        return (
            f"least squares of relative errors over {len(self.pairs)} measured networks; each told from the others: "
            f"off by {off.mean():.1%} on average, {off.max():.1%} at most, rank {self.rank:.3f}"
        )


def read_pairs(path: Path) -> list[Pair]:
    """Return the pairs of a table with a column ``network``, a .tflite file beside it or anywhere, and one ``ms``.

    Raises:
        InputError: it isn't such a table; one line that names the row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    lacking = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if lacking:
        raise InputError(f"{path}: it has no column {lacking[0]!r}; its first line has to be {','.join(COLUMNS)}")
    return [_pair(path, number, row) for number, row in enumerate(rows, 2)]


def _pair(path: Path, number: int, row: Mapping[str, str | None]) -> Pair:
    network, text = ((row[name] or "").strip() for name in COLUMNS)
    try:
        ms = float(text)
    except ValueError:
        ms = math.nan
    if not (math.isfinite(ms) and ms > 0):
        raise InputError(f"{path}, line {number}: ms is {text!r}, no positive number")
    try:
        content = (path.parent / network).read_bytes()
        return Pair(network, ms, counts([work_of(operator) for operator in read_tflite(content).operators]))
    except OSError as error:
        raise InputError(f"{path}, line {number}: {network}: {error.strerror}") from error
    except (InputError, ValueError) as error:
        raise InputError(f"{path}, line {number}: {network}: {error}") from error


def fit(pairs: Sequence[Pair], clock_mhz: float) -> Fit:
    """Fit cycles of multiply-accumulates, bytes and operators to pairs.

    As many terms as there are pairs for, the kinds of kernels with most work first; the rest counts as convolutions.

    Args:
        pairs: measured.
        clock_mhz: that milliseconds are turned into cycles with.

    Raises:
        InputError: they are too few.
    """
    if len(pairs) < FEWEST:
        raise InputError(f"{len(pairs)} measured networks are too few for a formula: measure {FEWEST} at least")
    points = [(pair.counts, pair.ms * clock_mhz * CYCLES_OF_A_MS) for pair in pairs]
    terms = _terms(pairs)[: len(pairs) // PAIRS_A_TERM]
    held_out = []
    for place, (numbers, _) in enumerate(points):
        cycles = fitted(points[:place] + points[place + 1 :], terms)
        others = Analytic(method="analytic", source="the others", cycles=cycles)
        held_out.append(others.of_counts(numbers) / (clock_mhz * CYCLES_OF_A_MS))
    return Fit(pairs, fitted(points, terms), held_out)


def _terms(pairs: Sequence[Pair]) -> list[Term]:
    """Return the terms that are there, in the order in which they are taken."""
    total: dict[Term, float] = {}
    for pair in pairs:
        for term, number in pair.counts.items():
            total[term] = total.get(term, 0.0) + number
    kinds: list[Term] = ["depthwise", "dense", "recurrent"]
    kinds.sort(key=lambda term: -total.get(term, 0.0))
    by_work = [term for term in kinds if total.get(term)]
    others: list[Term] = [term for term in ("operator", "byte") if total.get(term)]
    # Kinds without a number of their own count as convolutions, so these always have one.
    return ["convolution", *by_work[:1], *others[:1], *by_work[1:], *others[1:]]


def require_own(path: Path) -> None:
    """Refuse to write a device's file where another one is, before anything is fitted.

    Raises:
        InputError: the name is none of a device's file, or something is there that no fit wrote.
    """
    if path.suffix != ".toml":
        raise InputError(f"--out {path}: a device's file is written there; name it *.toml")
    if not path.exists():
        return
    try:
        told = tomllib.loads(path.read_text("utf-8")).get("description")
    except (OSError, ValueError, RecursionError):
        told = None
    if not (isinstance(told, str) and told.endswith(FITTED)):
        raise InputError(f"--out {path}: something is there that no fit wrote; name another file")


def write_device(path: Path, found: Fit, clock_mhz: float) -> None:
    """Write a device's file of a fit, each pair among its published points; it is called as the file."""
    name = re.sub(r"[^a-z0-9_.-]+", "-", path.stem.lower()).lstrip("-_.") or "device"
    content = {
        "version": 2,
        "name": name,
        "description": f"{path.stem}, by a formula of {len(found.pairs)} {FITTED}",
        "clock_mhz": clock_mhz,
        "latency": {"method": "analytic", "source": found.described, "cycles": dict(found.cycles)},
        "published": [
            {"network": pair.network, "ms": pair.ms, "counts": dict(pair.counts), "source": "measured"}
            for pair in found.pairs
        ],
    }
    write_atomically(path, tomli_w.dumps(content).encode())
