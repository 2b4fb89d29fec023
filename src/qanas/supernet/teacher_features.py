"""What the teacher has at the borders of its blocks: what each block is given, and what it shall put out."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.core.errors import InputError
from qanas.core.run_folder import folder_written_atomically, naming
from qanas.search_space.blockwise_space import Block

CHUNK = 8
"""Samples that pass the teacher at a time."""

DIGESTS = "digests.json"
"""Beside the borders' files: what they were when they were written."""


@dataclass(frozen=True)
class BlockFeatures:
    """One block's inputs and the teacher's outputs for them.

    Attributes:
        inputs: shape (n, channels, height, width).
        outputs: likewise, of the block's output.
    """

    inputs: Tensor
    outputs: Tensor

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.inputs)

    @classmethod
    def mapped(cls, folder: Path, block: int) -> BlockFeatures:
        """Map the features of a block, from 0, that `write_features` left."""
        maps = (np.load(folder / f"{border}.npy", mmap_mode="c", allow_pickle=False) for border in (block, block + 1))
        inputs, outputs = (torch.from_numpy(array) for array in maps)
        return cls(inputs, outputs)

    def part(self, samples: NDArray[np.intp]) -> BlockFeatures:
        """Return those of some samples, in memory, by their positions, shape (m,)."""
        chosen = torch.from_numpy(samples)
        return BlockFeatures(self.inputs[chosen], self.outputs[chosen])


def write_features(teacher: nn.Module, blocks: Sequence[Block], samples: Tensor, folder: Path) -> None:
    """Write the values at every border for every sample, an .npy file each: ``0`` is the first block's input.

    Args:
        teacher: in evaluation mode.
        blocks: behind each other.
        samples: shape (n, *input_shape).
        folder: appears as a whole, or not at all.

    Raises:
        InputError: the teacher has no module of a block's path, or its blocks are not behind each other.
    """
    with folder_written_atomically(folder) as partial:
        maps: list[np.memmap[Any, np.dtype[np.float32]]] = []
        for first, borders in _borders(teacher, blocks, samples):
            if not maps:
                shapes = [(len(samples), *border.shape[1:]) for border in borders]
                maps = [_mapped(partial / f"{i}.npy", shape) for i, shape in enumerate(shapes)]
            for values, border in zip(maps, borders, strict=True):
                values[first : first + len(border)] = border.numpy()
        for values in maps:
            values.flush()
        (partial / DIGESTS).write_text(json.dumps(_digests(partial)), "utf-8")


def features_are_there(folder: Path) -> bool:
    """Tell whether `write_features` has written a folder and nothing was damaged since; early runs have no digests."""
    if not folder.is_dir():
        return False
    try:
        return bool(json.loads((folder / DIGESTS).read_text("utf-8")) == _digests(folder))
    except FileNotFoundError:
        return True
    except (OSError, ValueError, RecursionError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every border's file."""
    found = {}
    for path in sorted(folder.glob("*.npy")):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _mapped(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.float32]]:
    """Return a new file's map, its room taken: a full disk ends a process that writes into a map, without a word."""
    values: np.memmap[Any, np.dtype[np.float32]] = open_memmap(path, "w+", np.float32, shape)
    if hasattr(os, "posix_fallocate"):  # not everywhere
        with path.open("r+b") as file, naming(path):
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return values


def features_of(teacher: nn.Module, blocks: Sequence[Block], samples: Tensor) -> list[BlockFeatures]:
    """Return the features of each block for a few samples, in memory.

    Args:
        teacher: in evaluation mode.
        blocks: behind each other.
        samples: shape (n, *input_shape).
    """
    chunks = [borders for _, borders in _borders(teacher, blocks, samples)]
    borders = [torch.cat(parts) for parts in zip(*chunks, strict=True)]
    return [BlockFeatures(*pair) for pair in itertools.pairwise(borders)]


@torch.no_grad()
def _borders(teacher: nn.Module, blocks: Sequence[Block], samples: Tensor) -> Iterator[tuple[int, list[Tensor]]]:
    """Yield the position of a chunk's first sample and its values at every border, shape (chunk, channels, h, w)."""
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((module, inputs[0], output))

    modules = [_module(teacher, block) for block in blocks]
    with contextlib.ExitStack() as stack:
        for module in modules:
            stack.enter_context(_hooked(module, keep))
        for first in range(0, len(samples), CHUNK):
            seen.clear()
            teacher(samples[first : first + CHUNK])
            if [module for module, _, _ in seen] != modules:
                named = ", ".join(block.module for block in blocks)
                raise InputError(f"teacher: values don't pass the blocks {named} in this order, each once")
            borders = [seen[0][1], *(output for _, _, output in seen)]
            for block, (_, given, _), before in zip(blocks, seen, borders, strict=False):
                if given is not before:
                    raise InputError(f"teacher: {block.module} doesn't take what the block before it puts out")
            yield first, borders


@contextlib.contextmanager
def _hooked(module: nn.Module, hook: object) -> Iterator[None]:
    handle = module.register_forward_hook(hook)  # type: ignore[arg-type]  # torch's own type is wider
    try:
        yield
    finally:
        handle.remove()


def _module(teacher: nn.Module, block: Block) -> nn.Module:
    try:
        return teacher.get_submodule(block.module)
    except AttributeError as error:
        raise InputError(f"teacher: {type(teacher).__name__} has no module {block.module}, a block's border") from error
