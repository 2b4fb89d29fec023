"""Costs of a network as it ships, read off its blueprint before any weight exists."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

from qanas.core.errors import InputError
from qanas.core.measures import FRONT_END_COSTS, Cost
from qanas.deployment.arena import program_arena_bytes
from qanas.deployment.tflite import write_tflite
from qanas.hardware.device import Device
from qanas.hardware.footprint import FOOTPRINT_COSTS, expected_footprint
from qanas.hardware.latency.base import Figure
from qanas.hardware.memory import peak_ram_bytes
from qanas.quantization.graph import Graph
from qanas.quantization.program import Program
from qanas.quantization.quantized_graph import QuantizedGraph

SCALE_BYTES = 4
WHOLE_BITS = 32
"""Biases, indices and float weights are never packed."""


@dataclass(frozen=True)
class Blueprint:
    """A candidate's network, traced, folded and quantized with made-up weights and ranges: all that costs depend on.

    Attributes:
        graph: the FP32 network.
        quantized: the same network as it ships.
        front_end: costs of what makes its input of a raw one, by column; none where nobody knows.
    """

    graph: Graph
    quantized: QuantizedGraph
    front_end: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def program(self) -> Program:
        """What the shipped network's file will hold."""
        return self.quantized.program()

    @cached_property
    def float_program(self) -> Program:
        """What the FP32 network's file would hold."""
        return self.graph.program()

    @cached_property
    def file(self) -> bytes:
        """A .tflite file as the shipped one will be but for its weights: enough to measure latency."""
        return write_tflite(self.program)


class CostModel(ABC):
    """How one cost is had. Contract 6: every implementation passes `qanas.testing.check_cost`."""

    measure: Cost
    """What it is the cost of, with its unit."""

    additive: bool = False
    """Whether the cost of a network is the sum of its layers' costs."""

    repeatable: bool = True
    """Whether the same blueprint always has the same cost; what is measured on a device has not."""

    digest: str = ""
    """Changes with what it is had from; empty where that is the blueprint alone."""

    at_once: bool = True
    """Whether it takes a moment; what doesn't is had only of candidates that are within the limits on other costs."""

    @abstractmethod
    def of(self, blueprint: Blueprint) -> float:
        """Return the cost, in the measure's unit.

        Raises:
            ValueError: there is an operator or a bit-width that it doesn't know: never a cost of zero.
        """


@dataclass(frozen=True)
class ProgramCost(CostModel):
    """A cost that is read off a program.

    Attributes:
        measure: its name, and whether it is the FP32 network's.
        counts: from the program and the multiply-accumulates of the graph.
        additive: whether it is a sum over layers.
        at_once: whether it takes a moment.
    """

    measure: Cost
    counts: Callable[[Program, Graph], int]
    additive: bool = False
    at_once: bool = True

    def of(self, blueprint: Blueprint) -> float:
        """Return the count."""
        program = blueprint.float_program if self.measure.float_ else blueprint.program
        return float(self.counts(program, blueprint.graph))


@dataclass(frozen=True)
class DeviceCost(CostModel):
    """Milliseconds, cycles or instructions of one inference on a device.

    Attributes:
        measure: with the device's name where it is not the recipe's own.
        device: says how they are had.
    """

    measure: Cost
    device: Device
    at_once = False

    @property
    def repeatable(self) -> bool:  # type: ignore[override]  # of the device's source, where others have a constant
        """Whether its source is."""
        return self.device.latency.repeatable

    @property
    def additive(self) -> bool:  # type: ignore[override]  # as above
        """Whether its source is."""
        return self.device.latency.additive

    @property
    def digest(self) -> str:  # type: ignore[override]  # as above
        """Changes with its source, and the clock."""
        return f"{self.device.latency.digest} {self.device.clock_mhz}"

    def of(self, blueprint: Blueprint) -> float:
        """Return what the device's source says of the file."""
        return self.device.figure(cast("Figure", self.measure.name), [blueprint.file])[0]


@dataclass(frozen=True)
class InputCost(CostModel):
    """A cost of what makes the network's input; 0 where firmware is given nothing that does.

    Attributes:
        measure: which.
    """

    measure: Cost

    def of(self, blueprint: Blueprint) -> float:
        """Return what the task's front end says."""
        return float(blueprint.front_end.get(self.measure.name, 0))


INPUT_COSTS: tuple[CostModel, ...] = tuple(InputCost(Cost(name)) for name in FRONT_END_COSTS)
"""Costs that candidates have whose task has a front end."""


@dataclass(frozen=True)
class FootprintCost(CostModel):
    """Flash or RAM that the network takes on a device as C without an interpreter, estimated before it is compiled.

    Attributes:
        measure: with the device's name where it is not the recipe's own.
        device: whose core it would be compiled for.
    """

    measure: Cost
    device: Device
    at_once = False

    def of(self, blueprint: Blueprint) -> float:
        """Return the bytes."""
        return float(getattr(expected_footprint(self.device, blueprint.program), self.measure.name))


