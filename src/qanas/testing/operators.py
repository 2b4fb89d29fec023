"""The contract of an operator of the graph: simulated and in float against LiteRT's reference kernels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.deployment.operators import kind_of
from qanas.deployment.tflite import write_tflite
from qanas.quantization.border import INPUT
from qanas.quantization.graph import Graph
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.operators.base import Operator, Shape
from qanas.quantization.operators.shapes import Slice
from qanas.quantization.program import Program
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.testing.properties import expect, hold
from qanas.testing.runtime import INT8, INT16, Deployed, Randomness, chain, float_gap, of_parts

DRAWS = 3
"""Ranges and codes that are tried."""

SAMPLES = 4
FLOAT_TOLERANCE = 1e-5
"""Of the float program, relative to the largest output."""


@dataclass
class OperatorCase:
    """An operator of inputs of some shapes.

    Attributes:
        operator: that is checked.
        shapes: of one sample of each input.
    """

    operator: Operator
    shapes: tuple[Shape, ...]

    def graph(self, operator: Operator | None = None) -> Graph:
        """Return the operator as a graph of one input, of which its inputs are parts: they lie along the first axis."""
        chosen = operator or self.operator
        if len(self.shapes) == 1:
            return chain(self.shapes[0], chosen)
        borders = list(itertools.accumulate((shape[0] for shape in self.shapes), initial=0))
        parts = [Slice((slice(first, last),)) for first, last in itertools.pairwise(borders)]
        return of_parts(chosen, (borders[-1], *self.shapes[0][1:]), *parts)

    def inputs(self, count: int) -> list[Tensor]:
        """Return random inputs, each of shape (count, *shape)."""
        return [Randomness(seed).normal(count, *shape) for seed, shape in enumerate(self.shapes)]

    @cached_property
    def output(self) -> Tensor:
        """Of two random samples, shape (2, *output_shape)."""
        return self.operator.forward(*self.inputs(2))

    def deployed(self, seed: int, scheme: Scheme) -> tuple[Deployed, Randomness]:
        """Return the operator between random scales, as it ships, and what codes are drawn from."""
        random, graph = Randomness(seed), self.graph()
        ranges = {name: random.range(decades=1.0) for name in graph.shapes}
        covered = Affine.from_range(*next(iter(ranges.values())), bits=scheme.activation_bits)
        ranges[list(graph.shapes)[-1]] = random.range_about(covered)
        found = graph.calibrate(random.normal(SAMPLES, *graph.shapes[INPUT]))
        bounds = {name: Ranges(pair, found[name].internals) for name, pair in ranges.items()}
        quantized = QuantizedGraph.quantize(graph, bounds, scheme)
        return Deployed(quantized, write_tflite(quantized.program())), random

    def differing(self, seed: int, scheme: Scheme) -> int:
        """Return how many codes of random samples aren't the runtime's."""
        deployed, random = self.deployed(seed, scheme)
        draw = random.codes if scheme.activation_bits == INT8.activation_bits else random.wide_codes
        return deployed.differing_codes(draw(SAMPLES, self.graph().shapes[INPUT]))


def check_operator(operator: Operator, *shapes: Sequence[int]) -> None:
    """Hold an operator against its contract, see `qanas.quantization.operators.base`.

    Args:
        operator: that is checked, with its weights.
        shapes: of one sample of each of its inputs; of several they are alike but for the first axis.

    Raises:
        AssertionError: which property is broken, and what was seen.
    """
    case = OperatorCase(operator, tuple(tuple(shape) for shape in shapes))
    hold(f"{type(operator).__name__} of {' and '.join(map(str, case.shapes))}", case, PROPERTIES)


def the_shape_is_what_comes_out(case: OperatorCase) -> None:
    """`output_shape` is the shape of what `forward` returns, for any batch."""
    said = case.operator.output_shape(*case.shapes)
    for count in (1, 3):
        found = tuple(case.operator.forward(*case.inputs(count)).shape)
        expect(found == (count, *said), f"it says {said}, {count} samples give {found}")


def samples_are_on_their_own(case: OperatorCase) -> None:
    """A sample's output depends on that sample alone, and `observe` computes what `forward` does."""
    most = FLOAT_TOLERANCE * max(float(case.output.abs().max()), 1.0)
    alone = case.operator.forward(*(part[:1] for part in case.inputs(2)))
    gap = float((alone - case.output[:1]).abs().max())
    expect(gap <= most, f"alone it differs by {gap:.1e}")
    observed, internals = case.operator.observe(*case.inputs(2))
    gap = float((observed - case.output).abs().max())
    expect(gap <= most, f"`observe` differs by {gap:.1e}")
    expect(all(values.isfinite().all() for values in internals.values()), "a value inside is not finite")


