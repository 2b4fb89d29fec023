"""How much faster the compiled trainers are than torch's, in the same fit loop.

Protocol: one process, one thread, both sides in one run on the same synthetic data (30 steps, 14 features),
from the same weights, with the same order of samples. A *step* is one call of ``Trainer.step``: blocks of
steps of the two sides alternate, and the first steps of a block are not counted, since the other side has
used the caches. An *epoch* is the time between two calls of the watch of ``fit``; whole fits of the two
sides alternate, and the first epoch of each is not counted. Reported are medians and the ratio of the
medians, torch / fused. Times depend on the machine and what else it does; only ratios are comparable. With
``--clock cpu`` they are the process's time on the processor: on a machine that others use as well, a step's wall time
is mostly that of waiting for them.

    python benchmarks/training.py --out ratios.json          the table
    python benchmarks/training.py --sweep --out sweep.json   is it slower anywhere in the search space?

Both for LSTMs; with ``--network tcn`` for TCNs.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from qanas.core.events import Event
from qanas.networks.lstm import LSTMNetwork
from qanas.networks.tcn import TCNNetwork
from qanas.search_space.training_group import TrainingSettings
from qanas.training.compiled.lstm import CompiledLSTMTrainer
from qanas.training.compiled.tcn import CompiledTCNTrainer
from qanas.training.loop import Epochs, fit
from qanas.training.torch_trainer import TorchTrainer
from qanas.training.trainer import Loss, Trainer, TrainingSet

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPES = {
    "lstm": ("1x4", "1x8", "1x16", "1x32", "2x32", "1x100", "2x100", "3x16"),
    "tcn": ("2x8x3x2", "4x32x3x2", "5x64x7x2"),  # the second is the reference
}
"""Layers x units of an LSTM; blocks x channels x kernel size x dilation base of a TCN."""

SWEPT = {
    "lstm": [(1, 2, 3), (1, 3, 10, 33, 64, 100)],
    "tcn": [(1, 3, 5), (1, 8, 33, 64), (2, 7), (1, 3)],
}
"""The values of each part of a shape, over the search space."""

WINDOW = 30
SCALE = 125.0

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

ENOUGH = 30
"""Steps for a median."""

BLOCK, WARM_UP = 8, 2
"""Steps of one side in turn, and how many of them only warm the caches."""

MakeTrainer = Callable[[Any, TrainingSet, Loss, TrainingSettings], Trainer]


class ScaledLoss:
    """Mean absolute or squared error in units of `SCALE`, with its gradient."""

    def __call__(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss as a task does."""
        error = (outputs - targets) / SCALE
        return error.abs().mean() if kind == "mae" else error.square().mean()

    def loss_gradient(
        self, kind: str, outputs: NDArray[np.float32], targets: NDArray[np.float32]
    ) -> tuple[float, NDArray[np.float32]]:
        """Return the loss and its gradient by the outputs."""
        error = (outputs - targets) * np.float32(1.0 / SCALE)
        factor = np.float32(1.0 / (SCALE * error.size))
        if kind == "mae":
            return float(np.abs(error).mean()), np.sign(error) * factor
        return float(np.square(error).mean()), error * (np.float32(2.0) * factor)


