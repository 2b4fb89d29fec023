"""What `qanas check` tells of a run's time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from qanas.performance_estimation.procedure import FullTraining
from qanas.quantization.quantization_aware import FakeQuantizedGraph
from qanas.workflows.check import forecast

if TYPE_CHECKING:
    from tests.workflows.conftest import MakePlan

FEW_BITS = {"layers": {"head": {"weight_bits": 4}}}


@pytest.mark.parametrize(("qat_epochs", "layers", "epochs"), [(0, FEW_BITS, 1), (5, {}, 1), (5, FEW_BITS, 1 + 5 * 10)])
def test_quantization_aware_epochs_are_counted_where_weights_have_few_bits(
    make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, qat_epochs: int, layers: dict[str, Any], epochs: int
) -> None:
    """With a clock on which an epoch takes a second, a quantization-aware one ten."""
    plan = make_plan(
        estimation={"epochs": 1, "qat_epochs": qat_epochs}, quantization=layers, finalists={"count": 2, "seeds": 3}
    )

    def seconds(*arguments: object) -> float:
        return 10.0 if isinstance(arguments[-1], FakeQuantizedGraph) else 1.0

    monkeypatch.setattr(FullTraining, "_epoch_seconds", seconds)
    trainings = 4 + 3 * (2 + 1)  # trials; finalists and the reference
    assert forecast(plan).hours == pytest.approx(trainings * epochs / 3600)


def test_proxies_are_counted_as_no_trainings(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same clock: finalists and the reference are trained, and no candidate."""
    monkeypatch.setattr(FullTraining, "_epoch_seconds", lambda *_: 1.0)
    plan = make_plan(estimation={"name": "proxies", "epochs": 1}, strategy={"trials": 1000})
    assert forecast(plan).hours == pytest.approx(3 * (2 + 1) / 3600)
