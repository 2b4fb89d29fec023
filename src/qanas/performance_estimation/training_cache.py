"""A cache of trained weights: the same training is done once, whichever run asks for it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from qanas.core.candidate import Candidate
from qanas.core.sources import digests_of_sources
from qanas.performance_estimation.bench import Bench
from qanas.search_space.start import Start
from qanas.training.packed import packed

logger = logging.getLogger("qanas")

SECONDS = "train_seconds"
DIGEST = "sha256"


@dataclass(frozen=True)
class TrainingCache:
    """A folder of trained weights. Several processes may use it at once; deleting it, or files of it, is safe.

    Attributes:
        folder: made when something is first kept.
    """

    folder: Path

    def path(
        self,
        bench: Bench,
        candidate: Candidate,
        start: Start,
        seed: int,
        epochs: int,
        further: Mapping[str, Any] = MappingProxyType({}),
    ) -> Path:
        """Return where a training's weights are kept; its name follows from all that the weights depend on.

        That is input, architecture and training of the candidate (not how it is quantized), the weights that it
        starts from, seed, epochs, training data, the arguments and source files of task and networks, and the versions
        of this package and of torch, and what further facts there are. Which trainer it was is left out: they differ by
        rounding alone.
        """
        facts = {
            **({"input": dict(candidate.input)} if candidate.input else {}),
            **({"start": start.digest} if start.digest else {}),
            **further,
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

        A damaged file, and one that has no digest, counts as none.
        """
        try:
            with safe_open(path, "pt") as file:
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                facts = file.metadata()
            if facts[DIGEST] != _digest_of(tensors, facts[SECONDS]):
                return None
            network.load_state_dict(tensors)
        except Exception:  # noqa: BLE001 - whatever is wrong with the file, training gives the same weights
            return None
        network.eval()
        return float(facts[SECONDS])

    @staticmethod
    def keep(path: Path, network: nn.Module, train_seconds: float) -> None:
        """Keep a trained network's weights; where that can't be, the log says why, and nothing else is lost."""
        tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        seconds = repr(train_seconds)
        content = packed(tensors, {SECONDS: seconds, DIGEST: _digest_of(tensors, seconds)})
        # A name of its own: another process may be keeping the same.
        partial = path.with_name(f".{uuid.uuid4().hex}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            logger.warning("estimation.cache: %s can't be kept: %s", path, error.strerror)


def _digest_of(tensors: Mapping[str, Tensor], seconds: str) -> str:
    """Return the SHA-256 of weights of any shapes and of the seconds that they took."""
    total = hashlib.sha256(seconds.encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _description(component: object) -> Mapping[str, Any]:
    """Return what a task's or a space's behaviour follows from: its class, its source files, its arguments."""
    kind = type(component)
    return {
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "source": digests_of_sources(kind),  # type: ignore[arg-type]  # mypy takes no class for hashable
        "arguments": {name: repr(value) for name, value in sorted(vars(component).items())},
    }
