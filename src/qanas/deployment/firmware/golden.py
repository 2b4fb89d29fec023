"""Golden vectors: what a model is given, from the raw input on where its front end has C, and what it has to answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.deployment.litert import Codes, LiteRTModel
from qanas.quantization.border import arrays_by_name
from qanas.quantization.numbers.affine import BYTE_BITS

MOST_DENSE_STEPS = 4
LSTM_STEPS = 2
WIDE_SOFTMAX_STEPS = 1
"""How far outputs in TFLite Micro's reference kernels were from LiteRT's at most, in tests over random networks,
torch's calls and the shipped architectures: by several FULLY_CONNECTED layers behind each other (one by itself: one
step), by fused LSTMs, and by a SOFTMAX of 16 bits. All other kernels are identical."""


GOLDEN_SAMPLES = 4
"""That firmware is given to check itself with."""


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


def tolerated_steps(operators: Mapping[str, int], bits: int) -> int:
    """Return how many steps TFLite Micro's reference kernels may be off in an output; 0: they are identical.

    Args:
        operators: how many of each kind the model has.
        bits: of the output's codes.

    >>> tolerated_steps({"CONV_2D": 4, "MEAN": 1}, 8), tolerated_steps({"CONV_2D": 4, "FULLY_CONNECTED": 1}, 8)
    (0, 1)
    """
    dense = min(operators.get("FULLY_CONNECTED", 0), MOST_DENSE_STEPS)
    steps = max(dense, LSTM_STEPS * ("UNIDIRECTIONAL_SEQUENCE_LSTM" in operators))
    if bits == BYTE_BITS:
        return steps
    return max(2 * steps, WIDE_SOFTMAX_STEPS * ("SOFTMAX" in operators))  # finer steps: more of them


def differing_kinds(operators: Iterable[str], bits: int) -> list[str]:
    """Return the kinds of operators that are why `tolerated_steps` isn't 0."""
    return [kind for kind in operators if tolerated_steps({kind: 1}, bits)]