def scaled_loss(kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the same loss without offering its gradient."""
    return ScaledLoss()(kind, outputs, targets)


def training_set(samples: int, features: int) -> TrainingSet:
    """Return synthetic data of the size of a turbofan's."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(samples, WINDOW, features, generator=generator)
    return TrainingSet(inputs, torch.rand(samples, 1, generator=generator) * SCALE)


def network_of(shape: str, features: int) -> nn.Module:
    """Return the network of a shape, see `SHAPES`."""
    torch.manual_seed(0)
    depth, width, *convolution = map(int, shape.split("x"))
    if convolution:
        kernel_size, dilation_base = convolution
        return TCNNetwork((WINDOW, features), [width] * depth, kernel_size, dilation_base, 1, SCALE)
    return LSTMNetwork(features, [width] * depth, 1, SCALE)


def compiled_trainer(network: nn.Module, data: TrainingSet, loss: Loss, settings: TrainingSettings) -> Trainer:
    """Return the compiled trainer, whatever the choice would be."""
    if isinstance(network, TCNNetwork):
        return CompiledTCNTrainer(network, data, loss, settings)
    return CompiledLSTMTrainer(network, data, loss, settings)  # type: ignore[arg-type]


def step_times(
    network: nn.Module, data: TrainingSet, loss: Loss, settings: TrainingSettings, options: argparse.Namespace
) -> dict[str, float]:
    """Return the median time of a step of each side."""
    clock = CLOCKS[options.clock]
    trainers: dict[str, Trainer] = {
        "torch": TorchTrainer(copy.deepcopy(network), data, loss, settings),
        "fused": compiled_trainer(copy.deepcopy(network), data, loss, settings),
    }
    times: dict[str, list[float]] = {name: [] for name in trainers}
    order = torch.randperm(len(data.inputs), generator=torch.Generator().manual_seed(1))
    starts = range(0, len(order) - settings.batch_size + 1, settings.batch_size)
    next_batch = itertools.cycle([order[start : start + settings.batch_size] for start in starts])
    end = clock() + options.seconds
    while clock() < end or len(times["fused"]) < ENOUGH:
        for name, trainer in trainers.items():
            for n in range(BLOCK):
                indices = next(next_batch)
                start = clock()
                trainer.step(indices, 1e-3)
                if n >= WARM_UP:
                    times[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def epoch_times(
    network: nn.Module, data: TrainingSet, loss: Loss, settings: TrainingSettings, options: argparse.Namespace
) -> dict[str, float]:
    """Return the median time of an epoch of each side, in `fit`."""
    makers: dict[str, MakeTrainer] = {"torch": TorchTrainer, "fused": compiled_trainer}
    times: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(options.rounds):
        for name, maker in makers.items():
            stopwatch = Stopwatch(CLOCKS[options.clock])
            trainer = maker(copy.deepcopy(network), data, loss, settings)
            fit(trainer, Epochs(len(data), settings, 3, seed=0), stopwatch)
            times[name] += [after - before for before, after in itertools.pairwise(stopwatch.ends)]
    return {name: statistics.median(values) for name, values in times.items()}


class Stopwatch:
    """A watch that notes the times at which epochs ended."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start with none."""
        self.clock = clock
        self.ends: list[float] = []

    def __call__(self, event: Event) -> bool:
        """Note the time, and go on."""
        del event
        self.ends.append(self.clock())
        return True


def row(name: str, torch_and_fused: dict[str, float]) -> dict[str, float]:
    """Return one comparison under a name."""
    ratio = torch_and_fused["torch"] / torch_and_fused["fused"]
    return {
        f"{name}_torch_ms": torch_and_fused["torch"] * 1e3,
        f"{name}_fused_ms": torch_and_fused["fused"] * 1e3,
    } | {f"{name}_ratio": ratio}


def table(shapes: list[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare the two sides for shapes, see `SHAPES`."""
    rows: list[dict[str, Any]] = []
    loss: Loss = scaled_loss if options.autograd else ScaledLoss()
    for shape, batch_size in itertools.product(shapes, options.batch_sizes):
        network = network_of(shape, options.features)
        settings = TrainingSettings(5e-3, options.optimizer, "cosine", batch_size, options.loss)
        data = training_set(options.samples, options.features)
        found: dict[str, Any] = {"shape": shape, "batch_size": batch_size, "optimizer": options.optimizer}
        found |= row("step", step_times(network, data, loss, settings, options))
        if not options.sweep:
            found |= row("epoch", epoch_times(network, data, loss, settings, options))
        rows.append(found)
        shown = [f"{k} {v:8.3f}" if isinstance(v, float) else f"{v:>6}" for k, v in found.items()]
        print("  ".join(shown), flush=True)
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=list(SHAPES), default="lstm")
    parser.add_argument(
        "--shapes", nargs="+", help="such as 2x32 (layers x units), 4x32x3x2 (and kernel, dilation base)"
    )
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[64])
    parser.add_argument("--features", type=int, default=14)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--loss", choices=("mae", "mse"), default="mae")
    parser.add_argument("--optimizer", choices=("rmsprop", "adam"), default="rmsprop")
    parser.add_argument("--autograd", action="store_true", help="the loss doesn't offer its gradient")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--seconds", type=float, default=3.0, help="of steps, a shape")
    parser.add_argument("--rounds", type=int, default=3, help="fits of each side, a shape")
    parser.add_argument("--sweep", action="store_true", help="steps over a grid of the search space")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shapes = options.shapes or list(SHAPES[options.network])
    if options.sweep:
        shapes = ["x".join(map(str, shape)) for shape in itertools.product(*SWEPT[options.network])]
        options.batch_sizes = [32, 64, 128, 256]
    rows = table(shapes, options)
    lowest = min(rows, key=lambda found: found["step_ratio"])
    where = f"{lowest['shape']}, batch {lowest['batch_size']}"
    print(f"lowest ratio of a step: {lowest['step_ratio']:.2f} at {where}")
    if options.out is not None:
        options.out.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
