"""Recurrent cells, step by step: those that a network calls by themselves, and layers that start from a given state.

A runtime's fused LSTM starts from zeros and keeps its cell to itself. Here every step is made of operators of its own,
with ranges of its own; both states can be had, and weights are stored once for all steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.quantization.tracing.builder import Builder, Translators
from qanas.quantization.tracing.functions import relu, sigmoid, tanh
from qanas.quantization.tracing.joining import cat, stacked
from qanas.quantization.tracing.layers import linear
from qanas.quantization.tracing.parts import chunk, part
from qanas.quantization.tracing.pointwise import add, multiply, subtract
from qanas.quantization.tracing.shapes import flip
from qanas.quantization.tracing.values import LackingCellError, Stacked, Unavailable, Value

States = list[Value | Tensor]
"""Of one layer and direction, each of shape (units,) for a sample: the hidden state, of an LSTM the cell behind it."""

Step = Callable[[Builder, Value | Tensor, Sequence[Tensor], States], list[Value]]
"""Returns the states behind a step, for what the input adds to the gates, the recurrent weights and the states."""


def lstm_step(builder: Builder, from_input: Value | Tensor, recurrent: Sequence[Tensor], states: States) -> list[Value]:
    """Append a step of an LSTM, gates in the order i, f, g, o.

    Args:
        builder: appends the operators.
        from_input: shape (4 * units,) for a sample, all biases added; a constant where the input is one.
        recurrent: weights, shape (4 * units, units of the hidden state), and where that is a projection its weights,
            shape (units of the hidden state, units).
        states: hidden and cell.
    """
    hidden, cell = states
    weights, *projection = recurrent
    origin = builder.origin
    i, f, g, o = chunk(builder, _sum(builder, from_input, _product(builder, hidden, weights)), 4, 1)
    kept = torch.zeros(1) if _zero(cell) else multiply(builder, sigmoid(builder, f), cell)
    cell = _sum(builder, multiply(builder, sigmoid(builder, i), tanh(builder, g)), kept)
    hidden = multiply(builder, sigmoid(builder, o), tanh(builder, cell))
    if projection:
        builder.origin = f"{origin}, projected"
        hidden = linear(builder, hidden, projection[0])
    return [hidden, cell]


def gru_step(builder: Builder, from_input: Value | Tensor, recurrent: Sequence[Tensor], states: States) -> list[Value]:
    """Append a step of a GRU, gates in the order r, z, n.

    Args:
        builder: appends the operators.
        from_input: shape (3 * units,) for a sample, with its biases; a constant where the input is one.
        recurrent: weights, shape (3 * units, units), and biases, shape (3 * units,).
        states: hidden.
    """
    (hidden,) = states
    gates = 2 * recurrent[0].shape[1]
    weights, biases = ([tensor[:gates], tensor[gates:]] for tensor in recurrent)
    shares, new = (
        part(builder, from_input, (..., kept)) if isinstance(from_input, Value) else from_input[kept]
        for kept in (slice(0, gates), slice(gates, None))
    )
    shares = sigmoid(builder, _sum(builder, shares, _product(builder, hidden, weights[0], biases[0])))
    reset, update = chunk(builder, shares, 2, 1)
    new = tanh(builder, add(builder, new, multiply(builder, reset, _product(builder, hidden, weights[1], biases[1]))))
    return [add(builder, new, multiply(builder, update, subtract(builder, hidden, new)))]


def rnn_step(activation: Callable[[Builder, Value], Value]) -> Step:
    """Return the step of a plain recurrence with an activation."""

    def step(builder: Builder, from_input: Value | Tensor, recurrent: Sequence[Tensor], states: States) -> list[Value]:
        return [activation(builder, add(builder, from_input, _product(builder, states[0], *recurrent)))]

    return step


RNN_STEPS = {"tanh": rnn_step(tanh), "relu": rnn_step(relu)}
"""By the module's nonlinearity."""


def _zero(operand: Value | Tensor) -> bool:
    return isinstance(operand, Tensor) and not bool(operand.any())


def _sum(builder: Builder, one: Value | Tensor, other: Value | Tensor) -> Value:
    return one if isinstance(one, Value) and _zero(other) else add(builder, one, other)


