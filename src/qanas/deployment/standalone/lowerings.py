"""From the runtime's operators to calls of C kernels: a line a kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qanas.deployment.standalone import layers, moves
from qanas.deployment.standalone.emitter import Emitter
from qanas.quantization.program import RuntimeOperator

Emit = Callable[[Emitter, RuntimeOperator], None]


def _nothing(operator: RuntimeOperator) -> int:
    del operator
    return 0


@dataclass(frozen=True)
class Lowering:
    """How a kind of operator is computed.

    Attributes:
        emit: appends its calls.
        scratch: the bytes that it works in.
    """

    emit: Emit
    scratch: Callable[[RuntimeOperator], int] = _nothing


LOWERINGS: Mapping[str, Lowering] = {
    "FULLY_CONNECTED": Lowering(layers.fully_connected),
    "RESHAPE": Lowering(moves.move),
    "SPLIT": Lowering(moves.move),
    "STRIDED_SLICE": Lowering(moves.move),
    "TRANSPOSE": Lowering(moves.move),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Lowering(layers.lstm, layers.lstm_scratch),
    "UNPACK": Lowering(moves.move),
}
"""Every kind that there is a kernel for, by the name of the builtin operator."""
