"""The operators of the graph, a file each; `OPERATORS` is their registry."""

from __future__ import annotations

from qanas.quantization.operators.add import Add
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.batch_norm import BatchNorm
from qanas.quantization.operators.conv import Convolution
from qanas.quantization.operators.dense import Dense
from qanas.quantization.operators.lstm import LSTM
from qanas.quantization.operators.relu import ReLU
from qanas.quantization.operators.reshape import Flatten, Unsqueeze
from qanas.quantization.operators.slice import Slice

OPERATORS: tuple[type[Operator], ...] = (Add, BatchNorm, Convolution, Dense, Flatten, LSTM, ReLU, Slice, Unsqueeze)

__all__ = [
    "LSTM",
    "OPERATORS",
    "Add",
    "BatchNorm",
    "Convolution",
    "Dense",
    "Flatten",
    "Operator",
    "ReLU",
    "Slice",
    "Unsqueeze",
]
