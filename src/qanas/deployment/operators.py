"""What deployment knows of the runtime's operators, a line each: in the file, in TFLite Micro's resolver, in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qanas.quantization.program import DType, RuntimeOperator, RuntimeTensor, bytes_of

LSTM_GATES = 4

Scratch = Callable[[RuntimeOperator], list[int]]
"""Returns the bytes of every buffer that TFLite Micro's reference kernel works in while it runs."""


def _no_scratch(operator: RuntimeOperator) -> list[int]:
    """Return nothing: most kernels ask for none."""
    del operator
    return []


def _mean_scratch(operator: RuntimeOperator) -> list[int]:
    """Return the sums (of codes only), a position in the input, and the axes, all int32."""
    source, axes = _present(operator.inputs[0]), _present(operator.inputs[1])
    sums = [] if source.dtype == "float32" else [operator.outputs[0].elements]
    return [bytes_of(count, "int32") for count in (*sums, len(source.shape), axes.elements)]


def _lstm_scratch(operator: RuntimeOperator) -> list[int]:
    """Return a buffer a gate, in the type of the cell."""
    output = operator.outputs[0]
    return [bytes_of(output.shape[-1], "int16" if output.dtype == "int8" else "float32")] * LSTM_GATES


def _unpacked_weights(operator: RuntimeOperator) -> list[int]:
    """Return a byte for each int4 weight: kernels unpack all of them each time they run."""
    weights = _present(operator.inputs[1])
    return [bytes_of(weights.elements, "int8")] if weights.dtype == "int4" else []


def _sums_of_outputs(operator: RuntimeOperator) -> list[int]:
    """Return a sum for each number of the output, int32, of codes of 16 bits int64; those of codes only."""
    output = operator.outputs[0]
    sums: DType = "int64" if output.dtype == "int16" else "int32"
    return [] if output.dtype == "float32" else [bytes_of(output.elements, sums)]


def _counts_of_axes(operator: RuntimeOperator) -> list[int]:
    """Return the numbers that a step along each axis skips, int32, in the input and in the output."""
    return [bytes_of(len(_present(operator.inputs[0]).shape), "int32")] * 2


def _positions_in_source(operator: RuntimeOperator) -> list[int]:
    """Return a position in the input and the axes, int32."""
    source, axes = _present(operator.inputs[0]), _present(operator.inputs[1])
    return [bytes_of(count, "int32") for count in (len(source.shape), axes.elements)]


def _present(tensor: RuntimeTensor | None) -> RuntimeTensor:
    if tensor is None:
        raise ValueError("an input is left out that the kernel needs")
    return tensor


@dataclass(frozen=True)
class OperatorKind:
    """A kind of operator.

    Attributes:
        resolver_method: of TFLite Micro's MicroMutableOpResolver, which registers it; empty where it has no such
            kernel, and LiteRT runs it in float32 alone.
        options: the name of its option table in the file format; None where it has none.
        scratch: what its kernel works in.
        further_bytes: that TFLite Micro keeps for one, beyond what it keeps for an operator of any kind.
        by_channel: whether it also keeps a multiplier and a shift, int32 each, for every output channel.
        sums_a_channel: that CMSIS-NN keeps beyond that, int32 each, for every output channel; TFLite Micro's own kernel
            has none, but the same arena has to do for both.
    """

    resolver_method: str
    options: str | None = None
    scratch: Scratch = _no_scratch
    further_bytes: int = 0
    by_channel: bool = False
    sums_a_channel: int = 0


