"""Recurrent layers: LSTMs and GRUs, of several layers, in both directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from qanas.layers.sequences import OneBiasLSTM
from qanas.quantization.operators.gru import GRU
from qanas.quantization.operators.lstm import LSTM
from qanas.quantization.tracing.builder import Builder, Translators
from qanas.quantization.tracing.joining import cat
from qanas.quantization.tracing.parts import part
from qanas.quantization.tracing.shapes import flip
from qanas.quantization.tracing.values import Stacked, Unavailable, Value, new_axis, positions


def one_bias_lstm(builder: Builder, module: OneBiasLSTM, value: Value, /) -> Value:
    """Take a `OneBiasLSTM`."""
    return _layer(builder, value, LSTM(module.weight_ih.detach(), module.weight_hh.detach(), module.bias.detach()))


def lstm(
    builder: Builder, module: nn.LSTM, value: Value, /, hx: object = None
) -> tuple[Value, tuple[Stacked, Unavailable]]:
    """Take an `nn.LSTM` from a zero state; its two biases are added up."""
    output, hidden = _recurrence(builder, module, value, hx, _lstm_of)
    return output, (hidden, Unavailable(hidden.whole_shape, "an LSTM's cell state as a value; take its hidden state"))


def gru(builder: Builder, module: nn.GRU, value: Value, /, hx: object = None) -> tuple[Value, Stacked]:
    """Take an `nn.GRU` from a zero state."""
    return _recurrence(builder, module, value, hx, _gru_of)


def _lstm_of(kernel: Tensor, recurrent: Tensor, *biases: Tensor) -> LSTM:
    return LSTM(kernel, recurrent, biases[0] + biases[1] if biases else torch.zeros_like(kernel[:, 0]))


def _gru_of(kernel: Tensor, recurrent: Tensor, *biases: Tensor) -> GRU:
    return GRU(kernel, recurrent, *(biases or (torch.zeros_like(kernel[:, 0]),) * 2))


def _recurrence(
    builder: Builder, module: nn.LSTM | nn.GRU, value: Value, hx: object, cell: Callable[..., LSTM | GRU]
) -> tuple[Value, Stacked]:
    """Append every layer and direction; return the last layer's output and all layers' last states."""
    kind = type(module).__name__
    if module.proj_size:
        raise ValueError(f"a {kind} with proj_size = {module.proj_size}; take proj_size = 0")
    batch = 0 if module.batch_first else 1
    if value.batch != batch:
        raise ValueError(
            f"a {kind} with batch_first = {module.batch_first} and the batch as axis {value.batch}; take "
            "batch_first = True, or put the time in front"
        )
    value = replace(value, batch=0)
    if not _zero(hx):
        raise ValueError(f"a {kind} that starts from a given state; start from zero: {kind.lower()}(x)")
    states: list[Value] = []
    for layer in range(module.num_layers):
        outputs = [_layer(builder, value, cell(*_weights(module, f"l{layer}")))]
        states.append(part(builder, outputs[0], (slice(None), -1)))
        if module.bidirectional:
            backwards = _layer(builder, flip(builder, value, 1), cell(*_weights(module, f"l{layer}_reverse")))
            outputs.append(flip(builder, backwards, 1))
            states.append(part(builder, outputs[1], (slice(None), 0)))
        value = cat(builder, outputs, 2)
    return replace(value, batch=batch), Stacked(tuple(states))


def _weights(module: nn.LSTM | nn.GRU, layer: str) -> list[Tensor]:
    """Return the weights of inputs and states, and the two biases if there are any."""
    names = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if module.bias else ()))
    return [getattr(module, f"{name}_{layer}").detach() for name in names]


def _zero(state: object) -> bool:
    """Tell whether an initial state is none, or zeros."""
    if isinstance(state, tuple | list):
        return all(map(_zero, state))
    return state is None or (isinstance(state, Tensor) and not bool(state.any()))


def _layer(builder: Builder, value: Value, operator: LSTM | GRU) -> Value:
    kind, features = type(operator).__name__, operator.weight_ih.shape[1]
    if len(value.torch) != 2:  # noqa: PLR2004 - time, features
        raise ValueError(f"a {kind} got {value.shape}; it takes (time, features)")
    if value.shape[1] != features:
        raise ValueError(f"a {kind} of {features} features got {value.shape[1]}")
    time, channels = value.torch
    source, order = builder.last(value, [time], channels)
    stored_at = positions(channels, order)
    axes = (time, new_axis(operator.units))
    return builder.emit(operator if stored_at is None else operator.reading(stored_at), [source], axes, axes)


TRANSLATORS = Translators(
    functions={},
    modules={
        OneBiasLSTM: one_bias_lstm,
        nn.LSTM: lstm,
        nn.GRU: gru,
    },
)
