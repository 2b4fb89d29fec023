"""Recurrent layers: LSTMs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qanas.layers.sequences import OneBiasLSTM
from qanas.quantization.operators.lstm import LSTM
from qanas.quantization.tracing.builder import Builder, Translators
from qanas.quantization.tracing.parts import part
from qanas.quantization.tracing.values import Value, new_axis, positions


def one_bias_lstm(builder: Builder, module: OneBiasLSTM, value: Value, /) -> Value:
    """Take a `OneBiasLSTM`."""
    return _layer(builder, value, module.weight_ih, module.weight_hh, module.bias)


def lstm(
    builder: Builder, module: nn.LSTM, value: Value, /, hx: object = None
) -> tuple[Value, tuple[LastHidden, LastCell]]:
    """Take an `nn.LSTM` of any number of layers, from a zero state; its two biases are added up."""
    for name, wanted in (("batch_first", True), ("bidirectional", False), ("proj_size", 0)):
        if getattr(module, name) != wanted:
            raise ValueError(f"an LSTM with {name} = {getattr(module, name)}; take {name} = {wanted}")
    if hx is not None:
        raise ValueError("an LSTM that starts from a given state; start from zero: lstm(x)")
    outputs = []
    for layer in range(module.num_layers):
        kernel, recurrent = (getattr(module, f"weight_{part}_l{layer}") for part in ("ih", "hh"))
        bias = torch.zeros_like(kernel[:, 0])
        if module.bias:
            bias = getattr(module, f"bias_ih_l{layer}") + getattr(module, f"bias_hh_l{layer}")
        value = _layer(builder, value, kernel, recurrent, bias)
        outputs.append(value)
    return value, (LastHidden(builder, tuple(outputs)), LastCell())


def _layer(builder: Builder, value: Value, kernel: Tensor, recurrent: Tensor, bias: Tensor) -> Value:
    if len(value.torch) != 2:  # noqa: PLR2004 - time, features
        raise ValueError(f"an LSTM got {value.shape}; it takes (time, features)")
    if value.shape[1] != kernel.shape[1]:
        raise ValueError(f"an LSTM of {kernel.shape[1]} features got {value.shape[1]}")
    time, features = value.torch
    source, order = builder.last(value, [time], features)
    stored_at = positions(features, order)
    kernel = kernel.detach() if stored_at is None else kernel.detach()[:, stored_at]
    axes = (time, new_axis(recurrent.shape[1]))
    return builder.emit(LSTM(kernel, recurrent.detach(), bias.detach()), [source], axes, axes)


@dataclass(frozen=True)
class LastHidden:
    """What `nn.LSTM` returns as its hidden states at the last step, by layer.

    Attributes:
        builder: appends the slices.
        outputs: of every layer, (time, units).
    """

    builder: Builder
    outputs: tuple[Value, ...]

    def __getitem__(self, layer: object) -> Value:
        """Return a layer's state."""
        if not isinstance(layer, int):
            raise ValueError(f"the part {layer} of an LSTM's last states; take one layer's: hidden[-1]")  # noqa: TRY004
        return part(self.builder, self.outputs[layer], (slice(None), -1))


class LastCell:
    """What `nn.LSTM` returns as its cell states: no runtime gives them out."""

    def __getitem__(self, layer: object) -> Value:
        """Refuse."""
        raise ValueError("an LSTM's cell state as a value; take its hidden state")


TRANSLATORS = Translators(
    functions={},
    modules={
        OneBiasLSTM: one_bias_lstm,
        nn.LSTM: lstm,
    },
)
