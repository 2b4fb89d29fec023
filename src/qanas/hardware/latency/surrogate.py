"""Latency of operators that nobody measured, predicted from those of a table (after Stolle et al.: boosted trees)."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from qanas.core.errors import InputError
from qanas.deployment.tflite_reader import read_tflite
from qanas.hardware.latency.base import Figure, LatencySource
from qanas.hardware.latency.table import TableFile, signature
from qanas.hardware.work import work_of
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor
from qanas.regression.ranking import spearman

EXTRA = "surrogate"
FOLDS = 10
FEWEST = 3 * FOLDS
"""Operators of a table; a surrogate of fewer can't be held against any."""

TREES = {"n_estimators": 200, "max_depth": 4, "learning_rate": 0.1, "subsample": 0.7, "random_state": 0}

Floats = NDArray[np.float64]


class Surrogate(LatencySource):
    """A table whose gaps are filled by boosted trees on what an operator does and the shapes that it does it on.

    Before it is believed, each tenth of the table is predicted from the others: below a bar it refuses, and the card
    has what came out.

    Attributes:
        path: of the table's file; relative ones start from the device's file.
        least_rank: Spearman's correlation of held-out operators below which it refuses.
    """

    method: Literal["surrogate"]
    path: str
    least_rank: float = Field(default=0.9, ge=0, le=1)

    @property
    def _fitted(self) -> Fitted:
        try:
            content = Path(self.path).read_bytes()
        except OSError as error:
            raise InputError(f"device.latency.path: {self.path}: {error.strerror}; qanas table makes one") from error
        fitted = _fit(self.path, hashlib.sha256(content).hexdigest())
        if not fitted.rank >= self.least_rank:  # nan where a table's operators all take the same time
            raise InputError(
                f"{self.path}: held-out operators are ranked at {fitted.rank:.2f} only, below {self.least_rank:g}: "
                "take more by qanas table, or lower device.latency.least_rank"
            )
        return fitted

    @property
    def figure(self) -> Figure:
        """What the table counts."""
        return TableFile.read(Path(self.path)).figure

    @property
    def additive(self) -> bool:
        """It is."""
        return True

    @property
    def digest(self) -> str:
        """Changes with the table's content, and with the bar."""
        return f"{TableFile.read(Path(self.path)).digest}-{self.least_rank:g}"

    @property
    def described(self) -> str:
        """The table, and how well held-out operators were predicted."""
        fitted, table = self._fitted, TableFile.read(Path(self.path))
        held_out = f"held-out operators: rank {fitted.rank:.3f}, off by {fitted.error:.0%}"
        made_of = f"{len(table.values)} operators of {table.device}, {table.date}{table.sums}"
        return f"predicted from {made_of}; {held_out}"

    def of(self, contents: Sequence[bytes]) -> list[float]:
        """Return the sum over each file's operators: looked up, and predicted where the table lacks them.

        Raises:
            InputError: it is no .tflite file, or the surrogate is not to be believed.
        """
        overhead = TableFile.read(Path(self.path)).overhead
        return [overhead + sum(found) for found in self._by_operator([read_tflite(content) for content in contents])]

    def by_operator(self, program: Program) -> list[float]:
        """Return what each operator takes, measured or predicted.

        Raises:
            InputError: it is of a kind that the table lacks, or the surrogate is not to be believed.
        """
        return self._by_operator([program])[0]

    def _by_operator(self, programs: Sequence[Program]) -> list[list[float]]:
        """Return the same of several programs, whose gaps are predicted at once."""
        fitted = self._fitted
        networks = [[signature(operator) for operator in program.operators] for program in programs]
        asked = {name for network in networks for name in network}
        known = {**fitted.known, **fitted.predicted(sorted(asked - fitted.known.keys()))}
        return [[known[name] for name in network] for network in networks]


