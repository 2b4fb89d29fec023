"""Single steps of recurrent layers, as people unroll them: linear layers, logistic functions and tangents."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.quantization.tracing.builder import Builder, Translators
from qanas.quantization.tracing.functions import relu, sigmoid, tanh
from qanas.quantization.tracing.layers import linear
from qanas.quantization.tracing.parts import chunk
from qanas.quantization.tracing.pointwise import add, multiply, subtract
from qanas.quantization.tracing.values import Value

State = Value | Tensor | None
"""A tensor is the same for all samples, None is 0."""


def _of_state(builder: Builder, module: nn.RNNCellBase, state: State) -> Value | Tensor | None:
    """Return what a layer makes of its last state, the biases included; None where that is nothing."""
    if isinstance(state, Value):
        return linear(builder, state, module.weight_hh, module.bias_hh)
    if state is None:
        return None if module.bias_hh is None else module.bias_hh.detach()
    return F.linear(state.detach()[:1], module.weight_hh, module.bias_hh).detach()[0]


def _gates(builder: Builder, module: nn.RNNCellBase, value: Value, state: State) -> Value:
    found = linear(builder, value, module.weight_ih, module.bias_ih)
    further = _of_state(builder, module, state)
    return found if further is None else add(builder, found, further)


def rnn_cell(builder: Builder, module: nn.RNNCell, value: Value, /, hx: State = None) -> Value:
    """Take a step of an `nn.RNNCell`."""
    gates = _gates(builder, module, value, hx)
    return tanh(builder, gates) if module.nonlinearity == "tanh" else relu(builder, gates)


def lstm_cell(
    builder: Builder, module: nn.LSTMCell, value: Value, /, hx: tuple[State, State] | None = None
) -> tuple[Value, Value]:
    """Take a step of an `nn.LSTMCell`."""
    hidden, cell = (None, None) if hx is None else hx
    new, kept, content, shown = chunk(builder, _gates(builder, module, value, hidden), 4, 1)
    state = multiply(builder, sigmoid(builder, new), tanh(builder, content))
    if cell is not None and (isinstance(cell, Value) or bool(cell.any())):
        last = cell if isinstance(cell, Value) else cell.detach()[0]
        state = add(builder, multiply(builder, sigmoid(builder, kept), last), state)
    return multiply(builder, sigmoid(builder, shown), tanh(builder, state)), state


def gru_cell(builder: Builder, module: nn.GRUCell, value: Value, /, hx: State = None) -> Value:
    """Take a step of an `nn.GRUCell`."""
    reset, update, content = chunk(builder, linear(builder, value, module.weight_ih, module.bias_ih), 3, 1)
    further = _of_state(builder, module, hx)
    if further is None:
        last = None
    else:
        parts = chunk(builder, further, 3, 1) if isinstance(further, Value) else further.chunk(3, -1)
        reset, update, last = add(builder, reset, parts[0]), add(builder, update, parts[1]), parts[2]
    gate = sigmoid(builder, update)
    if last is not None:
        content = add(builder, content, multiply(builder, sigmoid(builder, reset), last))
    new = tanh(builder, content)
    if hx is None:
        return multiply(builder, new, subtract(builder, 1.0, gate))
    before = hx if isinstance(hx, Value) else hx.detach()[0]
    return add(builder, new, multiply(builder, gate, subtract(builder, before, new)))


TRANSLATORS = Translators(functions={}, modules={nn.RNNCell: rnn_cell, nn.LSTMCell: lstm_cell, nn.GRUCell: gru_cell})
