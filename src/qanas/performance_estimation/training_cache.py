"""Trained weights by what they were trained from: the same training is not done twice."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from qanas.core.candidate import Candidate
from qanas.core.run_folder import write_atomically
from qanas.performance_estimation.bench import Bench
from qanas.search_space.start import Start

SECONDS = "train_seconds"


@dataclass(frozen=True)
class TrainingCache:
    """A folder of trained weights. Several processes may use it at once; deleting it, or files of it, is safe.

    Attributes:
        folder: made when something is first kept.
    """

    folder: Path

    def path(self, bench: Bench, candidate: Candidate, start: Start, seed: int, epochs: int) -> Path:
        """Return where a training's weights are kept; its name follows from all that the weights depend on.

        That is input, architecture and training of the candidate (not how it is quantized), the weights that it
        starts from, seed, epochs, training data, the arguments and source files of task and networks, and the versions
        of this package and of torch. Which trainer it was is left out: they differ by rounding alone.
        """
        facts = {
            **({"input": dict(candidate.input)} if candidate.input else {}),
            **({"start": start.digest} if start.digest else {}),
            "architecture": dict(candidate.architecture),
            "training": dict(candidate.training),
            "seed": seed,
            "epochs": epochs,
            "data": bench.training_data_digest,
            "task": _description(bench.task),
            "networks": _description(bench.networks),
            "versions": [metadata.version(name) for name in ("qanas", "torch")],
        }
        text = json.dumps(facts, sort_keys=True, default=str)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.safetensors"

    @staticmethod
    def load(path: Path, network: nn.Module) -> float | None:
        """Give a network the kept weights and return the CPU seconds that they took, or None where there are none.

        A damaged file counts as none.
        """
        try:
            with safe_open(path, "pt") as file:
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                seconds = float(file.metadata()[SECONDS])
            network.load_state_dict(tensors)
        except Exception:  # noqa: BLE001 - whatever is wrong with the file, training gives the same weights
            return None
        network.eval()
        return seconds

    @staticmethod
    def keep(path: Path, network: nn.Module, train_seconds: float) -> None:
        """Keep a trained network's weights."""
        tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        write_atomically(path, save(tensors, {SECONDS: repr(train_seconds)}))


def _description(component: object) -> Mapping[str, Any]:
    """Return what a task's or a space's behaviour follows from: its class, its source file, its arguments."""
    kind = type(component)
    source = Path(inspect.getfile(kind)).read_bytes()
    return {
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "source": hashlib.sha256(source).hexdigest(),
        "arguments": {name: repr(value) for name, value in sorted(vars(component).items())},
    }
