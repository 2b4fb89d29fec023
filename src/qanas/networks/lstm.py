"""Stacked LSTM for sequences, read at the last step."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from qanas.layers.linear import ScaledLinear
from qanas.layers.lstm import OneBiasLSTM


class LSTMNetwork(nn.Module):
    """LSTM layers of individual width, the last hidden state of the last one into a linear head.

    Args:
        input_size: features of a time step.
        units: the width of each layer, from the first to the last.
        output_size: values put out per sample.
        output_scale: constant factor of the head, see `ScaledLinear`.
    """

    def __init__(
        self, input_size: int, units: Sequence[int], output_size: int = 1, output_scale: float = 1.0
    ) -> None:
        """Create the layers."""
        super().__init__()
        widths = [input_size, *units]
        self.lstm = nn.Sequential(*(OneBiasLSTM(width, size) for width, size in zip(widths, units, strict=False)))
        self.head = ScaledLinear(units[-1], output_size, output_scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, time, input_size) to (batch, output_size)."""
        hidden: Tensor = self.lstm(inputs)
        output: Tensor = self.head(hidden[:, -1])
        return output
