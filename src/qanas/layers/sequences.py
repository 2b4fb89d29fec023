"""Layers over time: convolutions with channels last, as the runtime has them, and LSTMs; and their linear heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn
from torch.autograd import Function

from qanas.layers.initializers import BiasInitializer, Initializer, initialize, initialize_bias

Padding = Literal["valid", "causal"]


class Conv1xK(nn.Module):
    """A 1 x k convolution over (batch, ..., time, channels).

    ``torch.nn.Conv1d`` wants channels in front; deployed, that costs transposes around every layer. The runtime
    itself convolves (batch, 1, time, channels): a network that keeps its values so, through
    ``torch.unsqueeze(x, 1)`` at its start, ships without reshapes between its layers.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: k.
        stride: steps of time between two outputs.
        dilation: steps of time between two taps.
        padding: ``valid`` computes only where every tap has input; ``causal`` puts (k - 1) * dilation zeros in
            front, so that output t sees inputs up to t (Bai et al. 2018); a number puts that many.
        bias: whether there is one; before a batch norm it would be without effect.

    Attributes:
        weight: shape (out_channels, in_channels, k).
        bias: shape (out_channels,), or None.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: Padding | int = "valid",
        bias: bool = True,
    ) -> None:
        """Create the parameters."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.stride = stride
        self.dilation = dilation
        self.padding: Padding | int = padding
        self.reset_parameters()

    def reset_parameters(self, initializer: Initializer = "he_uniform") -> None:
        """Draw the weights, for a ReLU behind them by default; biases are zero."""
        outputs, inputs, taps = self.weight.shape
        initialize(self.weight, initializer, inputs * taps, outputs * taps)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def left_padding(self) -> int:
        """Zeros in front of the sequence."""
        if isinstance(self.padding, int):
            return self.padding
        return (self.weight.shape[2] - 1) * self.dilation if self.padding == "causal" else 0

    def forward(self, inputs: Tensor) -> Tensor:
        """Map shape (batch, ..., time, in_channels) to (batch, ..., time', out_channels)."""
        outputs = correlate(inputs, self.weight, self.stride, self.dilation, self.left_padding)
        return outputs if self.bias is None else outputs + self.bias


class ChannelNorm(nn.BatchNorm1d):
    """Batch norm (Ioffe & Szegedy 2015) with channels last, for any number of axes in front of them.

    Folded into the layer before it, it ships at no cost.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise shape (..., channels); one value a channel has no deviation and takes the running statistics."""
        rows = inputs.reshape(-1, self.num_features)
        if len(rows) > 1:
            return super().forward(rows).reshape(inputs.shape)
        outputs = F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return outputs.reshape(inputs.shape)


def correlate(inputs: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1, left_padding: int = 0) -> Tensor:
    """Return the sums of products of a convolution over time.

    With channels last, the inputs of all taps of one output lie in one piece of memory (or in k pieces under
    dilation), so that they are copied fast and the rest is one matrix product. On one CPU thread, forward and
    backward with batch norm (batch 64, 16-64 channels, 30 steps) this takes 0.7-0.9 of the time of
    ``torch.conv1d`` with channels first, and 0.5-0.75 of that with transposes around it.

    Args:
        inputs: shape (batch, ..., time, in).
        weight: shape (out, in, k).
        stride: steps of time between two outputs.
        dilation: steps of time between two taps.
        left_padding: zeros in front of the sequence.

    Returns:
        Shape (batch, ..., time', out).
    """
    *leading, time, channels = inputs.shape
    sequences = inputs.reshape(-1, time, channels)
    if weight.shape[2] == stride == 1 and not left_padding:
        outputs = F.linear(sequences, weight[:, :, 0])
    else:
        outputs = _Correlation.apply(sequences, weight, stride, dilation, left_padding)  # type: ignore[no-untyped-call]
    return outputs.reshape(*leading, *outputs.shape[1:])


class _Correlation(Function):
    """Sums of products over (batch, time, in), by one matrix product over copied windows."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        inputs: Tensor,
        weight: Tensor,
        stride: int,
        dilation: int,
        left_padding: int,
    ) -> Tensor:
        batch, time, channels = inputs.shape
        taps = weight.shape[2]
        if left_padding:
            padded = inputs.new_zeros(batch, time + left_padding, channels)
            padded[:, left_padding:] = inputs
            inputs = padded
        outputs = (inputs.shape[1] - (taps - 1) * dilation - 1) // stride + 1
        by_sample, by_step, by_channel = inputs.stride()
        windows = inputs.as_strided(
            (batch, outputs, taps, channels), (by_sample, stride * by_step, dilation * by_step, by_channel)
        ).reshape(batch * outputs, taps * channels)
        matrix = weight.transpose(1, 2).reshape(len(weight), taps * channels)
        ctx.save_for_backward(windows, matrix)
        ctx.shape, ctx.places = inputs.shape, (outputs, taps, stride, dilation, left_padding)
        return (windows @ matrix.T).view(batch, outputs, len(weight))

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 - torch's context
        gradient: Tensor,
    ) -> tuple[Tensor | None, Tensor, None, None, None]:
        windows, matrix = ctx.saved_tensors
        (batch, _, channels), (outputs, taps, stride, dilation, left_padding) = ctx.shape, ctx.places
        rows = gradient.reshape(batch * outputs, len(matrix))
        by_weight = (rows.T @ windows).view(len(matrix), taps, channels).transpose(1, 2)
        if not ctx.needs_input_grad[0]:
            return None, by_weight, None, None, None
        by_window = (rows @ matrix).view(batch, outputs, taps, channels)
        by_input = gradient.new_zeros(ctx.shape)
        span = (outputs - 1) * stride + 1
        for tap in range(taps):
            start = tap * dilation
            by_input[:, start : start + span : stride] += by_window[:, :, tap]
        return by_input[:, left_padding:], by_weight, None, None, None


@dataclass(frozen=True)
class RecurrentInitialization:
    """How a recurrent layer's weights are drawn; the defaults are Keras's for LSTMs.

    Attributes:
        kernel: of the input weights; their fans are those of all gates together, as in Keras.
        recurrent: of the recurrent weights.
        bias: of the biases.
    """

    kernel: Initializer = "glorot_uniform"
    recurrent: Initializer = "orthogonal"
    bias: BiasInitializer = "unit_forget"


class OneBiasLSTM(nn.Module):
    """A single LSTM layer (Hochreiter & Schmidhuber 1997) without peepholes, with one bias per gate.

    ``torch.nn.LSTM`` adds two biases per gate; Keras and TFLite's fused operator have one. The computation is
    torch's own LSTM kernel with the second bias held at zero::

        i, f, g, o = W_ih x_t + W_hh h_(t-1) + b        (sigmoid, sigmoid, tanh, sigmoid)
        c_t = f * c_(t-1) + i * g
        h_t = o * tanh(c_t)

    Args:
        input_size: features of a time step.
        units: size of the hidden and of the cell state.

    Attributes:
        weight_ih: shape (4 * units, input_size), gates in the order i, f, g, o.
        weight_hh: shape (4 * units, units).
        bias: shape (4 * units,).
    """

    def __init__(self, input_size: int, units: int) -> None:
        """Create the parameters and initialise them as Keras does (see `reset_parameters`)."""
        super().__init__()
        self.input_size = input_size
        self.units = units
        self.weight_ih = nn.Parameter(torch.empty(4 * units, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * units, units))
        self.bias = nn.Parameter(torch.empty(4 * units))
        self.reset_parameters()

    def reset_parameters(self, initialization: RecurrentInitialization | None = None) -> None:
        """Draw the weights anew, as Keras does by default."""
        initialization = initialization or RecurrentInitialization()
        initialize(self.weight_ih, initialization.kernel, self.input_size, 4 * self.units)
        initialize(self.weight_hh, initialization.recurrent, self.units, 4 * self.units)
        initialize_bias(self.bias, initialization.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Run the layer over whole sequences, from a zero state.

        Args:
            inputs: shape (batch, time, input_size).

        Returns:
            The hidden state after every step, shape (batch, time, units).
        """
        return run_lstm(inputs, self.weight_ih, self.weight_hh, self.bias)


def run_lstm(inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> Tensor:
    """Run an LSTM layer by torch's own kernel, from a zero state.

    Args:
        inputs: shape (batch, time, features).
        weight_ih: shape (4 * units, features), gates in the order i, f, g, o.
        weight_hh: shape (4 * units, units).
        bias: shape (4 * units,).

    Returns:
        The hidden state after every step, shape (batch, time, units).
    """
    state = inputs.new_zeros(1, inputs.shape[0], weight_hh.shape[1])
    outputs, _, _ = torch.lstm(
        inputs,
        (state, state),
        [weight_ih, weight_hh, bias, torch.zeros_like(bias)],
        has_biases=True,
        num_layers=1,
        dropout=0.0,
        train=torch.is_grad_enabled(),
        bidirectional=False,
        batch_first=True,
    )
    return outputs


class ScaledLinear(nn.Linear):
    """``scale * (W x + b)`` with a constant scale.

    A regression target of size 100 needs either weights of size 100, which gradient descent reaches slowly, or
    an output in another unit than the target's, which firmware would have to know. With a constant factor the
    weights are of ordinary size and the output is in the target's unit; the quantized graph folds it into W and b.
    """

    def __init__(self, in_features: int, out_features: int, scale: float = 1.0) -> None:
        """Create W (Glorot uniform) and b (zero)."""
        super().__init__(in_features, out_features)
        self.scale = scale

    def reset_parameters(self) -> None:
        """Glorot-uniform weights and zero biases, as in Keras."""
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias, shape (outputs, features) and (outputs,), with the scale folded in."""
        bias = self.bias if self.bias is not None else torch.zeros_like(self.weight[:, 0])
        return self.weight * self.scale, bias * self.scale

    def forward(self, inputs: Tensor) -> Tensor:
        """Map shape (..., in_features) to (..., out_features)."""
        return F.linear(inputs, self.weight, self.bias) * self.scale
