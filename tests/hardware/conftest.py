"""A network that tests of profiles and of compilers share."""

from __future__ import annotations

import pytest

from qanas.hardware.costs import Blueprint
from qanas.networks.fastestdet import FastestDet
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace_shapes


@pytest.fixture(scope="session")
def detector() -> Blueprint:
    graph = trace_shapes(lambda: FastestDet((256, 320), classes=2).to("meta"), (3, 256, 320))
    return Blueprint(graph, QuantizedGraph.from_shapes(graph, Scheme()))
