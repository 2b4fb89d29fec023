"""Which paths a supernet is trained on, and the trainer that trains them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from qanas.training.pointwise import strides_first
from qanas.training.trainer import TrainingSet, channels_last

Sampling = Literal["fair", "uniform"]

Paths = list[tuple[int, ...]]


def uniform_paths(options: Sequence[int], generator: torch.Generator) -> Paths:
    """Return one path whose options are drawn independently (Guo et al., ECCV 2020).

    Args:
        options: how many there are at each layer.
        generator: of the choice.
    """
    return [tuple(int(torch.randint(count, (), generator=generator)) for count in options)]


def strictly_fair_paths(options: Sequence[int], generator: torch.Generator) -> Paths:
    """Return as many paths as the widest layer has options, each option equally often (Chu et al., ICCV 2021).

    Their gradients are summed before the weights change, so that every option is trained equally often, at the
    same weights of the others. Layers with fewer options repeat theirs: equally often over many draws.

    >>> paths = strictly_fair_paths((3, 3), torch.Generator().manual_seed(0))
    >>> [sorted(layer) for layer in zip(*paths)]
    [[0, 1, 2], [0, 1, 2]]
    """
    most = max(options)
    columns = []
    for count in options:
        rounds = -(-most // count)
        order = torch.cat([torch.randperm(count, generator=generator) for _ in range(rounds)])
        columns.append(order[:most].tolist())
    return list(zip(*columns, strict=True))


SAMPLERS: Mapping[Sampling, Callable[[Sequence[int], torch.Generator], Paths]] = {
    "fair": strictly_fair_paths,
    "uniform": uniform_paths,
}
"""Each returns the paths whose gradients are summed into one step."""


TRIES = 500
"""Paths that are drawn for one whose cost lies in a window (as SPOS' code does)."""

_AT_ONCE = 50


@dataclass(frozen=True)
class CostWindows:
    """Draws paths by their cost: a window of it first, then a path in it (the code of Guo et al., ECCV 2020).

    Drawn option by option, nearly all paths cost about the same, and small and large ones are hardly trained. Where
    none of `TRIES` lies in the window, the one that is nearest to it is taken.

    Attributes:
        costs: what each option adds to a path's cost, a tuple a layer.
        borders: of the windows, rising, one more than there are windows.
    """

    costs: tuple[tuple[float, ...], ...]
    borders: tuple[float, ...]

    @classmethod
    def between(
        cls, costs: Sequence[Sequence[float]], least: float | None, most: float | None, windows: int
    ) -> CostWindows:
        """Return windows of equal width.

        Args:
            costs: what each option of each layer adds.
            least: lower end; None: the cheapest path's cost.
            most: upper end; None: the dearest path's.
            windows: how many.

        Raises:
            ValueError: no path can cost that much.
        """
        ends = sum(min(layer) for layer in costs), sum(max(layer) for layer in costs)
        low, high = ends[0] if least is None else least, ends[1] if most is None else most
        if low > high or high < ends[0] or low > ends[1]:
            raise ValueError(f"paths cost {ends[0]:g} to {ends[1]:g}, none {low:g} to {high:g}")
        low, high = max(low, ends[0]), min(high, ends[1])
        borders = (*(low + (high - low) * part / windows for part in range(windows)), high)
        return cls(tuple(map(tuple, costs)), borders)

    def __call__(self, options: Sequence[int], generator: torch.Generator) -> Paths:
        """Return one path.

        Args:
            options: how many there are at each layer.
            generator: of window and path.
        """
        window = int(torch.randint(len(self.borders) - 1, (), generator=generator))
        low, high = self.borders[window], self.borders[window + 1]
        nearest: tuple[float, tuple[int, ...]] | None = None
        for _ in range(TRIES // _AT_ONCE):
            drawn = [torch.randint(count, (_AT_ONCE,), generator=generator) for count in options]
            cost = torch.zeros(_AT_ONCE, dtype=torch.float64)
            for own, chosen in zip(self.costs, drawn, strict=True):
                cost += torch.tensor(own, dtype=torch.float64)[chosen]
            away = torch.maximum(low - cost, cost - high).clamp(min=0)
            place = int(away.argmin())  # the first of those that are in it
            found = float(away[place]), tuple(int(chosen[place]) for chosen in drawn)
            if nearest is None or found[0] < nearest[0]:
                nearest = found
            if nearest[0] == 0:
                break
        assert nearest is not None  # noqa: S101 - some were drawn
        return [nearest[1]]


def paths_a_step(sampling: Sampling, options: Sequence[int]) -> int:
    """Return how many paths are trained in one step.

    >>> paths_a_step("fair", (3, 2)), paths_a_step("uniform", (3, 2))
    (3, 1)
    """
    return max(options) if sampling == "fair" else 1


MOMENTUM = 0.9
GRADIENT_CLIP = 1.0
"""Bound on the norm of the gradient: first steps of a block whose teacher has channels of little variance are wild."""


def path_optimizer(supernet: nn.Module) -> torch.optim.Optimizer:
    """Return what trains the weights that paths share: SGD with momentum, its learning rate set at every step."""
    return torch.optim.SGD(supernet.parameters(), momentum=MOMENTUM)


class PathsTrainer:
    """The weights that paths share: the gradients of a step's paths on one batch are summed (SGD with momentum).

    Args:
        supernet: called with inputs and a path; trained in place, on the CPU.
        data: what on.
        loss: of outputs and targets, both of shape (batch, ...); returns that of each sample, shape (batch,).
        options: how many there are at each layer.
        sampling: which paths.
        windows: of the paths' cost that they are drawn in, in place of ``sampling``.
        generator: of the paths; where the schedule draws its batches from it too, a step's paths are drawn after them.
        optimizer: of the supernet's weights, that goes on; None: a new one.
    """

    def __init__(
        self,
        supernet: nn.Module,
        data: TrainingSet,
        loss: Callable[[Tensor, Tensor], Tensor],
        *,
        options: Sequence[int],
        sampling: Sampling,
        generator: torch.Generator,
        windows: CostWindows | None = None,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        """Train nothing yet."""
        self.supernet = supernet
        self.data = data
        self.loss = loss
        self.options = options
        self.sample = SAMPLERS[sampling] if windows is None else windows
        self.generator = generator
        self.optimizer = optimizer or path_optimizer(supernet)

    def step(self, indices: Tensor, learning_rate: float) -> float:
        """Train some paths on one batch and return the mean of their losses.

        Args:
            indices: the batch, shape (batch,).
            learning_rate: of the step.
        """
        self.supernet.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        inputs, targets = (channels_last(values) for values in self.data.batch(indices))
        # Options that no path uses have no gradient at all: momentum must not move them.
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for path in self.sample(self.options, self.generator):
            with strides_first(self.supernet):
                outputs = self.supernet(inputs, path)
            loss = self.loss(outputs, targets).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.item())
        nn.utils.clip_grad_norm_(self.supernet.parameters(), GRADIENT_CLIP)
        self.optimizer.step()
        return sum(losses) / len(losses)

    def finish(self) -> None:
        """Leave the supernet in evaluation mode, with the weights of the last step."""
        self.supernet.eval()
