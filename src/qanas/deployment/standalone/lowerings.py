"""From the runtime's operators to calls of C kernels: a line a kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qanas.deployment.standalone import convolutions, elementwise, layers, moves, reductions
from qanas.deployment.standalone.emitter import Emitter
from qanas.deployment.standalone.fusing import LOOK_UP
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
    "ABS": Lowering(elementwise.rescaled),
    "ADD": Lowering(elementwise.of_two),
    "AVERAGE_POOL_2D": Lowering(convolutions.pool),
    "BATCH_MATMUL": Lowering(layers.matrix_product),
    "BROADCAST_TO": Lowering(moves.copied),
    "CONCATENATION": Lowering(moves.join),
    "CONV_2D": Lowering(convolutions.convolution, convolutions.convolution_scratch),
    "DEPTHWISE_CONV_2D": Lowering(convolutions.depthwise),
    "DEPTH_TO_SPACE": Lowering(moves.copied),
    "FULLY_CONNECTED": Lowering(layers.fully_connected),
    "HARD_SWISH": Lowering(elementwise.looked_up),
    "LEAKY_RELU": Lowering(elementwise.rescaled),
    "LOGISTIC": Lowering(elementwise.looked_up),
    "LOG_SOFTMAX": Lowering(reductions.softmax),
    LOOK_UP: Lowering(elementwise.in_table),
    "MAXIMUM": Lowering(elementwise.of_two),
    "MAX_POOL_2D": Lowering(convolutions.pool),
    "MEAN": Lowering(reductions.reduction),
    "MINIMUM": Lowering(elementwise.of_two),
    "MIRROR_PAD": Lowering(moves.mirror_pad),
    "MUL": Lowering(elementwise.of_two),
    "PACK": Lowering(moves.join),
    "PAD": Lowering(moves.pad),
    "PADV2": Lowering(moves.pad),
    "PRELU": Lowering(elementwise.of_two),
    "QUANTIZE": Lowering(elementwise.rescaled),
    "REDUCE_MAX": Lowering(reductions.reduction),
    "REDUCE_MIN": Lowering(reductions.reduction),
    "RELU": Lowering(elementwise.rescaled),
    "RELU6": Lowering(elementwise.rescaled),
    "RESHAPE": Lowering(moves.move),
    "RESIZE_BILINEAR": Lowering(reductions.bilinear),
    "RESIZE_NEAREST_NEIGHBOR": Lowering(reductions.nearest),
    "REVERSE_V2": Lowering(moves.copied),
    "SOFTMAX": Lowering(reductions.softmax),
    "SPACE_TO_DEPTH": Lowering(moves.copied),
    "SPLIT": Lowering(moves.move),
    "STRIDED_SLICE": Lowering(moves.move),
    "SUB": Lowering(elementwise.of_two),
    "TANH": Lowering(elementwise.looked_up),
    "TRANSPOSE": Lowering(moves.move),
    "TRANSPOSE_CONV": Lowering(convolutions.transposed),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Lowering(layers.lstm, layers.lstm_scratch),
    "UNPACK": Lowering(moves.move),
}
"""Every kind that there is a kernel for, by the name of the builtin operator."""