def _product(builder: Builder, state: Value | Tensor, weight: Tensor, bias: Tensor | None = None) -> Value | Tensor:
    """Return what a state or an input adds to gates, shape (..., gates) for a sample."""
    return linear(builder, state, weight, bias) if isinstance(state, Value) else F.linear(state, weight, bias)


def unrolled(
    builder: Builder,
    value: Value | Tensor,
    step: Step,
    kernel: Sequence[Tensor],
    recurrent: Sequence[Tensor],
    states: States,
) -> tuple[Value, list[Value]]:
    """Append all steps of a layer.

    Args:
        builder: appends the operators.
        value: shape (time, features) for a sample.
        step: of the cell.
        kernel: weights of the input and their biases.
        recurrent: what the step takes.
        states: that it starts from.

    Returns:
        The hidden states, shape (time, units) for a sample, and the last states.
    """
    origin = builder.origin or builder.call
    from_input = _product(builder, value, *kernel)
    hidden: list[Value] = []
    last: list[Value] = []
    for time in range(value.shape[0]):
        builder.origin = f"{origin}, of states"
        entry = part(builder, from_input, (slice(None), time)) if isinstance(from_input, Value) else from_input[time]
        last = step(builder, entry, recurrent, [*(last or states)])
        hidden.append(last[0])
    builder.origin = f"{origin}'"
    return stacked(builder, hidden, 1), last


def lstm_weights(module: nn.LSTM | nn.LSTMCell, suffix: str) -> tuple[list[Tensor], list[Tensor]]:
    """Return weights and biases of the input, and the recurrent weights, a projection's too; biases are added up."""
    kernel, recurrent, *biases = weights_of(module, suffix)
    projection = [getattr(module, f"weight_hr{suffix}").detach()] if getattr(module, "proj_size", 0) else []
    return [kernel, biases[0] + biases[1] if biases else torch.zeros_like(kernel[:, 0])], [recurrent, *projection]


def gru_weights(module: nn.GRU | nn.GRUCell | nn.RNN | nn.RNNCell, suffix: str) -> tuple[list[Tensor], list[Tensor]]:
    """Return weights and biases of the input, and those of the state."""
    kernel, recurrent, *biases = weights_of(module, suffix)
    one, other = biases or (torch.zeros_like(kernel[:, 0]),) * 2
    return [kernel, one], [recurrent, other]


def weights_of(module: nn.Module, suffix: str) -> list[Tensor]:
    """Return the weights of inputs and states, and the two biases if there are any."""
    names = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if module.bias else ()))
    return [getattr(module, f"{name}{suffix}").detach() for name in names]


def rnn_cell(builder: Builder, module: nn.RNNCell, value: Value | Tensor, /, hx: object = None) -> Value:
    """Take an `nn.RNNCell`."""
    kernel, recurrent = gru_weights(module, "")
    states = [_state_of_cell(hx, module.hidden_size)]
    (hidden,) = RNN_STEPS[module.nonlinearity](builder, _from_input(builder, value, kernel), recurrent, states)
    return hidden


def lstm_cell(
    builder: Builder, module: nn.LSTMCell, value: Value | Tensor, /, hx: object = None
) -> tuple[Value, Value]:
    """Take an `nn.LSTMCell`."""
    kernel, recurrent = lstm_weights(module, "")
    given = (None, None) if hx is None else hx
    states = [_state_of_cell(entry, module.hidden_size) for entry in given]  # type: ignore[attr-defined]  # a pair
    hidden, cell = lstm_step(builder, _from_input(builder, value, kernel), recurrent, states)
    return hidden, cell


def gru_cell(builder: Builder, module: nn.GRUCell, value: Value | Tensor, /, hx: object = None) -> Value:
    """Take an `nn.GRUCell`."""
    kernel, recurrent = gru_weights(module, "")
    (hidden,) = gru_step(
        builder, _from_input(builder, value, kernel), recurrent, [_state_of_cell(hx, module.hidden_size)]
    )
    return hidden