def weight_bytes(program: Program, _: Graph | None = None) -> int:
    """Return the bytes of every constant that the file stores: weights, biases and the indices of slices."""
    return sum(tensor.stored_bytes for tensor in program.constants())


def packed_weight_bytes(program: Program, _: Graph | None = None) -> int:
    """Return ceil(parameters * bits / 8) + biases + scales of the weights, in bytes: what papers count.

    Differs from `weight_bytes` by the scales, and below 8 bits, where the file stores a weight a byte; int4 tensors
    hold two.

    Raises:
        ValueError: a constant doesn't say how many bits it has.
    """
    total = 0
    for tensor in program.constants():
        if tensor.bits <= 0:
            raise ValueError(f"a constant of shape {tensor.shape} doesn't say how many bits it needs")
        total += -(-tensor.elements * tensor.bits // 8)
        if tensor.quantization is not None and tensor.bits < WHOLE_BITS:
            total += SCALE_BYTES * len(tensor.quantization.scales)
    return total


def _arena_bytes(program: Program, _: Graph) -> int:
    return program_arena_bytes(program, peak_ram_bytes(program))


def _peak_ram_bytes(program: Program, _: Graph) -> int:
    return peak_ram_bytes(program)


def _file_bytes(program: Program, _: Graph) -> int:
    return len(write_tflite(program))


def _macs(_: Program, graph: Graph) -> int:
    return graph.macs


def _program_costs(*, float_: bool) -> tuple[ProgramCost, ...]:
    return (
        ProgramCost(Cost("weight_bytes", float_=float_), weight_bytes, additive=True),
        ProgramCost(Cost("packed_weight_bytes", float_=float_), packed_weight_bytes, additive=True),
        ProgramCost(Cost("file_bytes", float_=float_), _file_bytes, at_once=False),
        ProgramCost(Cost("peak_ram_bytes", float_=float_), _peak_ram_bytes),
        ProgramCost(Cost("macs", float_=float_), _macs, additive=True),
    )


SHIPPED_COSTS: tuple[CostModel, ...] = (
    *_program_costs(float_=False),
    ProgramCost(Cost("arena_bytes"), _arena_bytes),
)
"""Costs of the network as it ships."""

PROGRAM_COSTS: tuple[CostModel, ...] = (*SHIPPED_COSTS, *_program_costs(float_=True))
"""The costs that are known from shapes alone: every candidate has them."""

ADDITIVE_COSTS: tuple[CostModel, ...] = tuple(cost for cost in PROGRAM_COSTS if cost.additive)
"""Costs of a network that are the sums of its layers' costs, whatever the device."""

ADDITIVE_COLUMNS: tuple[str, ...] = tuple(cost.measure.column for cost in ADDITIVE_COSTS)


def adding_up(column: str, models: Iterable[CostModel]) -> CostModel:
    """Return how a cost is had of which each layer has a share, exactly or nearly so, the same each time.

    Args:
        column: of the cost.
        models: that candidates have.

    Raises:
        InputError: there is none, or it has no shares.
    """
    found = next((model for model in models if model.measure.column == column), None)
    if found is None:
        raise InputError(f"strategy.costs: {column} is not known of candidates; name it in objectives or limits")
    if not found.repeatable:
        raise InputError(
            f"strategy.costs: {column} is measured anew each time, and gates need what each option adds: name a device "
            "with a formula or a table"
        )
    if not (found.additive or isinstance(found, DeviceCost)):
        raise InputError(
            f"strategy.costs: {column} doesn't add up over layers; leave it to [limits], which are kept exactly"
        )
    return found


def cost_models(asked: Iterable[Cost], device: Device, folder: Path | None = None) -> tuple[CostModel, ...]:
    """Return how every candidate's costs are had: all that are known from shapes, latency only where it is asked for.

    Args:
        asked: costs that objectives and limits name.
        device: the recipe's, for those that name none.
        folder: that paths of devices' files are relative to; the current one by default.

    Raises:
        InputError: no device has that name, or it is not had of that device.
    """
    of_devices = {cost.column: cost for cost in asked if cost.of_device}
    return (*PROGRAM_COSTS, *(_device_cost(cost, device, folder) for cost in of_devices.values()))


def _device_cost(cost: Cost, device: Device, folder: Path | None) -> DeviceCost | FootprintCost:
    found = Device.named(cost.device, folder, cost.column) if cost.device else device
    if cost.name in FOOTPRINT_COSTS:
        if found.built_for is None:
            raise InputError(
                f"{cost.column}: the device {found.name} names no core that C can be "
                "compiled for: name a device that does, or take file_bytes"
            )
        return FootprintCost(cost, found)
    if cost.name not in found.figures:
        raise InputError(f"{cost.column}: of the device {found.name}, {' and '.join(found.figures)} can be had")
    return DeviceCost(cost, found)


def costs_of(blueprint: Blueprint, models: Iterable[CostModel] = PROGRAM_COSTS) -> dict[str, float]:
    """Return the costs of a network by their columns."""
    return {model.measure.column: model.of(blueprint) for model in models}
