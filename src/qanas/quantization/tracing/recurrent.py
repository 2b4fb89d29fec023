"""Recurrent layers: LSTMs and GRUs, of several layers, in both directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from qanas.layers.sequences import OneBiasLSTM
from qanas.quantization.operators.gru import GRU
from qanas.quantization.operators.lstm import LSTM
from qanas.quantization.tracing.builder import Builder, Translators
from qanas.quantization.tracing.cells import from_states, weights_of
from qanas.quantization.tracing.joining import cat
from qanas.quantization.tracing.parts import part
from qanas.quantization.tracing.shapes import flip
from qanas.quantization.tracing.values import Stacked, Unavailable, Value, new_axis, positions


def one_bias_lstm(builder: Builder, module: OneBiasLSTM, value: Value, /) -> Value:
    """Take a `OneBiasLSTM`."""
    return _layer(builder, value, LSTM(module.weight_ih.detach(), module.weight_hh.detach(), module.bias.detach()))


def lstm(
    builder: Builder, module: nn.LSTM, value: Value | Tensor, /, hx: Sequence[object] | None = None
) -> tuple[Value, tuple[Stacked, Stacked | Unavailable]]:
    """Take an `nn.LSTM`; its two biases are added up. One with a projection, which no operator has, goes by steps."""
    if hx is None or _zero(hx):
        by_steps = module in builder.unrolled or module.proj_size
        hx = [_zeros(module, module.proj_size), _zeros(module)] if by_steps else None
    if hx is not None:
        output, (hidden, cell) = _from_states(builder, module, value, hx)
        return output, (hidden, cell)
    _check(module, value)
    assert isinstance(value, Value)  # noqa: S101 - constants come with a state that is none
    output, hidden = _recurrence(builder, module, value, _lstm_of)
    return output, (hidden, Unavailable(hidden.whole_shape, module))


def gru(builder: Builder, module: nn.GRU, value: Value | Tensor, /, hx: object = None) -> tuple[Value, Stacked]:
    """Take an `nn.GRU`."""
    if not _zero(hx):
        output, (hidden,) = _from_states(builder, module, value, [hx])
        return output, hidden
    _check(module, value)
    assert isinstance(value, Value)  # noqa: S101 - likewise
    return _recurrence(builder, module, value, _gru_of)


def rnn(builder: Builder, module: nn.RNN, value: Value | Tensor, /, hx: object = None) -> tuple[Value, Stacked]:
    """Take an `nn.RNN`, which no runtime has as a whole: step by step."""
    output, (hidden,) = _from_states(builder, module, value, [_zeros(module) if hx is None else hx])
    return output, hidden


def _from_states(
    builder: Builder, module: nn.LSTM | nn.GRU | nn.RNN, value: Value | Tensor, given: Sequence[object]
) -> tuple[Value, list[Stacked]]:
    """Append a recurrence that starts from given states, its input a value or a constant with the batch of 1."""
    _check(module, value)
    batch = 0 if module.batch_first else 1
    sample = value.detach().squeeze(batch) if isinstance(value, Tensor) else replace(value, batch=0)
    output, last = from_states(builder, module, sample, given)
    return replace(output, batch=batch), last


def _zeros(module: nn.LSTM | nn.RNN, units: int = 0) -> Tensor:
    """Return the state that a recurrence starts from by default, shape (layers, 1, units); by default those of it."""
    return torch.zeros(module.num_layers * (1 + module.bidirectional), 1, units or module.hidden_size)


def _lstm_of(kernel: Tensor, recurrent: Tensor, *biases: Tensor) -> LSTM:
    return LSTM(kernel, recurrent, biases[0] + biases[1] if biases else torch.zeros_like(kernel[:, 0]))


def _gru_of(kernel: Tensor, recurrent: Tensor, *biases: Tensor) -> GRU:
    return GRU(kernel, recurrent, *(biases or (torch.zeros_like(kernel[:, 0]),) * 2))


def _check(module: nn.LSTM | nn.GRU | nn.RNN, value: Value | Tensor) -> None:
    """Refuse what no operator covers.

    Raises:
        ValueError: it is of another kind, or has the batch elsewhere.
    """
    kind = type(module).__name__
    if isinstance(value, Tensor):
        if value.ndim != 3 or value.shape[0 if module.batch_first else 1] != 1:  # noqa: PLR2004 - batch, time, features
            raise ValueError(f"a {kind} got a constant of shape {tuple(value.shape)}; give it an axis for the batch")
        return
    if value.batch != (0 if module.batch_first else 1):
        raise ValueError(
            f"a {kind} with batch_first = {module.batch_first} and the batch as axis {value.batch}; take "
            "batch_first = True, or put the time in front"
        )
    if len(value.torch) != 2:  # noqa: PLR2004 - time, features
        raise ValueError(f"a {kind} got {value.shape}; it takes (time, features)")


def _recurrence(
    builder: Builder, module: nn.LSTM | nn.GRU, value: Value, cell: Callable[..., LSTM | GRU]
) -> tuple[Value, Stacked]:
    """Append every layer and direction; return the last layer's output and all layers' last states."""
    batch = value.batch
    value = replace(value, batch=0)
    states: list[Value] = []
    for layer in range(module.num_layers):
        outputs = [_layer(builder, value, cell(*weights_of(module, f"_l{layer}")))]
        states.append(part(builder, outputs[0], (slice(None), -1)))
        if module.bidirectional:
            backwards = _layer(builder, flip(builder, value, 1), cell(*weights_of(module, f"_l{layer}_reverse")))
            outputs.append(flip(builder, backwards, 1))
            states.append(part(builder, outputs[1], (slice(None), 0)))
        value = cat(builder, outputs, 2)
    return replace(value, batch=batch), Stacked(tuple(states))


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
        nn.RNN: rnn,
    },
)
