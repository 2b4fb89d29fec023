"""Several LSTM networks as one, by batched matrix products; narrower and shallower ones are padded with zeros."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.networks.lstm import LSTMNetwork


class PaddedLSTMs:
    """The common shape of several `LSTMNetwork`s, and their mathematics.

    A network's weights are a row of a matrix. Where it has fewer units or layers than the widest and the deepest of
    them, its row has zeros, and these stay: a unit whose weights are zero has the cell state 0 and puts out 0, so that
    no weight that reads it has a gradient; nor has a weight that it reads by, since nothing reads the unit. A gradient
    of zero leaves zero weights, moments and averages at zero under RMSProp and Adam, exactly.

    The heads read the last steps of all layers side by side, each masked to its own network's last layer.

    Args:
        networks: of the same input and output size.
        device: of the mask.

    Attributes:
        places: for each network, where in its row each of its parameters is, in the order of ``network.parameters()``,
            flattened.
        size: numbers in a row.
    """

    def __init__(self, networks: Sequence[LSTMNetwork], device: torch.device) -> None:
        """Lay out the rows."""
        depth = max(len(network.layers) for network in networks)
        self.units = [
            max(network.layers[layer].units for network in networks if layer < len(network.layers))
            for layer in range(depth)
        ]
        self.output_size = networks[0].head.out_features
        self.shapes = self._shapes(networks[0].layers[0].input_size)
        self.size = sum(map(math.prod, self.shapes))
        self.places = [self._places(network) for network in networks]
        mask = np.zeros((len(networks), 1, sum(self.units)), np.float32)
        for row, network in zip(mask, networks, strict=True):
            row[:, self._head_columns(network)] = 1.0
        self.mask = torch.from_numpy(mask).to(device)
        scales = [[[float(network.head.scale)]] for network in networks]
        self.scale = torch.tensor(scales, dtype=torch.float32, device=device)

    def split(self, rows: Tensor) -> list[Tensor]:
        """Return the parts of rows, shape (networks, size), as views.

        For each layer these are the input weights (networks, 4, units, inputs), the recurrent weights (networks, 4,
        units, units) and the bias (networks, 4, units), gates in the order i, f, g, o; then the head's weights
        (networks, outputs, units of all layers) and its bias (networks, outputs).
        """
        parts = torch.split(rows, [math.prod(shape) for shape in self.shapes], dim=1)
        return [part.view(len(rows), *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def outputs(self, parts: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Return what each network makes of its own samples.

        Args:
            parts: as `split` gives them.
            inputs: shape (networks, samples, time, features).

        Returns:
            Shape (networks, samples, outputs).
        """
        *layers, head_weight, head_bias = parts
        sequence = inputs.transpose(1, 2)
        last_steps = []
        for weight_ih, weight_hh, bias in zip(layers[::3], layers[1::3], layers[2::3], strict=True):
            hidden = _run_layers(sequence, weight_ih.flatten(1, 2), weight_hh.flatten(1, 2), bias.flatten(1, 2))
            last_steps.append(hidden[-1])
            sequence = torch.stack(hidden, dim=1)
        read = torch.cat(last_steps, dim=2) * self.mask
        return torch.baddbmm(head_bias[:, None], read, head_weight.transpose(1, 2)) * self.scale

    def _shapes(self, features: int) -> list[tuple[int, ...]]:
        shapes: list[tuple[int, ...]] = []
        for inputs, units in zip([features, *self.units], self.units, strict=False):
            shapes += [(4, units, inputs), (4, units, units), (4, units)]
        return [*shapes, (self.output_size, sum(self.units)), (self.output_size,)]

    def _head_columns(self, network: LSTMNetwork) -> slice:
        """Return which columns of the heads' weights read a network's last layer."""
        last = len(network.layers) - 1
        start = sum(self.units[:last])
        return slice(start, start + network.layers[last].units)

    def _places(self, network: LSTMNetwork) -> NDArray[np.int64]:
        starts = np.cumsum([0, *map(math.prod, self.shapes)])
        grids = [
            np.arange(start, start + math.prod(shape)).reshape(shape)
            for start, shape in zip(starts, self.shapes, strict=False)
        ]
        places = []
        for number, layer in enumerate(network.layers):
            weight_ih, weight_hh, bias = grids[3 * number : 3 * number + 3]
            own = layer.units
            places += [weight_ih[:, :own, : layer.input_size], weight_hh[:, :own, :own], bias[:, :own]]
        places += [grids[-2][:, self._head_columns(network)], grids[-1]]
        return np.concatenate([place.reshape(-1) for place in places])


def _run_layers(sequence: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> list[Tensor]:
    """Run one layer of every network over its sequences, from a zero state, as `OneBiasLSTM` does.

    Args:
        sequence: shape (networks, time, samples, inputs).
        weight_ih: shape (networks, 4 * units, inputs), gates in the order i, f, g, o.
        weight_hh: shape (networks, 4 * units, units).
        bias: shape (networks, 4 * units).

    Returns:
        The hidden state after every step, shape (networks, samples, units) each.
    """
    networks, time, samples, inputs = sequence.shape
    rows = sequence.reshape(networks, time * samples, inputs)
    from_inputs = torch.baddbmm(bias[:, None], rows, weight_ih.transpose(1, 2))
    recurrent = weight_hh.transpose(1, 2)
    hidden = cell = sequence.new_zeros(networks, samples, weight_hh.shape[2])
    states: list[Tensor] = []
    for gates in from_inputs.view(networks, time, samples, -1).unbind(1):
        i, f, g, o = torch.baddbmm(gates, hidden, recurrent).chunk(4, dim=2)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        states.append(hidden)
    return states
