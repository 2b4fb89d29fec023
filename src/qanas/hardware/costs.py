"""Costs of a network as it ships, read off the graph before any weight exists."""

from __future__ import annotations

from collections.abc import Callable

from qanas.deployment.tflite import write_tflite
from qanas.hardware.memory import peak_ram_bytes
from qanas.quantization.graph import Graph
from qanas.quantization.program import Program
from qanas.quantization.quantized_graph import QuantizedGraph

SHIPPED_COSTS: tuple[str, ...] = (
    "weight_bytes",
    "packed_weight_bytes",
    "file_bytes",
    "peak_ram_bytes",
    "macs",
)
"""Costs of the quantized network; with ``float_`` in front, of the FP32 one."""

FLOAT_PREFIX = "float_"

COSTS: tuple[str, ...] = (*SHIPPED_COSTS, *(FLOAT_PREFIX + name for name in SHIPPED_COSTS))
"""The costs that are known from shapes alone."""

_ADDITIVE = ("weight_bytes", "packed_weight_bytes", "macs")
ADDITIVE_COSTS: tuple[str, ...] = (*_ADDITIVE, *(FLOAT_PREFIX + name for name in _ADDITIVE))
"""Costs of a network that are the sums of its layers' costs."""

LATENCY = "latency_ms"
"""Measured on a device, so known before training but not the same twice."""

SCALE_BYTES = 4
WHOLE_BITS = 32
"""Biases, indices and float weights are never packed."""


def weight_bytes(program: Program) -> int:
    """Return the bytes of every constant that the file stores: weights, biases and the indices of slices."""
    return sum(tensor.stored_bytes for tensor in program.constants())


def packed_weight_bytes(program: Program) -> int:
    """Return ceil(parameters * bits / 8) + biases + scales of the weights, in bytes: what papers count.

    Differs from `weight_bytes` by the scales, and below 8 bits, where the file stores a weight a byte; int4 tensors
    hold two.
    """
    total = 0
    for tensor in program.constants():
        if tensor.bits <= 0:
            raise ValueError(f"a constant of shape {tensor.shape} doesn't say how many bits it needs")
        total += -(-tensor.elements * tensor.bits // 8)
        if tensor.quantization is not None and tensor.bits < WHOLE_BITS:
            total += SCALE_BYTES * len(tensor.quantization.scales)
    return total


def _additive(program: Program, macs: int) -> dict[str, float]:
    return {
        "weight_bytes": float(weight_bytes(program)),
        "packed_weight_bytes": float(packed_weight_bytes(program)),
        "macs": float(macs),
    }


def _all(program: Program, macs: int) -> dict[str, float]:
    whole = {"file_bytes": float(len(write_tflite(program))), "peak_ram_bytes": float(peak_ram_bytes(program))}
    costs = _additive(program, macs) | whole
    return {name: costs[name] for name in SHIPPED_COSTS}


def costs_of(graph: Graph, quantized: QuantizedGraph) -> dict[str, float]:
    """Return every cost of `COSTS`.

    Args:
        graph: the FP32 network; its weights don't matter.
        quantized: the same network quantized; its ranges don't matter.
    """
    return _both(_all, graph, quantized)


def additive_costs_of(graph: Graph, quantized: QuantizedGraph) -> dict[str, float]:
    """Return those of `ADDITIVE_COSTS`; arguments as of `costs_of`."""
    return _both(_additive, graph, quantized)


def _both(
    costs: Callable[[Program, int], dict[str, float]], graph: Graph, quantized: QuantizedGraph
) -> dict[str, float]:
    floating = costs(graph.program(), graph.macs)
    return costs(quantized.program(), graph.macs) | {FLOAT_PREFIX + name: value for name, value in floating.items()}