@dataclass(frozen=True)
class Fitted:
    """A surrogate, ready.

    Attributes:
        known: what was measured, by signature.
        kinds: of operators, in the order of the features.
        model: of the logarithm of their time.
        rank: Spearman's correlation over held-out operators.
        error: their mean relative error.
    """

    known: Mapping[str, float]
    kinds: Sequence[str]
    model: Any
    rank: float
    error: float

    def predicted(self, names: Sequence[str]) -> dict[str, float]:
        """Return what operators take, by signature."""
        if not names:
            return {}
        strange = [kind for kind in (json.loads(name)[0] for name in names) if kind not in self.kinds]
        if strange:
            raise InputError(f"the table has no {strange[0]}: a surrogate knows kinds of operators that were measured")
        values = np.exp(self.model.predict(np.stack([features(name, self.kinds) for name in names])))
        return dict(zip(names, map(float, values), strict=True))


@functools.lru_cache(maxsize=8)
def _fit(path: str, digest: str) -> Fitted:
    """Return the surrogate of a table; ``digest`` is of its content."""
    del digest
    try:
        from sklearn.ensemble import GradientBoostingRegressor
    except ImportError as error:
        raise InputError(f"device.latency: surrogates need scikit-learn; pip install 'qanas[{EXTRA}]'") from error
    known = TableFile.read(Path(path)).values
    if len(known) < FEWEST:
        raise InputError(
            f"{path}: {len(known)} operators are too few for a surrogate; {FEWEST} at least, by qanas table"
        )
    names = sorted(known)
    kinds = sorted({json.loads(name)[0] for name in names})
    inputs = np.stack([features(name, kinds) for name in names])
    targets = np.log([known[name] for name in names])
    order = np.random.default_rng(0).permutation(len(names))
    held_out = np.zeros(len(names))
    for fold in range(FOLDS):
        tested = order[fold::FOLDS]
        trained = np.setdiff1d(order, tested)
        model = GradientBoostingRegressor(**TREES).fit(inputs[trained], targets[trained])
        held_out[tested] = model.predict(inputs[tested])
    off = float(np.abs(np.exp(held_out - targets) - 1).mean())
    model = GradientBoostingRegressor(**TREES).fit(inputs, targets)
    return Fitted(known, kinds, model, spearman(held_out, targets), off)


def features(name: str, kinds: Sequence[str]) -> Floats:
    """Return an operator's features: sizes as logarithms, kernel, stride, how channels fit vectors, its kind.

    Args:
        name: its signature.
        kinds: that there are.
    """
    operator = _rebuilt(name)
    work = work_of(operator)
    given = next(t for t in operator.inputs if t is not None and t.data is None)
    constant = next((t for t in operator.inputs if t is not None and t.data is not None), None)
    output = operator.outputs[0]
    (places_in, channels_in), (places_out, channels_out) = _laid_out(given.shape), _laid_out(output.shape)
    kernel = constant.shape[1] if constant is not None and len(constant.shape) == 4 else 0  # noqa: PLR2004 - image kernels
    sizes = [work.macs, work.moved_bytes, work.weight_bytes, places_in, channels_in, places_out, channels_out]
    fits = [channels % width for channels in (channels_in, channels_out) for width in (4, 8, 16)]
    return np.array(
        [*np.log1p(sizes), kernel, places_in / places_out, *fits, *(operator.kind == kind for kind in kinds)],
        np.float64,
    )


def _laid_out(shape: Sequence[int]) -> tuple[int, int]:
    """Return the positions and the channels of a value, shape (1, ..., channels)."""
    return max(1, int(np.prod(shape[:-1], dtype=np.int64))), max(1, shape[-1] if shape else 1)


def _rebuilt(name: str) -> RuntimeOperator:
    """Return an operator with shapes and types as its signature tells; its constants have no values."""
    kind, options, inputs, outputs = json.loads(name)

    def tensor(told: list[Any] | None) -> RuntimeTensor | None:
        if told is None:
            return None
        shape, dtype, constant = told
        return RuntimeTensor(tuple(shape), dtype, None, np.zeros(0) if constant else None)

    made = [tensor(told) for told in outputs]
    return RuntimeOperator(kind, 1, [tensor(told) for told in inputs], [t for t in made if t is not None], options)
