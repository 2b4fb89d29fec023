"""Small networks, data and settings that the tests of all trainers share."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from qanas.networks.lstm import LSTMNetwork
from qanas.networks.tcn import TCNNetwork
from qanas.search_space.training_group import Penalty, TrainingSettings
from qanas.training.trainer import TrainingSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SCALE = 10.0
SAMPLES = 90


def loss(kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
    error = (outputs - targets) / SCALE
    return error.abs().mean() if kind == "mae" else error.square().mean()


def settings(**changes: Any) -> TrainingSettings:  # noqa: ANN401
    base = TrainingSettings(5e-3, "rmsprop", "none", 32, "mse")
    return dataclasses.replace(base, **changes)


@dataclasses.dataclass(frozen=True)
class LaterSettings(TrainingSettings):
    """Settings that no trainer but torch's can know."""

    dropout: float = 0.0


def later_settings() -> LaterSettings:
    return LaterSettings(5e-3, "adam", "none", 32, "mse")


def sequences(steps: int, features: int, *, outputs: int = 1, samples: int = SAMPLES) -> TrainingSet:
    """Sequences whose targets follow from their last two steps."""
    inputs = torch.randn(samples, steps, features)
    return TrainingSet(inputs, inputs[:, -2:].mean(dim=(1, 2))[:, None] * SCALE + torch.arange(outputs))


def lstm_training(
    units: Sequence[int], *, samples: int = SAMPLES, steps: int = 7, features: int = 5, outputs: int = 1, seed: int = 0
) -> tuple[LSTMNetwork, TrainingSet]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = LSTMNetwork(features, units, outputs, SCALE)
        for parameter in network.parameters():
            nn.init.uniform_(parameter, -0.7, 0.7)
        return network, sequences(steps, features, outputs=outputs, samples=samples)


def tcn_training(
    channels: Sequence[int],
    *,
    anywhere: bool = True,
    kernel_size: int = 3,
    dilation_base: int = 2,
    window: int = 12,
    features: int = 5,
    outputs: int = 1,
    samples: int = SAMPLES,
) -> tuple[TCNNetwork, TrainingSet]:
    """A TCN and its data; ``anywhere``: weights of any size, not those that training starts from."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TCNNetwork((window, features), channels, kernel_size, dilation_base, outputs, SCALE)
        for parameter in network.parameters() if anywhere else ():
            nn.init.uniform_(parameter, -0.7, 0.7)
        return network, sequences(window, features, outputs=outputs, samples=samples)


LSTM_PENALTIES = {
    "lstm.0.weight_ih": Penalty(l1=0.02),
    "lstm.1.weight_hh": Penalty(l2=0.05),
    "lstm.1.bias": Penalty(0.01, 0.03),
}
"""For networks of two layers."""

TCN_PENALTIES = {
    "blocks.0.convolutions.0.weight": Penalty(l1=0.02),
    "blocks.1.convolutions.4.bias": Penalty(0.01, 0.03),
    "blocks.1.shortcut.weight": Penalty(l2=0.05),
}
"""For networks of two blocks of different width."""


def relative_errors(network: nn.Module, flat: NDArray[np.float32]) -> list[float]:
    """The largest error of each parameter's gradient, relative to the largest entry of that gradient."""
    gradients = [parameter.grad.reshape(-1).numpy() for parameter in network.parameters() if parameter.grad is not None]
    parts = np.split(flat, np.cumsum([len(gradient) for gradient in gradients])[:-1])
    return [
        float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-6))
        for found, expected in zip(parts, gradients, strict=True)
    ]
