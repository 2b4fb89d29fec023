"""Weights from a file that somebody else trained."""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PosixPath
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError
from qanas.search_space.network_space import TaskShape
from qanas.search_space.start import Start

TORCH_ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".tar")
"""Of files that ``torch.save`` wrote."""

STATES = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights")
"""Names under which checkpoints hold the state dict beside other things."""

COMPILED = "_orig_mod."
"""What a compiled module puts in front of the names of its weights, wherever it is in a network."""

COUNTERS = ("total_ops", "total_params")
"""What profilers leave in the modules that they count."""

NAMED = 5
"""Tensors that a message names at most."""


def load_weights(network: nn.Module, path: Path) -> None:
    """Copy weights into a network by their names, all of them; no code in the file is run.

    Args:
        network: changed in place.
        path: a state dict as safetensors, or what ``torch.save`` wrote (.pt, .pth, .ckpt; read with ``weights_only``):
            a state dict, or a checkpoint that holds one. Where the names of all of the network's weights have one and
            the same in front, as those of what a trainer or a wrapper holds, that is taken off.

    Raises:
        InputError: no such file, another format, or tensors that are missing, too many or of another shape.
    """
    wanted = network.state_dict(keep_vars=True)  # the tensors themselves: tied ones are one
    found = _completed(_own_of(_read(path), wanted, path), wanted)
    problems = [
        _listed("it lacks", [name for name in wanted if name not in found]),
        _listed("the network has no", [name for name in found if name not in wanted]),
        _listed("of another shape:", _misshapen(found, wanted)),
    ]
    if any(problems):
        mend = "" if any((problems[0], problems[2])) else "; take out of the file what is not the network's"
        raise InputError(
            f"{path}: not the weights of this {type(network).__name__}: {'; '.join(filter(None, problems))}{mend}"
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
        raise InputError(f"{path}: no such file; give a state dict as .safetensors, .pt, .pth or .ckpt")
    try:
        found = _loaded(path) if path.suffix in TORCH_ENDINGS else load_file(path)
    except Exception as error:  # a damaged file raises whatever its reader stumbles over
        # What torch says of these is a page, with the advice to run the code in the file.
        strange = re.search(r"GLOBAL (\S+) was not an allowed|(TorchScript) archive", str(error))
        if strange is not None:
            raise InputError(
                f"{path}: holds {strange[1] or strange[2]} beside tensors or in place of them, and no code of a file "
                "is run; save the state dict alone: torch.save(network.state_dict(), PATH)"
            ) from error
        raise InputError(
            f"{path}: can't be read as weights ({' '.join(str(error).split())[:120]}); "
            "save the state dict with safetensors.torch.save_file"
        ) from error
    found = _state_of(found)
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path}: holds {type(found).__name__}, not a state dict; save network.state_dict()")
    odd = [name for name in found if not isinstance(name, str)]
    if odd:
        raise InputError(f"{path}: {odd[0]!r} is no parameter's name; save network.state_dict()")
    return found


def _loaded(path: Path) -> object:
    """Return what ``torch.save`` wrote, read without running anything."""
    make_scalar = np.float64().__reduce__()[0]  # what a pickled one calls
    scalars: list[Any] = [make_scalar, np.dtype, *{type(np.dtype(kind)) for kind in "?bhilqBHILQefd"}]
    # As numpy 1 and Python 3.13 call them.
    others: list[Any] = [(make_scalar, "numpy.core.multiarray.scalar"), (PosixPath, "pathlib._local.PosixPath")]
    with torch.serialization.safe_globals([*scalars, *others, argparse.Namespace, PosixPath]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _state_of(found: object) -> object:
    """Return the state dict in a checkpoint; anything else as it is."""
    while isinstance(found, Mapping) and not all(isinstance(value, Tensor) for value in found.values()):
        held = [found[name] for name in STATES if isinstance(found.get(name), Mapping)]
        if not held:
            break
        found = held[0]
    return found


def _own_of(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> Mapping[str, Tensor]:
    """Return a network's tensors by its own names, out of those of all that was saved with it.

    Args:
        given: by the names in the file.
        wanted: by the network's names.
        path: of the file.

    Raises:
        InputError: several networks in it could be meant.
    """
    plain = {name.replace(COMPILED, ""): name for name in wanted}
    found = {
        plain.get(name.replace(COMPILED, ""), name.replace(COMPILED, "")): tensor
        for name, tensor in given.items()
        if name in wanted or name.rpartition(".")[2] not in COUNTERS
    }
    prefixes = dict.fromkeys(name.removesuffix(own) for name in found for own in _endings(name) if own in wanted)
    behind = {
        prefix: {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
        for prefix in sorted(prefixes, key=len)
    }
    # Less than half of what was saved is a part of another network, such as its head, that happens to fit.
    likely = {prefix: own for prefix, own in behind.items() if 2 * len(own) >= len(found)}
    whole = [prefix for prefix, own in likely.items() if _is_whole(own, wanted)]
    if len(whole) > 1 and whole[0]:
        raise InputError(
            f"{path}: holds several networks that fit, under {' and '.join(whole[:NAMED])}; save the state dict of one"
        )
    # Of what doesn't fit, that which comes nearest: what is wrong is told of it.
    nearest = max(likely, key=lambda prefix: len(wanted.keys() & likely[prefix].keys()), default="")
    return likely.get(whole[0] if whole else nearest, found)


def _is_whole(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    """Tell whether tensors are all that a network has, but for what `_completed` adds."""
    completed = _completed({name: tensor for name, tensor in found.items() if name in wanted}, wanted)
    return completed.keys() == wanted.keys() and not _misshapen(completed, wanted)


def _endings(name: str) -> list[str]:
    """Return a name, and what is left of it behind each of its dots.

    >>> _endings("model.0.weight")
    ['model.0.weight', '0.weight', 'weight']
    """
    parts = name.split(".")
    return [".".join(parts[first:]) for first in range(len(parts))]


COUNTER = "num_batches_tracked"
"""Of batch norms; training alone reads it, and files of other tools and old ones leave it out."""


def _completed(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return tensors with those that follow from them: tied ones, which files hold once, and counters of batches."""
    held = {id(wanted[name]): tensor for name, tensor in found.items() if name in wanted}
    lacking = [name for name in wanted if name not in found]
    tied = {name: held[id(wanted[name])] for name in lacking if id(wanted[name]) in held}
    counters = {name: wanted[name] for name in lacking if name.rpartition(".")[2] == COUNTER}
    return {**counters, **tied, **found} if found else found


def _misshapen(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name} {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        # A lazy module takes the shape that it is given.
        if name in found and not is_lazy(tensor) and found[name].shape != tensor.shape
    ]


def _listed(what: str, names: Sequence[str]) -> str:
    """Return the first names as a part of a sentence, empty where there are none."""
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{what} {', '.join(names[:NAMED])}{more}"
