"""One operator, or a few, between random scales: simulated and float programs against LiteRT's reference kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.deployment.litert import Codes, LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.quantization.border import INPUT
from qanas.quantization.graph import Graph, Node
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.rescaling import Quantize
from qanas.quantization.operators.shapes import Slice
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.testing.properties import expect

Range = tuple[float, float]

AT_THE_ENDS, NEAR_ZERO = 0.1, 0.3
"""Shares of random codes: at the ends; there or near zero."""

INT8, INT16 = Scheme(), Scheme(activation_bits=16)


def chain(shape: Sequence[int], *operators: Operator) -> Graph:
    """Return operators one behind the other, for samples of a shape."""
    names = [INPUT, *(f"node_{position}" for position in range(len(operators)))]
    nodes = (
        Node(name, operator, (names[position],))
        for position, (name, operator) in enumerate(zip(names[1:], operators, strict=True))
    )
    return Graph({INPUT: tuple(shape)}, tuple(nodes), (names[-1],))


def of_parts(operator: Operator, shape: Sequence[int], *parts: Slice) -> Graph:
    """Return an operator of several parts of an input of a shape, each part with a scale of its own."""
    nodes: list[Node] = []
    for position, part in enumerate(parts):
        nodes += [
            Node(f"slice_{position}", part, (INPUT,)),
            Node(f"part_{position}", Quantize(), (f"slice_{position}",)),
        ]
    nodes.append(Node("result", operator, tuple(f"part_{position}" for position in range(len(parts)))))
    return Graph({INPUT: tuple(shape)}, tuple(nodes), ("result",))


@dataclass(frozen=True)
class Deployed:
    """A quantized graph and its file in LiteRT.

    Attributes:
        quantized: the simulation.
        content: the file.
    """

    quantized: QuantizedGraph
    content: bytes

    @classmethod
    def of(cls, graph: Graph, ranges: dict[str, Range], scheme: Scheme = INT8) -> Deployed:
        """Quantize with ranges by value, in place of calibrated ones."""
        bounds = {name: Ranges(pair, {}) for name, pair in ranges.items()}
        quantized = QuantizedGraph.quantize(graph, bounds, scheme)
        return cls(quantized, write_tflite(quantized.program()))

    def differing_codes(self, codes: Codes) -> int:
        """Count simulated codes that are not the runtime's, for input codes (n, *input_shape)."""
        runtime = LiteRTModel(self.content)
        expect(runtime.input == self.quantized.input, f"the file's input has {runtime.input}")
        expect(runtime.output == self.quantized.output, f"the file's output has {runtime.output}")
        real = self.quantized.input.dequantize(torch.from_numpy(codes.astype(np.float32)))
        simulated = self.quantized.codes(real).numpy()
        fast = self.quantized.codes(real, "fast").numpy()
        expect(
            np.array_equal(simulated, fast), f"{np.count_nonzero(simulated != fast)} codes differ in fast arithmetic"
        )
        deployed = np.concatenate([runtime.invoke(sample[None]) for sample in codes])
        expect(simulated.shape == deployed.shape, f"codes of {simulated.shape}, the runtime's of {deployed.shape}")
        return int(np.count_nonzero(simulated != deployed))


class Randomness:
    """Seeded draws of what checks need."""

    def __init__(self, seed: int) -> None:
        """Start."""
        self.generator = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        """Return a number from ``low`` to ``high``, both included."""
        return int(self.generator.integers(low, high + 1))

    def range(self, decades: float = 2.0) -> Range:
        """Return a range of any size and sign: about zero, from zero, all below it, and without any width."""
        size = 10.0 ** self.generator.uniform(-decades, decades)
        low, high = sorted(self.generator.uniform(-1.0, 1.0, 2))
        kind = self.generator.choice(["any", "about", "positive", "negative", "zero"], p=[0.3, 0.3, 0.16, 0.16, 0.08])
        bounds = {"any": (low, high), "about": (-1.0, 1.0), "positive": (0.0, 1.0), "negative": (-1.0, 0.0)}
        low, high = bounds.get(kind, (0.0, 0.0))
        return float(low * size), float(high * size)

    def decimal_range(self) -> Range:
        """Return a range whose scale is a round decimal fraction: quotients of such scales make many exact ties."""
        scale = float(self.generator.choice([0.1, 0.2, 0.3, 0.05, 0.02, 0.6, 0.7, 0.25, 1.5]))
        zero_point = self.integer(-128, 127)
        return scale * (-128 - zero_point), scale * (127 - zero_point)

    def range_about(self, affine: Affine) -> Range:
        """Return a range that is a fraction or a multiple of what some codes reach."""
        size = float(affine.scale * 255.0 * 10.0 ** self.generator.uniform(-1.5, 1.0))
        low, high = sorted(self.generator.uniform(-1.0, 1.0, 2))
        return float(low * size), float(high * size)

    def wide_codes(self, samples: int, shape: Sequence[int]) -> NDArray[np.int16]:
        """Return codes of 16 bits, shape (samples, *shape), some of them at the ends, others near 0."""
        codes = self.generator.integers(-(1 << 15), 1 << 15, (samples, *shape))
        ends = self.generator.choice([-(1 << 15), (1 << 15) - 1], codes.shape)
        kinds = self.generator.random(codes.shape)
        return np.select([kinds < AT_THE_ENDS, kinds < NEAR_ZERO], [ends, codes >> 8], codes).astype(np.int16)

    def codes(self, samples: int, shape: Sequence[int]) -> NDArray[np.int8]:
        """Return codes, shape (samples, *shape), some of them at the ends."""
        codes = self.generator.integers(-128, 128, (samples, *shape))
        ends = self.generator.choice([-128, 127], codes.shape)
        return np.where(self.generator.random(codes.shape) < AT_THE_ENDS, ends, codes).astype(np.int8)

    def normal(self, *shape: int) -> Tensor:
        """Return normal values of a shape."""
        return torch.from_numpy(self.generator.normal(size=shape).astype(np.float32))


def float_gap(graph: Graph, samples: Tensor) -> float:
    """Return the largest distance between `Graph.forward` and the float program in LiteRT.

    Args:
        graph: of one input and one output.
        samples: shape (n, *input_shape).
    """
    outputs = LiteRTModel(write_tflite(graph.program())).predict(samples.numpy())
    expected = graph.forward(samples).numpy()
    expect(outputs.shape == expected.shape, f"outputs of {expected.shape}, the runtime's of {outputs.shape}")
    return float(np.abs(outputs - expected).max())
