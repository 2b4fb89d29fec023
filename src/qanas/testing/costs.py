"""The contracts of costs and of latency sources."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn

from qanas.core.errors import InputError
from qanas.core.measures import COST_UNITS, Cost
from qanas.hardware.costs import Blueprint, CostModel
from qanas.hardware.latency.base import LatencySource
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.operators.base import Operator, QuantizedOperator, Shape
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace_shapes
from qanas.testing.properties import expect, hold, refusal, through_pickle
from qanas.testing.runtime import chain

INPUT_SHAPE = (3, 8, 8)
UNKNOWN_WEIGHTS = 6


def blueprint_of(*layers: nn.Module, input_shape: Shape = INPUT_SHAPE, scheme: Scheme | None = None) -> Blueprint:
    """Return the blueprint of layers behind each other.

    Args:
        layers: of the network; their weights don't matter.
        input_shape: of one sample.
        scheme: how it is quantized.
    """
    graph = trace_shapes(lambda: nn.Sequential(*layers).to("meta"), input_shape)
    return Blueprint(graph, QuantizedGraph.from_shapes(graph, scheme or Scheme()))


class _QuantizedUnknown(QuantizedOperator):
    """What no kernel is known of."""

    def forward(self, *codes: Tensor) -> Tensor:
        """Return codes, shape (batch, *shape)."""
        return codes[0]

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append an operator that no runtime has, with weights of a width that none has."""
        weights = RuntimeTensor((UNKNOWN_WEIGHTS,), "int32", None, np.ones(UNKNOWN_WEIGHTS, np.int32), 0)
        program.append(RuntimeOperator("NO_SUCH_OPERATOR", 1, [*inputs, weights], [output]))


@dataclass(frozen=True)
class UnknownOperator(Operator):
    """An operator with weights that nothing knows: neither its kernel nor what it costs.

    Attributes:
        weight: shape (n, n).
    """

    weight: Tensor

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the input's."""
        return inputs[0]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return values, shape (batch, *shape)."""
        return inputs[0]

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Return what no kernel is known of."""
        del ranges, scheme
        return _QuantizedUnknown(), inputs[0]

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append an operator that no runtime has."""
        _QuantizedUnknown().lower(program, inputs, output)


class CostCase:
    """A cost, and networks to take it of."""

    def __init__(self, cost: CostModel) -> None:
        """Make no network yet."""
        self.cost = cost

    @cached_property
    def layers(self) -> tuple[nn.Module, nn.Module]:
        """Two layers that fit behind each other."""
        return nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

    @cached_property
    def networks(self) -> dict[str, Blueprint]:
        """Small ones, by what they are called in messages."""
        dense = (nn.Flatten(), nn.Linear(int(np.prod(INPUT_SHAPE)), 4))
        return {
            "convolutions": blueprint_of(*self.layers),
            "4 bits": blueprint_of(*self.layers, scheme=Scheme(weight_bits=4)),
            "dense": blueprint_of(*dense),
            "dense, 16-bit values": blueprint_of(*dense, scheme=Scheme(activation_bits=16)),
            "no weights": blueprint_of(nn.ReLU()),
        }

    def unknown(self) -> Blueprint:
        """Return a network of an operator that nothing knows."""
        graph = chain(INPUT_SHAPE, UnknownOperator(torch.zeros(UNKNOWN_WEIGHTS, UNKNOWN_WEIGHTS)))
        return Blueprint(graph, QuantizedGraph.from_shapes(graph, Scheme()))


def check_cost(cost: CostModel) -> None:
    """Hold a cost against its contract, see `qanas.hardware.costs`.

    Args:
        cost: that is checked.

    Raises:
        AssertionError: which property is broken, and what was seen.
    """
    hold(f"{type(cost).__name__} {cost.measure.column}", CostCase(cost), COST_PROPERTIES)


def it_has_a_column(case: CostCase) -> None:
    """Its measure is a cost with a column of its own and a unit."""
    measure = case.cost.measure
    expect(Cost.parse(measure.column) == measure, f"{measure.column} is read as {Cost.parse(measure.column)}")
    expect(measure.unit, f"{measure.column} has no unit")


def workers_can_have_it(case: CostCase) -> None:
    """A pickled copy is of the same measure."""
    copy = through_pickle(case.cost)
    expect(copy.measure == case.cost.measure, f"it is of {copy.measure}")


def costs_are_not_negative(case: CostCase) -> None:
    """A cost is finite and never negative."""
    for name, blueprint in case.networks.items():
        value = case.cost.of(blueprint)
        expect(isinstance(value, int | float) and math.isfinite(value) and value >= 0, f"{name}: it is {value!r}")


def repeatable_ones_repeat(case: CostCase) -> None:
    """A repeatable cost is the same of the same network each time."""
    if case.cost.repeatable:
        for name, blueprint in case.networks.items():
            fresh = Blueprint(blueprint.graph, blueprint.quantized)
            first, second = case.cost.of(blueprint), case.cost.of(fresh)
            expect(first == second, f"{name}: {first:g}, then {second:g}")


def additive_ones_add_up(case: CostCase) -> None:
    """An additive cost of layers behind each other is the sum of theirs."""
    if not case.cost.additive:
        return
    first, second = case.layers
    parts = case.cost.of(blueprint_of(first)) + case.cost.of(blueprint_of(second, input_shape=(4, 6, 6)))
    whole = case.cost.of(blueprint_of(first, second))
    expect(whole == parts, f"the layers {parts:g}, the network {whole:g}")


def more_weights_cost_no_less(case: CostCase) -> None:
    """A layer of more channels costs no less, where the cost is repeatable."""
    if case.cost.repeatable:
        less, more = (case.cost.of(blueprint_of(nn.Conv2d(3, channels, 3))) for channels in (4, 12))
        expect(less <= more, f"4 channels {less:g}, 12 channels {more:g}")


def the_unknown_is_never_free(case: CostCase) -> None:
    """An operator that it doesn't know is an error, or counted: never a cost of zero."""
    try:
        value = case.cost.of(case.unknown())
    except (ValueError, InputError) as error:
        expect("\n" not in str(error).strip(), "the error has several lines")
        return
    expect(value > 0, f"of an unknown operator it is {value:g}")


