"""A task and two spaces of one's own, as a user has them beside the recipe: the next value of noisy sines."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from qanas.layers.sequences import Conv1xK
from qanas.networks.lstm import LSTMNetwork
from qanas.search_space.network_space import NetworkSpace, TaskShape
from qanas.search_space.quantization_group import quantization_settings
from qanas.search_space.settings import Choice, Integer, OneOf, Setting
from qanas.search_space.training_group import TrainingSettings, training_settings
from qanas.tasks.base import FloatArray, Split, Task, TaskData

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qanas.core.candidate import Candidate

WINDOW = 8


class Sine(Task):
    """Regression with a metric of its own, the larger the better.

    Args:
        samples: windows of training.
        noise: standard deviation.
        level: added to the last training target; NaN makes every training fail.
    """

    metrics: ClassVar[Mapping[str, Any]] = {"r2": "maximize", "worst": "minimize"}
    losses: ClassVar[tuple[str, ...]] = ("mse",)

    def __init__(self, samples: Annotated[int, Field(ge=16)] = 64, noise: float = 0.05, level: float = 0.0) -> None:
        self.samples = samples
        self.noise = noise
        self.level = level

    def fingerprint(self) -> str:
        return f"sine {self.samples} {self.noise}"

    def load(self) -> TaskData:
        generator = np.random.default_rng(0)
        train, val, test = (self._split(generator, count) for count in (self.samples, 32, 32))
        train.targets[-1] += np.float32(self.level)
        return TaskData(train, val, test, output_size=1, protocol={"val": "32 windows", "test": "32 windows"})

    def _split(self, generator: np.random.Generator, count: int) -> Split:
        phases = generator.uniform(0, 2 * np.pi, (count, 1))
        noise = generator.normal(0, self.noise, (count, WINDOW + 1))
        values: FloatArray = (np.sin(phases + 0.5 * np.arange(WINDOW + 1)) + noise).astype(np.float32)
        return Split(values[:, :-1, None], values[:, -1:].copy())

    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        assert kind == "mse"
        return nn.functional.mse_loss(outputs, targets)

    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        errors = outputs.reshape(-1) - split.targets.reshape(-1)
        return {
            "r2": 1.0 - float((errors**2).sum() / ((split.targets - split.targets.mean()) ** 2).sum()),
            "worst": float(np.abs(errors).max()),
        }


class ConvNet(nn.Module):
    """A causal convolution, ReLU, and a linear layer on the last step."""

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        self.conv = Conv1xK(1, channels, taps, padding="causal")
        self.activation = nn.ReLU()
        self.head = nn.Linear(channels, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.activation(self.conv(inputs))
        output: Tensor = self.head(features[:, -1])
        return output


class ConvOrLSTM(NetworkSpace):
    """Convolutions of some taps, or an LSTM.

    Args:
        most: channels or units.
        deadly: channels at which building the network ends the process; 0 for none.
        learning_rate: of the reference.
    """

    def __init__(self, most: int = 4, deadly: int = 0, learning_rate: float = 0.01) -> None:
        self.most = most
        self.deadly = deadly
        self.learning_rate = learning_rate
        self.builder = os.getpid()

    def settings(self, shape: TaskShape) -> list[Setting]:
        seed = TrainingSettings(self.learning_rate, "adam", "none", 32, shape.losses[0])
        return [
            Choice("kind", "architecture", "conv", options=("conv", "lstm")),
            Integer("width", "architecture", 3, low=1, high=self.most),
            Integer("taps", "architecture", 3, low=1, high=4, condition=OneOf("kind", ("conv",))),
            *training_settings(shape.losses, seed),
            *quantization_settings(),
        ]

    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        chosen = candidate.architecture
        width = int(chosen["width"])
        if width == self.deadly and os.getpid() != self.builder and os.getppid() == self.builder:
            os.kill(os.getpid(), signal.SIGKILL)
        if chosen["kind"] == "lstm":
            return LSTMNetwork(shape.input_shape[-1], [width], shape.output_size, shape.output_scale)
        return ConvNet(width, int(chosen["taps"]))