def _from_input(builder: Builder, value: Value | Tensor, kernel: Sequence[Tensor]) -> Value | Tensor:
    """Return what a cell's input adds to gates, shape (gates,) for a sample; a constant where it is one."""
    return _product(builder, _of_one_sample(value) if isinstance(value, Tensor) else value, *kernel)


def _state_of_cell(state: object, units: int) -> Value | Tensor:
    """Return a cell's state, of shape (units,) for a sample; zeros where none is given."""
    if isinstance(state, Tensor):
        return _of_one_sample(state)
    return state if isinstance(state, Value) else torch.zeros(units)


def _of_one_sample(state: Tensor) -> Tensor:
    """Return a constant state or input, shape (units,), of one that may have the batch of 1 in front."""
    if state.ndim > 1 and len(state) != 1:
        raise ValueError(f"a constant of {len(state)} samples for a cell; it must have as many as the input")
    return state.detach().reshape(state.shape[-1])


def states_of_layers(builder: Builder, given: object, layers: int) -> list[Value | Tensor]:
    """Return a given state, shape (layers, batch, units), layer by layer.

    Raises:
        ValueError: it is of another shape.
    """
    if isinstance(given, Stacked):
        parts: list[Value | Tensor] = list(given.parts)
    elif isinstance(given, Value):
        axis = given.batch
        if len(given.torch) != 2 or axis > 1 or (axis == 0 and layers > 1):  # noqa: PLR2004 - layers, units
            raise ValueError(
                f"a state of shape {given.whole_shape}; it takes (layers, batch, units): state.transpose(0, 1)"
            )
        alone = replace(given, batch=0)
        parts = [part(builder, alone, (slice(None), layer)) for layer in range(given.shape[0])]
    elif isinstance(given, Tensor):
        parts = [_of_one_sample(layer) for layer in given]
    elif isinstance(given, Unavailable):
        raise LackingCellError(given.layer)
    else:
        raise ValueError(f"a state that is a {type(given).__name__}; give a tensor")  # noqa: TRY004 - of the network
    if len(parts) != layers:
        raise ValueError(f"a state of {len(parts)} layers; it takes {layers}")
    return parts


def from_states(
    builder: Builder, module: nn.LSTM | nn.GRU | nn.RNN, value: Value | Tensor, given: Sequence[object]
) -> tuple[Value, list[Stacked]]:
    """Append every layer and direction of a recurrence that starts from given states.

    Args:
        builder: appends the operators.
        module: the recurrence.
        value: shape (time, features) for a sample, the batch in front; a constant without it.
        given: the hidden state, of an LSTM the cell behind it.

    Returns:
        The last layer's hidden states, shape (time, units) for a sample, and the last states of all layers.
    """
    directions = 1 + module.bidirectional
    kinds = [states_of_layers(builder, entry, module.num_layers * directions) for entry in given]
    origin, numbers = builder.origin or builder.call, count()
    last: list[list[Value]] = [[] for _ in kinds]
    for layer in range(module.num_layers):
        outputs = []
        for direction in range(directions):
            number, suffix = next(numbers), f"_l{layer}{'_reverse' * direction}"
            states = [kind[number] for kind in kinds]
            source = _reversed(builder, value) if direction else value
            builder.origin = f"{origin}, {suffix}"
            if isinstance(module, nn.LSTM):
                output, found = unrolled(builder, source, lstm_step, *lstm_weights(module, suffix), states)
            else:
                step = gru_step if isinstance(module, nn.GRU) else RNN_STEPS[module.nonlinearity]
                output, found = unrolled(builder, source, step, *gru_weights(module, suffix), states)
            outputs.append(flip(builder, output, 1) if direction else output)
            for kind, state in zip(last, found, strict=True):
                kind.append(state)
        value = output = outputs[0] if len(outputs) == 1 else cat(builder, outputs, 2)
    return output, [Stacked(tuple(kind)) for kind in last]


def _reversed(builder: Builder, value: Value | Tensor) -> Value | Tensor:
    """Return a sequence, shape (time, features) for a sample, from its end to its beginning."""
    return flip(builder, value, 1) if isinstance(value, Value) else value.flip(0)


TRANSLATORS = Translators(functions={}, modules={nn.RNNCell: rnn_cell, nn.LSTMCell: lstm_cell, nn.GRUCell: gru_cell})
