"""An LSTM layer with one bias a gate, as the deployed operator has it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qanas.layers.initializers import BiasInitializer, Initializer, initialize, initialize_bias


@dataclass(frozen=True)
class LSTMInitialization:
    """How a layer's weights are drawn; the defaults are Keras's.

    Attributes:
        kernel: of the input weights; their fans are those of the four gates together, as in Keras.
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

    def reset_parameters(self, initialization: LSTMInitialization | None = None) -> None:
        """Draw the weights anew, as Keras does by default."""
        initialization = initialization or LSTMInitialization()
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
