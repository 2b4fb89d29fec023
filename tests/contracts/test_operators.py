"""The contract of operators, over every one that there is."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from qanas.quantization import operators
from qanas.quantization.operators.arithmetic import Add, Multiply, Subtract, WithConstant
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.convolution import Convolution, Kernel
from qanas.quantization.operators.dense import Dense
from qanas.quantization.operators.extremes import Clamp, Extreme, ExtremeOfTwo
from qanas.quantization.operators.float_terms import X, gelu
from qanas.quantization.operators.functions import Absolute, HardSwish, LeakyReLU, Logistic, Tanh
from qanas.quantization.operators.gru import GRU
from qanas.quantization.operators.log_softmax import LogSoftmax
from qanas.quantization.operators.lstm import LSTM
from qanas.quantization.operators.masked_softmax import MaskedSoftmax
from qanas.quantization.operators.matrix import MatrixProduct
from qanas.quantization.operators.moves import DepthToSpace, MirrorPad, Repeat, Reverse, SpaceToDepth
from qanas.quantization.operators.prelu import ParametricReLU
from qanas.quantization.operators.reductions import Mean, Softmax
from qanas.quantization.operators.rescaling import HardSigmoid, Quantize, ReLU
from qanas.quantization.operators.resize import ResizeBilinear, ResizeNearest
from qanas.quantization.operators.shapes import Concatenate, Reshape, Slice, Transpose
from qanas.quantization.operators.tables import InverseRoot, TabulatedFunction
from qanas.quantization.operators.transposed import Spread, TransposedConvolution
from qanas.quantization.operators.windows import AveragePool, MaxPool, Pad, Window
from qanas.testing import check_operator
from qanas.testing.runtime import Randomness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

IMAGE = (6, 5, 4)
normal = Randomness(0).normal

OPERATORS: list[tuple[Operator, tuple[tuple[int, ...], ...]]] = [
    (Add(), (IMAGE, IMAGE)),
    (Multiply("relu"), (IMAGE, IMAGE)),
    (WithConstant(Add(), normal(4)), (IMAGE,)),
    (WithConstant(Multiply(), normal(4)), (IMAGE,)),
    (Concatenate(0), ((2, 3), (4, 3), (1, 3))),
    (Convolution(normal(3, 3, 3, 4), normal(3), Kernel(Window((3, 3), (1, 1)))), (IMAGE,)),
    (Convolution(normal(4, 3, 3, 1), normal(4), Kernel(Window((3, 3), (2, 2)), groups=4)), (IMAGE,)),
    (Dense(normal(3, 8), normal(3)), ((8,),)),
    (Pad(((1, 1), (0, 2), (0, 0))), (IMAGE,)),
    (MaxPool(Window((2, 2), (2, 2))), (IMAGE,)),
    (AveragePool(Window((2, 2), (1, 1))), (IMAGE,)),
    (ResizeNearest(9, 4), (IMAGE,)),
    (ResizeBilinear(9, 7), (IMAGE,)),
    (LeakyReLU(0.1), (IMAGE,)),
    (HardSwish(), (IMAGE,)),
    (HardSigmoid(), (IMAGE,)),
    (Logistic(), (IMAGE,)),
    (Tanh(), (IMAGE,)),
    (ReLU("relu6"), (IMAGE,)),
    (Quantize(), (IMAGE,)),
    (Mean((0, 1)), (IMAGE,)),
    (Softmax(), ((7,),)),
    (LSTM(normal(12, 4), normal(12, 3), normal(12)), ((5, 4),)),
    (Reshape((10, 12)), (IMAGE,)),
    (Slice((slice(1, 4), 2)), (IMAGE,)),
    (Transpose((2, 0, 1)), (IMAGE,)),
    (Subtract(), (IMAGE, IMAGE)),
    (ExtremeOfTwo("smallest"), (IMAGE, IMAGE)),
    (Extreme("largest", (0, 1)), (IMAGE,)),
    (MatrixProduct(), ((3, 5), (2, 5))),
    (Absolute(), (IMAGE,)),
    (Clamp(-0.3, 1.7), (IMAGE,)),
    (TabulatedFunction("GELU", F.gelu, gelu(X)), (IMAGE,)),
    (MaskedSoftmax(torch.ones(5, 4, dtype=torch.bool).tril(1)), (IMAGE,)),
    (InverseRoot.of(1e-5), (IMAGE,)),
    (ParametricReLU(normal(4)), (IMAGE,)),
    (LogSoftmax(), ((7,),)),
    (GRU(normal(9, 4), normal(9, 3), normal(9), normal(9)), ((5, 4),)),
    (TransposedConvolution(normal(3, 2, 2, 4), normal(3), Spread((2, 2), (0, 0), (12, 10))), (IMAGE,)),
    (Reverse(0), (IMAGE,)),
    (Repeat((6, 3, 4)), ((6, 1, 4),)),
    (MirrorPad(((1, 1), (0, 2), (0, 0))), (IMAGE,)),
    (DepthToSpace(2), (IMAGE,)),
    (SpaceToDepth(2), ((6, 4, 4),)),
]

FOLDED = {"BatchNorm", "FixedScaling"}
"""Operators that passes take away before anything is quantized."""


def concrete(kind: type[Operator]) -> Iterator[type[Operator]]:
    for each in kind.__subclasses__():
        yield from concrete(each)
        if not inspect.isabstract(each) and each.__module__.startswith(operators.__name__):
            yield each


def test_every_operator_is_here() -> None:
    for module in pkgutil.iter_modules(operators.__path__, f"{operators.__name__}."):
        importlib.import_module(module.name)
    known = {kind.__name__ for kind in concrete(Operator)} - FOLDED
    assert {type(operator).__name__ for operator, _ in OPERATORS} == known


@pytest.mark.parametrize(("operator", "shapes"), OPERATORS, ids=[type(operator).__name__ for operator, _ in OPERATORS])
def test_it_keeps_the_contract(operator: Operator, shapes: tuple[tuple[int, ...], ...]) -> None:
    check_operator(operator, *shapes)


# What is broken is said


@dataclass(frozen=True)
class OtherShape(Logistic):
    """Says that it drops the last axis."""

    def output_shape(self, *inputs: tuple[int, ...]) -> tuple[int, ...]:
        return inputs[0][:-1]


@dataclass(frozen=True)
class OtherFunction(Logistic):
    """In float it is another function than in the file."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.sigmoid(1.1 * inputs[0])


@dataclass(frozen=True)
class OtherTable(LeakyReLU):
    """Its table is another slope's."""

    def table(self, source, output):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        return LeakyReLU(0.3).table(source, output)


@dataclass(frozen=True)
class FreeWeights(Dense):
    """Says nothing of its parameters."""

    def parameters(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("operator", "shape", "told"),
    [
        (OtherShape(), (4, 3), "it says (4,), 1 samples give (1, 4, 3)"),
        (OtherFunction(), (4, 3), "the float program computes what `forward` does: they differ by"),
        (OtherTable(0.1), (4, 3), "simulated codes are the runtime's"),
        (FreeWeights(normal(3, 8), normal(3)), (8,), "it has 27 weights and biases and says 0"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Operator) else "",
)
def test_a_broken_one_is_caught(operator: Operator, shape: tuple[int, ...], told: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_operator(operator, shape)
    assert told.lower() in str(caught.value).lower()
    assert "\n" not in str(caught.value)
