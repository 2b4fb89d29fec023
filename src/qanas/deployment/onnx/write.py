"""Writes a quantized graph as an ONNX model: the same integer weights, scales and zero points.

Values are int8 codes between QuantizeLinear and DequantizeLinear (QDQ), operators between them are ONNX's own in
floating point, which runtimes fuse into integer ones. Input and output are real numbers in the order that torch has.
"""

from __future__ import annotations

from collections.abc import Mapping

from qanas.deployment.onnx import elementwise, matrices, moving, windows
from qanas.deployment.onnx.builder import Builder
from qanas.deployment.onnx.lowerings import Lowering
from qanas.quantization.graph import INPUT
from qanas.quantization.operators.base import QuantizedOperator
from qanas.quantization.operators.lstm import QuantizedLSTM
from qanas.quantization.quantized_graph import QuantizedGraph

LOWERINGS: Mapping[type, Lowering] = {
    kind: lowering for home in (elementwise, matrices, moving, windows) for kind, lowering in home.LOWERINGS.items()
}
"""Every operator that ONNX has quantized."""


class UnsupportedOnnxError(Exception):
    """A network with an operator that ONNX doesn't have quantized: one line with the operator's name in the graph."""


def write_onnx(quantized: QuantizedGraph) -> bytes:
    """Return the bytes of the .onnx file of a quantized graph; the batch's size is left open.

    Raises:
        UnsupportedOnnxError: an operator that ONNX doesn't have quantized, or values of 16 bits.
    """
    graph, model = quantized.graph, Builder()
    _check_widths(quantized)
    rank = len(graph.input_shape) + 1
    orders = (graph.border.input.to_torch(rank), graph.border.output.to_torch(len(graph.shapes[graph.output]) + 1))
    model.place = INPUT
    values = {INPUT: model.start("input", graph.input_shape, orders[0], quantized.input)}
    for node in graph.nodes:
        operator = quantized.operators[node.name]
        lowering = _lowering(node.name, operator)
        model.place = node.name
        result = lowering(model, operator, [values[name] for name in node.inputs])
        if result.shape != graph.shapes[node.name]:
            raise ValueError(f"{node.name}: lowered to the shape {result.shape} instead of {graph.shapes[node.name]}")
        values[node.name] = model.quantized(result, quantized.affines[node.name])
    return model.model(values[INPUT], values[graph.output], orders)


def _check_widths(quantized: QuantizedGraph) -> None:
    wide = [name for name, affine in quantized.affines.items() if affine.wide]
    if wide:
        raise UnsupportedOnnxError(
            f"{wide[0]}: values of 16 bits are not written as ONNX; export the network as tflite, or with "
            "activation_bits = 8"
        )


def _lowering(name: str, operator: QuantizedOperator) -> Lowering:
    if isinstance(operator, QuantizedLSTM):
        raise UnsupportedOnnxError(
            f"{name}: ONNX has no integer LSTM, only one that quantizes anew at each step; export it as tflite"
        )
    found = LOWERINGS.get(type(operator))
    if found is None:
        kind = type(operator).__name__.removeprefix("Quantized")
        raise UnsupportedOnnxError(f"{name}: {kind} has no quantized form in ONNX; export the network as tflite")
    return found