OPERATOR_KINDS: Mapping[str, OperatorKind] = {
    "ABS": OperatorKind("AddAbs", "AbsOptions"),
    "ADD": OperatorKind("AddAdd", "AddOptions"),
    "ATAN2": OperatorKind(""),
    "AVERAGE_POOL_2D": OperatorKind("AddAveragePool2D", "Pool2DOptions"),
    "BATCH_MATMUL": OperatorKind("AddBatchMatMul", "BatchMatMulOptions"),
    "BROADCAST_TO": OperatorKind("AddBroadcastTo", "BroadcastToOptions"),
    "CAST": OperatorKind("AddCast", "CastOptions"),
    "CONCATENATION": OperatorKind("AddConcatenation", "ConcatenationOptions"),
    "CONV_2D": OperatorKind("AddConv2D", "Conv2DOptions", _unpacked_weights, further_bytes=32, by_channel=True),
    "COS": OperatorKind("AddCos"),
    "DEPTHWISE_CONV_2D": OperatorKind(
        "AddDepthwiseConv2D", "DepthwiseConv2DOptions", _unpacked_weights, further_bytes=32, by_channel=True
    ),
    "DEPTH_TO_SPACE": OperatorKind("AddDepthToSpace", "DepthToSpaceOptions"),
    "DIV": OperatorKind("AddDiv", "DivOptions"),
    "EXP": OperatorKind("AddExp", "ExpOptions"),
    "FLOOR": OperatorKind("AddFloor"),
    "FULLY_CONNECTED": OperatorKind("AddFullyConnected", "FullyConnectedOptions", _unpacked_weights, further_bytes=32),
    "GATHER": OperatorKind("AddGather", "GatherOptions"),
    "GELU": OperatorKind("", "GeluOptions"),
    "HARD_SWISH": OperatorKind("AddHardSwish", "HardSwishOptions"),
    "LEAKY_RELU": OperatorKind("AddLeakyRelu", "LeakyReluOptions"),
    "LOG": OperatorKind("AddLog"),
    "LOGISTIC": OperatorKind("AddLogistic"),
    "LOG_SOFTMAX": OperatorKind("AddLogSoftmax", "LogSoftmaxOptions"),
    "MAXIMUM": OperatorKind("AddMaximum", "MaximumMinimumOptions"),
    "MAX_POOL_2D": OperatorKind("AddMaxPool2D", "Pool2DOptions"),
    "MEAN": OperatorKind("AddMean", "ReducerOptions", _mean_scratch),
    "MINIMUM": OperatorKind("AddMinimum", "MaximumMinimumOptions"),
    "MIRROR_PAD": OperatorKind("AddMirrorPad", "MirrorPadOptions", _counts_of_axes),
    "MUL": OperatorKind("AddMul", "MulOptions"),
    "PACK": OperatorKind("AddPack", "PackOptions"),
    "PAD": OperatorKind("AddPad", "PadOptions"),
    "PADV2": OperatorKind("AddPadV2", "PadV2Options"),
    "POW": OperatorKind("", "PowOptions"),
    "PRELU": OperatorKind("AddPrelu"),
    "QUANTIZE": OperatorKind("AddQuantize", "QuantizeOptions"),
    "REDUCE_MAX": OperatorKind("AddReduceMax", "ReducerOptions", _positions_in_source),
    "REDUCE_MIN": OperatorKind("AddReduceMin", "ReducerOptions", _positions_in_source),
    "RELU": OperatorKind("AddRelu"),
    "RELU6": OperatorKind("AddRelu6"),
    "RESHAPE": OperatorKind("AddReshape", "ReshapeOptions"),
    "RESIZE_BILINEAR": OperatorKind("AddResizeBilinear", "ResizeBilinearOptions"),
    "RESIZE_NEAREST_NEIGHBOR": OperatorKind("AddResizeNearestNeighbor", "ResizeNearestNeighborOptions"),
    "REVERSE_V2": OperatorKind("AddReverseV2", "ReverseV2Options"),
    "RSQRT": OperatorKind("AddRsqrt"),
    "SIGN": OperatorKind("", "SignOptions"),
    "SIN": OperatorKind("AddSin"),
    "SOFTMAX": OperatorKind("AddSoftmax", "SoftmaxOptions"),
    "SPACE_TO_DEPTH": OperatorKind("AddSpaceToDepth", "SpaceToDepthOptions"),
    "SPLIT": OperatorKind("AddSplit", "SplitOptions"),
    "SQRT": OperatorKind("AddSqrt"),
    "STRIDED_SLICE": OperatorKind("AddStridedSlice", "StridedSliceOptions", further_bytes=32),
    "SUB": OperatorKind("AddSub", "SubOptions"),
    "TANH": OperatorKind("AddTanh"),
    "TRANSPOSE": OperatorKind("AddTranspose", "TransposeOptions"),
    "TRANSPOSE_CONV": OperatorKind(
        "AddTransposeConv", "TransposeConvOptions", _sums_of_outputs, further_bytes=32, by_channel=True
    ),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": OperatorKind(
        "AddUnidirectionalSequenceLSTM",
        "UnidirectionalSequenceLSTMOptions",
        _lstm_scratch,
        further_bytes=640,
        sums_a_channel=2 * LSTM_GATES,
    ),
    "UNPACK": OperatorKind("AddUnpack", "UnpackOptions"),
}
"""Every kind that a program can have, by the name of the builtin operator."""


def kind_of(name: str) -> OperatorKind:
    """Return what is known of a kind of operator.

    Raises:
        ValueError: nothing is.
    """
    if name not in OPERATOR_KINDS:
        raise ValueError(f"the runtime has no operator {name}, or qanas doesn't know what it takes")
    return OPERATOR_KINDS[name]
