"""A network that tests of profiles and of compilers share."""

from __future__ import annotations

import pytest
from tests.latency_in_process import MEASURED_AS_USERS_DO

from qanas.hardware.costs import Blueprint
from qanas.hardware.latency.measured import MeasuredHere
from qanas.networks.fastestdet import FastestDet
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace_shapes


@pytest.fixture(scope="session")
def detector() -> Blueprint:
    graph = trace_shapes(lambda: FastestDet((256, 320), classes=2).to("meta"), (3, 256, 320))
    return Blueprint(graph, QuantizedGraph.from_shapes(graph, Scheme()))


@pytest.fixture(autouse=True)
def _measured_as_users_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MeasuredHere, "_asked", MEASURED_AS_USERS_DO)