def costs_are_counts(case: OperatorCase) -> None:
    """Multiply-accumulates and parameters are whole numbers, not negative; weights are parameters."""
    for name, value in {"macs": case.operator.macs(*case.shapes), "parameters": case.operator.parameters()}.items():
        expect(isinstance(value, int) and value >= 0, f"{name} is {value!r}")
    held = sum(tensor.numel() for tensor in case.operator.tensors().values())
    found = case.operator.parameters()
    expect(found == held, f"it has {held} weights and biases and says {found}")


def weights_are_named(case: OperatorCase) -> None:
    """`quantized_weights` names fields that hold weights, in their shapes or the kernel's order."""
    bare = tuple(Affine.from_range(-1.0, 1.0) for _ in case.shapes)
    held = case.operator.tensors()
    for name, weights in case.operator.quantized_weights(bare, INT8).items():
        expect(name in held, f"it has no weights {name}")
        expect(prod(weights.codes.shape) == held[name].numel(), f"{name} has {weights.codes.shape} codes")


def the_runtime_knows_it(case: OperatorCase) -> None:
    """All that it is lowered to, quantized and in float, has a line in `deployment.operators`."""
    programs: list[Program] = [case.graph().program()]
    programs += [case.deployed(0, scheme)[0].quantized.program() for scheme in _schemes(case.operator)]
    for program in programs:
        for operator in program.operators:
            kind_of(operator.kind)


def float_programs_compute_it(case: OperatorCase) -> None:
    """The float program computes what `forward` does."""
    graph = case.graph()
    samples = Randomness(1).normal(2, *graph.shapes[INPUT])
    gap, size = float_gap(graph, samples), float(graph.forward(samples).abs().max())
    expect(gap <= FLOAT_TOLERANCE * max(size, 1.0), f"they differ by {gap:.1e}")


def simulated_codes_are_the_runtimes(case: OperatorCase) -> None:
    """Simulated codes are the runtime's, bit for bit, in exact and in fast arithmetic, whatever the scales."""
    for scheme, seed in itertools.product(_schemes(case.operator), range(DRAWS)):
        different = case.differing(seed, scheme)
        expect(different == 0, f"{scheme.activation_bits} bits, draw {seed}: {different} codes differ")


def fused_activations_are_applied(case: OperatorCase) -> None:
    """An operator that takes an activation in computes it behind its own."""
    for name, function in (("relu", F.relu), ("relu6", F.relu6)):
        fused = case.operator.with_activation(name)  # type: ignore[arg-type]  # of the two
        if fused is not None:
            gap = float(np.abs((fused.forward(*case.inputs(2)) - function(case.output)).numpy()).max())
            expect(gap == 0.0, f"{name}: outputs differ by {gap:.1e}")


def _schemes(operator: Operator) -> list[Scheme]:
    """Return a scheme for every width of codes that there is a kernel for."""
    return [scheme for scheme in (INT8, INT16) if scheme.activation_bits in operator.activation_bits]


PROPERTIES = (
    the_shape_is_what_comes_out,
    samples_are_on_their_own,
    costs_are_counts,
    weights_are_named,
    the_runtime_knows_it,
    float_programs_compute_it,
    simulated_codes_are_the_runtimes,
    fused_activations_are_applied,
)
"""What an operator owes."""
