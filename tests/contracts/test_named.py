"""One line that checks a user's class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qanas.core.errors import InputError
from qanas.search_space.settings import Integer
from qanas.testing import check, named
from qanas.testing.named import CONTRACTS

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
PAGE = Path(__file__).parents[2] / "docs" / "contracts.md"
SMALL = "qanas.testing.small"

LINES: list[tuple[tuple[str, str], dict[str, Any]]] = [
    (("task", f"{SMALL}:SmallTask"), {"samples": 20}),
    (("space", f"{SMALL}:SmallSpace"), {"task": f"{SMALL}:SmallTask"}),
    (("blocks", f"{SMALL}:SmallSpace"), {"task": f"{SMALL}:SmallTask", "weight_bits": (4, 8)}),
    (("procedure", "qanas.performance_estimation.procedure:FullTraining"), {"epochs": 1, "calibration_samples": 8}),
    (
        ("sampler", "qanas.search_strategy.samplers:RandomSearch"),
        {"trials": 2, "spaces": {"one": [Integer("width", "architecture", 3, low=1, high=9)]}},
    ),
    (("solver", "qanas.search_strategy.solvers:ExactSearch"), {"exact": True}),
    (
        ("latency", "qanas.hardware.latency.measured:MeasuredHere"),
        {"method": "measured", "kernels": "reference", "rounds": 1},
    ),
    (("executor", "qanas.execution.executors:InlineExecutor"), {}),
    (("trainer", "qanas.training.torch_trainer:TorchTrainer"), {}),
    (
        ("growth", "qanas.networks.growing:GrowingSpace"),
        {"seed_channels": 4, "stages": 1, "task": f"{SMALL}:SmallTask"},
    ),
    (("start", "qanas.search_space.start:RandomStart"), {}),
]


@pytest.mark.parametrize(("names", "arguments"), LINES, ids=[names[0] for names, _ in LINES])
def test_every_line_of_the_page_checks(names: tuple[str, str], arguments: dict[str, Any]) -> None:
    check(*names, **arguments)


def test_an_operator_has_shapes() -> None:
    check("operator", "qanas.quantization.operators.functions:HardSwish", (4, 3))


@pytest.mark.parametrize("given", [{}, {"procedure": "qanas.testing.named:small_training"}])
def test_an_estimator_has_a_procedure(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]) -> None:
    monkeypatch.setattr(named, "small_training", lambda: named.QUICK, raising=False)
    check("estimator", "qanas.performance_estimation.training:Training", **given)


def test_a_cost_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    with pytest.raises(AssertionError, match="Faulty macs: broken: A cost is finite and never negative"):
        check("cost", "test_costs:Faulty", fault="nan")


def test_the_example_is_checked_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    line = 'from qanas.testing import check; check("task", "digits:Digits")'
    assert line in PAGE.read_text("utf-8")
    monkeypatch.syspath_prepend(EXAMPLE)
    exec(line)  # noqa: S102 - as `python -c` in that folder does


@pytest.mark.parametrize(
    ("names", "arguments", "told"),
    [
        (("taks", f"{SMALL}:SmallTask"), {}, "unknown contract 'taks': did you mean 'task'?"),
        (("task", "SmallTask"), {}, "'SmallTask' names no class; give module:Class"),
        (("task", f"{SMALL}:LargeTask"), {}, "can't be imported: AttributeError"),
        (("task", f"{SMALL}:SmallTask"), {"pixels": 3}, "can't be made: TypeError"),
        (("task", f"{SMALL}:CLASSES"), {}, "is no class; give module:Class"),
    ],
)
def test_what_cannot_be_checked_is_said(names: tuple[str, str], arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        check(*names, **arguments)
    assert told in str(caught.value)


def test_the_page_has_every_contract() -> None:
    page = PAGE.read_text("utf-8")
    assert [kind for kind in CONTRACTS if f"`check_{kind}`" not in page or f'check("{kind}", ' not in page] == []