COST_PROPERTIES = (
    it_has_a_column,
    workers_can_have_it,
    costs_are_not_negative,
    repeatable_ones_repeat,
    additive_ones_add_up,
    more_weights_cost_no_less,
    the_unknown_is_never_free,
)
"""What a cost owes."""


# Latency sources


class LatencyCase:
    """A latency source, and a file to take it of."""

    def __init__(self, source: LatencySource) -> None:
        """Write no file yet."""
        self.source = source

    @cached_property
    def content(self) -> bytes:
        """A .tflite file."""
        return blueprint_of(nn.Conv2d(3, 4, 3), nn.ReLU()).file


def check_latency(source: LatencySource) -> None:
    """Hold a latency source against its contract, see `qanas.hardware.device`.

    Args:
        source: that is checked; what it needs (a board, a command) has to be there.

    Raises:
        AssertionError: which property is broken, and what was seen.
    """
    hold(type(source).__name__, LatencyCase(source), LATENCY_PROPERTIES)


def it_is_data(case: LatencyCase) -> None:
    """It can be written into a device's file and read again, told apart by its ``method``."""
    content = case.source.model_dump()
    expect(isinstance(content.get("method"), str), f"its fields are {', '.join(content)}, without method")
    copy = type(case.source).model_validate(content)
    expect(copy == case.source, f"it comes back as {copy!r}")
    expect(through_pickle(case.source) == case.source, "a pickled copy is another one")
    try:
        type(case.source).model_validate({**content, "method": "no such method"})
    except ValueError:
        return
    raise AssertionError("another method is taken for its own")


def it_says_what_took_the_time(case: LatencyCase) -> None:
    """It says in one line what took the time."""
    text = case.source.described
    expect(isinstance(text, str) and text.strip() and "\n" not in text, f"it says {text!r}")


def latency_is_positive(case: LatencyCase) -> None:
    """The latency of a network is positive and finite."""
    (value,) = case.source.of([case.content])
    unit = COST_UNITS[case.source.figure]
    expect(isinstance(value, int | float) and math.isfinite(value) and value > 0, f"it is {value!r} {unit}")


def rubbish_is_refused(case: LatencyCase) -> None:
    """What is no .tflite file is refused in one line."""
    for name, content in {"an empty file": b"", "rubbish": b"rubbish" * 20, "half a file": case.content[:100]}.items():
        refusal((ValueError, InputError), partial(case.source.of, [content]), name)


def files_keep_their_order(case: LatencyCase) -> None:
    """Several files have a figure each; repeatable sources say of each what they say of it alone."""
    larger = blueprint_of(nn.Conv2d(3, 64, 3), nn.ReLU()).file
    found = case.source.of([larger, case.content])
    expect(len(found) == 2, f"two files have {len(found)} figures")  # noqa: PLR2004 - two
    if case.source.repeatable:
        alone = [case.source.of([content])[0] for content in (larger, case.content)]
        expect(found == alone, f"together {found}, alone {alone}")


LATENCY_PROPERTIES = (
    it_is_data,
    it_says_what_took_the_time,
    latency_is_positive,
    files_keep_their_order,
    rubbish_is_refused,
)
"""What a latency source owes."""
