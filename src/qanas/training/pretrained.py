"""Weights from a file that somebody else trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError
from qanas.search_space.network_space import TaskShape
from qanas.search_space.start import Start

TORCH_ENDINGS = (".pt", ".pth")
NAMED = 5
"""Tensors that a message names at most."""


def load_weights(network: nn.Module, path: Path) -> None:
    """Copy weights into a network by their names, all of them; no code in the file is run.

    Args:
        network: changed in place.
        path: a state dict as safetensors, or one that ``torch.save`` wrote (.pt, .pth; read with ``weights_only``).

    Raises:
        InputError: no such file, another format, or tensors that are missing, too many or of another shape.
    """
    found = _read(path)
    wanted = network.state_dict()
    problems = [
        _listed("it lacks", [name for name in wanted if name not in found]),
        _listed("the network has no", [name for name in found if name not in wanted]),
        _listed("of another shape:", _misshapen(found, wanted)),
    ]
    if any(problems):
        raise InputError(
            f"{path}: not the weights of this {type(network).__name__}: {'; '.join(filter(None, problems))}"
        )
    strange = [n for n, tensor in wanted.items() if found[n].is_floating_point() != tensor.is_floating_point()]
    if strange:
        name = strange[0]
        raise InputError(
            f"{path}: {name} is {found[name].dtype}, the network has {wanted[name].dtype}; convert it first"
        )
    try:
        network.load_state_dict(dict(found))
    except RuntimeError as error:  # a tensor that can't be copied: sparse, quantized, or without values
        raise InputError(f"{path}: can't be loaded: {' '.join(str(error).split())[:160]}") from error


@dataclass(frozen=True)
class FileStart(Start):
    """The user's own weights: final, so that the network that has them is not trained.

    Attributes:
        path: a state dict, see `load_weights`.
    """

    path: Path
    trained: ClassVar[bool] = True

    @property
    def digest(self) -> str:
        """Of the file's content."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:8]

    def apply(self, candidate: Candidate, network: nn.Module, shape: TaskShape) -> None:
        """Load the weights, all of them."""
        del candidate, shape
        load_weights(network, self.path)


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a state dict as .safetensors, .pt or .pth")
    try:
        if path.suffix in TORCH_ENDINGS:
            found = torch.load(path, map_location="cpu", weights_only=True)
        else:
            found = load_file(path)
    except Exception as error:  # a damaged file raises whatever its reader stumbles over
        raise InputError(
            f"{path}: can't be read as weights ({' '.join(str(error).split())[:120]}); "
            "save the state dict with safetensors.torch.save_file"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path}: holds {type(found).__name__}, not a state dict; save network.state_dict()")
    odd = [name for name in found if not isinstance(name, str)]
    if odd:
        raise InputError(f"{path}: {odd[0]!r} is no parameter's name; save network.state_dict()")
    return found


def _misshapen(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name} {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]


def _listed(what: str, names: Sequence[str]) -> str:
    """Return the first names as a part of a sentence, empty where there are none."""
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{what} {', '.join(names[:NAMED])}{more}"
