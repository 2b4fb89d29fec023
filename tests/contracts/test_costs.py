"""The contracts of costs and latency sources, over every one that there is and over broken ones."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pytest

from qanas.core.measures import Cost
from qanas.deployment.boards import cmsis_nn
from qanas.deployment.boards.board import lacking
from qanas.hardware.costs import PROGRAM_COSTS, CostModel, DeviceCost
from qanas.hardware.device import Device, device_names
from qanas.hardware.latency.base import Figure, LatencySource
from qanas.testing import check_cost, check_latency

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanas.hardware.costs import Blueprint

DEVICES = {device.latency.method: device for device in map(Device.named, device_names())}
"""One for each way to have latency; the numbers of the others are read in tests/hardware."""

COMPILED = DEVICES.pop("compiler")
"""Its processes take a second each."""

EMULATED = DEVICES.pop("emulator")
"""Its tools aren't everywhere."""

INTERPRETED = DEVICES.pop("interpreter")
"""Its program is fetched."""

COSTS = [*PROGRAM_COSTS, *(DeviceCost(Cost("latency_ms", device.name), device) for device in DEVICES.values())]


@pytest.mark.slow
def test_a_compilers_cost_keeps_the_contracts() -> None:
    pytest.importorskip("ethosu", reason="no Vela: pip install ethos-u-vela")
    check_cost(DeviceCost(Cost("latency_ms", COMPILED.name), COMPILED))
    check_latency(COMPILED.latency)


@pytest.mark.toolchain
@pytest.mark.skipif(bool(lacking()), reason=f"not on this machine: {', '.join(lacking())}")
def test_an_emulated_board_keeps_the_contract() -> None:
    check_latency(EMULATED.latency)


@pytest.mark.toolchain
@pytest.mark.skipif(bool(cmsis_nn.lacking()), reason=cmsis_nn.lacking())
def test_an_interpreter_on_an_emulated_board_keeps_the_contract() -> None:
    check_latency(INTERPRETED.latency)


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.measure.column)
def test_a_cost_keeps_the_contract(cost: CostModel) -> None:
    check_cost(cost)


@pytest.mark.parametrize("device", DEVICES.values(), ids=lambda device: device.name)
def test_a_latency_source_keeps_the_contract(device: Device) -> None:
    check_latency(device.latency)


# What is broken is said

calls = itertools.count(1)
MACS = Cost("macs")


@dataclass(frozen=True)
class Faulty(CostModel):
    """A cost with one fault."""

    fault: str
    additive: bool = False
    measure: Cost = MACS

    def of(self, blueprint: Blueprint) -> float:
        macs = float(sum(len(kernel.shape) for kernel in blueprint.program.constants()))
        names = [operator.kind for operator in blueprint.program.operators]
        if "NO_SUCH_OPERATOR" in names and self.fault != "zero":
            raise ValueError("there is no such operator")
        return {
            "nan": float("nan"),
            "counter": float(next(calls)),
            "overhead": macs + 100.0,
            "inverse": 1000.0 - sum(tensor.elements for tensor in blueprint.program.constants()),
            "zero": 0.0,
        }[self.fault]


@pytest.mark.parametrize(
    ("cost", "told"),
    [
        (Faulty("nan"), "A cost is finite and never negative: convolutions: it is nan"),
        (Faulty("counter"), "A repeatable cost is the same of the same network each time: convolutions:"),
        (Faulty("overhead", additive=True), "An additive cost of layers behind each other is the sum of theirs"),
        (Faulty("inverse"), "A layer of more channels costs no less, where the cost is repeatable: 4 channels"),
        (Faulty("zero"), "never a cost of zero: of an unknown operator it is 0"),
        (Faulty("overhead", measure=Cost("macs", "host")), "Its measure is a cost with a column of its own"),
    ],
    ids=lambda value: value.fault if isinstance(value, Faulty) else "",
)
def test_a_broken_cost_is_caught(cost: CostModel, told: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_cost(cost)
    assert told in str(caught.value)


class Guessing(LatencySource):
    """Says something whatever it is given."""

    method: Literal["guessing"] = "guessing"
    described_as: str = "a guess"
    milliseconds: float = 1.0

    @property
    def figure(self) -> Figure:
        return "latency_ms"

    @property
    def described(self) -> str:
        return self.described_as

    def of(self, contents: Sequence[bytes]) -> list[float]:
        return [self.milliseconds for _ in contents]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (Guessing(), "an empty file isn't refused; it gives [1.0]"),
        (Guessing(milliseconds=0.0), "The latency of a network is positive and finite: it is 0.0 ms"),
        (Guessing(described_as="two\nlines"), "It says in one line what took the time: it says 'two\\nlines'"),
    ],
)
def test_a_broken_source_is_caught(source: LatencySource, told: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_latency(source)
    assert told in str(caught.value)
