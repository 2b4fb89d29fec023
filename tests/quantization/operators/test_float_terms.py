"""Formulas of functions in float32, in LiteRT, against torch."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.quantization.graph import Graph
from qanas.quantization.operators.float_terms import COMPARISONS, FORMULAS, X, gelu
from qanas.quantization.operators.tables import TabulatedFunction
from qanas.quantization.tracing import trace
from tests.quantization.torch_calls import Called

EVERYWHERE = (-100.0, -4.0, -2.5, -1.5, -1.0, -0.5, -1e-3, 0.0, 1e-3, 0.2, 0.5, 1.0, 1.5, 2.5, 4.0, 100.0)
NEAR = (-4.0, -2.5, -1.0, -0.5, 0.0, 0.2, 1.0, 1.5, 2.5, 4.0)
INSIDE = (-0.9, -0.5, 0.0, 0.3, 0.9)
ABOVE_0 = (1e-3, 0.2, 0.5, 1.0, 1.5, 40.0)
SOME = {
    **dict.fromkeys(("log", "log1p", "log2", "log10", "sqrt", "rsqrt", "reciprocal"), ABOVE_0),
    **dict.fromkeys(("asin", "acos", "atanh"), INSIDE),
    **dict.fromkeys(("exp", "expm1", "exp2", "sinh", "cosh", "tan"), NEAR),
    "acosh": (1.0, 1.5, 40.0),
    "logit": (0.1, 0.5, 0.9),
}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "ELU": F.elu,
    "ELU of another slope": lambda x: F.elu(x, 0.5),
    "CELU": F.celu,
    "CELU of another width": lambda x: F.celu(x, 2.0),
    "SELU": F.selu,
    "GELU": F.gelu,
    "GELU by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "Mish": F.mish,
    "Softplus": F.softplus,
    "Softplus of another width": lambda x: F.softplus(x, beta=2.0),
    "Softsign": F.softsign,
    "LogSigmoid": F.logsigmoid,
    "Tanhshrink": F.tanhshrink,
    "Softshrink": F.softshrink,
    "Softshrink of another width": lambda x: F.softshrink(x, 0.2),
    "Hardshrink": F.hardshrink,
    "threshold": lambda x: F.threshold(x, 0.2, 3.0),
    "a third power": lambda x: x**3,
    "powers of 2": lambda x: 2.0 ** (0.1 * x),
}


def in_litert(graph: Graph, values: tuple[float, ...]) -> np.ndarray:
    runtime = LiteRTModel(write_tflite(graph.program()), border=graph.border)
    return np.asarray(runtime.predict(np.array(values, np.float32)[None])[0])


def assert_alike(found: np.ndarray, expected: Tensor) -> None:
    np.testing.assert_allclose(found, expected.numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", FORMULAS)
def test_functions_of_torch(name: str) -> None:
    values = SOME.get(name, EVERYWHERE)
    function = getattr(torch, name)
    graph = trace(Called(function, len(values)).eval(), (len(values),))
    assert_alike(in_litert(graph, values), function(torch.tensor(values)))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    graph = trace(Called(ACTIVATIONS[name], len(EVERYWHERE)).eval(), (len(EVERYWHERE),))
    assert_alike(in_litert(graph, EVERYWHERE), ACTIVATIONS[name](torch.tensor(EVERYWHERE)))


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons(name: str) -> None:
    compare = getattr(torch, name)
    graph = trace(Called(lambda x: compare(x, 0.0).float(), len(EVERYWHERE)).eval(), (len(EVERYWHERE),))
    assert_alike(in_litert(graph, EVERYWHERE), compare(torch.tensor(EVERYWHERE), 0.0).float())


def test_terms_are_values() -> None:
    operator = TabulatedFunction("GELU", F.gelu, gelu(X))
    assert pickle.loads(pickle.dumps(operator)) == operator  # noqa: S301 - our own
    assert gelu(X, "tanh") != gelu(X)
