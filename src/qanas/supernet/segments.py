"""A training in parts, after each of which a killed one goes on: with seeds of its own for each part."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import safe_open
from torch import Tensor, nn

from qanas.core.events import Event, Watch
from qanas.core.run_folder import write_atomically
from qanas.core.seeds import derive_seed
from qanas.training.loop import Passes, Round, fit
from qanas.training.packed import packed
from qanas.training.trainer import Trainer

SEGMENTS = 20
"""Parts of a training, after each of which a killed one goes on. Each has its own seeds."""

Begin = Callable[[int, torch.Generator], tuple[Trainer, Passes]]
"""Gives the trainer of a part and the whole schedule, by the seed of the data's random changes, and by what batches and
all else are drawn from."""


@dataclass(frozen=True)
class Segment:
    """One of `SEGMENTS` parts of a schedule of passes; only its own steps are drawn."""

    unit: ClassVar[str] = Passes.unit

    passes: Passes
    number: int

    @property
    def total(self) -> int:
        """Of the whole schedule."""
        return self.passes.total

    @property
    def seed(self) -> int:
        """Of this part."""
        return self.passes.seed

    def rounds(self) -> Iterator[Round]:
        """Yield the rounds that end in this part."""
        for part in self.passes.rounds():
            if -(-part.done * SEGMENTS // self.total) - 1 == self.number:
                yield part


@dataclass(frozen=True)
class Checkpoint:
    """What a killed training goes on from: modules, their optimizers, and facts.

    Attributes:
        path: of the file, safetensors.
        trained: modules and what trains them, by name.
    """

    path: Path
    trained: Mapping[str, tuple[nn.Module, torch.optim.Optimizer]]

    def write(self, segments: int, facts: Mapping[str, Any]) -> None:
        """Write all as it is now.

        Args:
            segments: that are done.
            facts: whatever else a training goes on from, as JSON can hold it.
        """
        tensors: dict[str, Tensor] = {}
        for name, (module, optimizer) in self.trained.items():
            tensors |= {f"{name}/{_WEIGHTS}/{key}": values for key, values in module.state_dict().items()}
            for parameter, place in module.named_parameters():
                state = optimizer.state.get(place, {})
                tensors |= {f"{name}/{_STATE}/{parameter}/{k}": v for k, v in state.items() if v is not None}
        told = {_SEGMENTS_DONE: str(segments), _FACTS: json.dumps(dict(facts))}
        write_atomically(self.path, packed(tensors, told))

    def restored(self) -> tuple[int, dict[str, Any]]:
        """Give the modules and optimizers what the file holds; return the segments that are done, and the facts.

        Of a file that is not there, or damaged in any way, they are given nothing: (0, {}) then.
        """
        before = {name: copy.deepcopy(module.state_dict()) for name, (module, _) in self.trained.items()}
        try:
            with safe_open(self.path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                told: dict[str, str] = file.metadata()
            segments, facts = int(told[_SEGMENTS_DONE]), dict(json.loads(told[_FACTS]))
            for name, (module, optimizer) in self.trained.items():
                module.load_state_dict(_part(tensors, f"{name}/{_WEIGHTS}/"))
                parameters = dict(module.named_parameters())
                for key, values in _part(tensors, f"{name}/{_STATE}/").items():
                    parameter, field = key.rsplit("/", 1)
                    optimizer.state[parameters[parameter]][field] = values
        except Exception:  # noqa: BLE001 - none, or damaged in any way
            for name, (module, optimizer) in self.trained.items():
                module.load_state_dict(before[name])
                optimizer.state.clear()
            return 0, {}
        return segments, facts


_WEIGHTS, _STATE = "weights", "optimizer"
_SEGMENTS_DONE, _FACTS = "segments", "facts"


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}


def train_in_segments(first: int, begin: Begin, keep: Callable[[int], None], *, seed: int, watch: Watch) -> bool:
    """Train part by part; return whether it went to the end.

    Args:
        first: part that isn't done yet.
        begin: of each part.
        keep: writes what the next part goes on from, given how many are done.
        seed: of batches, of what else is drawn, and of random changes.
        watch: told of every hundredth of the way; says whether to go on.

    Raises:
        TrainingFailed: the loss became NaN or infinite.
    """
    going = True

    def told(event: Event) -> bool:
        nonlocal going
        going = watch(event)
        return going

    for number in range(first, SEGMENTS):
        own = derive_seed(seed, "segment", number)
        generator = torch.Generator().manual_seed(derive_seed(own, "order"))
        trainer, passes = begin(derive_seed(own, "augmentation"), generator)
        fit(trainer, Segment(passes, number), told)
        if not going:
            return False
        keep(number + 1)
    return True
