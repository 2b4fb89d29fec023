"""Golden vectors: what a model is given, from the raw input on where its front end has C, and what it has to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.deployment.litert import Codes, LiteRTModel
from qanas.deployment.operators import kind_of
from qanas.quantization.border import arrays_by_name

SOFTMAX_STEPS = 1
"""Of outputs with 16 bits behind a SOFTMAX."""


@dataclass(frozen=True)
class GoldenVectors:
    """Inputs and the outputs that LiteRT's reference kernels give for them, states reset before each.

    Attributes:
        inputs: int8 or int16 codes, each of shape (n, *shape), by the inputs' names.
        outputs: int8 or int16 codes, each of shape (n, *shape), by the outputs' names.
        raw: what the only input was made of, n arrays of shape (rows, row_size); empty where that isn't known.
    """

    inputs: Mapping[str, Codes]
    outputs: Mapping[str, Codes]
    raw: Sequence[NDArray[Any]] = field(default=())

    @classmethod
    def record(
        cls,
        model: LiteRTModel,
        inputs: NDArray[np.float32] | Mapping[str, NDArray[np.float32]],
        raw: Sequence[NDArray[Any]] = (),
    ) -> GoldenVectors:
        """Run a model on the torch network's real inputs, each of shape (n, *shape), by name where there are several.

        What is recorded is in the stored order.
        """
        codes = model.quantize(arrays_by_name(inputs, model.border.input_names))
        count = len(next(iter(codes.values())))
        found = [model.invoke({name: part[at : at + 1] for name, part in codes.items()}) for at in range(count)]
        return cls(codes, {name: np.concatenate([entry[name] for entry in found]) for name in model.outputs}, raw)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(next(iter(self.inputs.values())))


def tolerated_steps(kinds: Sequence[str], bits: int) -> int:
    """Return how many steps TFLite Micro's reference kernels may be off in an output; 0: they are identical.

    It is what was measured, see `OperatorKind.steps_apart`.

    Args:
        kinds: of the model's operators.
        bits: of the output's codes.

    >>> tolerated_steps(["CONV_2D", "MEAN"], 8), tolerated_steps(["CONV_2D", "FULLY_CONNECTED"], 8)
    (0, 1)
    """
    steps = max((kind_of(kind).steps_apart for kind in kinds), default=0)
    if bits == 16:  # noqa: PLR2004 - finer steps: more of them
        steps = max(2 * steps, SOFTMAX_STEPS * ("SOFTMAX" in kinds))
    return steps
