"""A network of one's own as it is exported: traced, with calibration samples and what torch makes of them."""

from __future__ import annotations

import inspect
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.core.errors import InputError, described, find_first_in, import_object, unknown
from qanas.core.even_spread import evenly_spread
from qanas.export.report import Reals
from qanas.quantization.graph import Graph, UnsupportedNetworkError
from qanas.quantization.tracing import trace
from qanas.training.pretrained import load_weights

COMPARED_SAMPLES = 256
"""Samples that are run in the runtime, spread over the calibration data: reference kernels are slow."""

CHUNK = 64
"""Samples that torch computes at a time."""


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        name: ``module:object``.
        graph: of the network.
        samples: of the calibration, (n, *input shape) as torch has them.
        outputs: torch's on them, float32.
    """

    name: str
    graph: Graph
    samples: Reals
    outputs: Reals

    @classmethod
    def load(cls, name: str, calibration: Path, *, weights: Path | None = None, array: str | None = None) -> Source:
        """Read samples, make the network, run it in torch and trace it.

        Args:
            name: ``module:object``, see `load_network`.
            calibration: an .npz file with samples.
            weights: a state dict for the network; None: it has its weights.
            array: the samples' name in the file; None: its only array.

        Raises:
            InputError: any of it can't be had, or the network has what the runtime has not.
        """
        samples = read_samples(calibration, array)
        network = load_network(name, weights)
        outputs = _torch_outputs(name, network, samples, calibration)
        try:
            graph = trace(network, samples.shape[1:])
        except UnsupportedNetworkError as error:
            raise InputError(f"'{name}' can't be exported: {error}") from error
        return cls(name, graph, samples, outputs)

    @property
    def compared(self) -> Reals:
        """The samples that are run in the runtime."""
        return self.samples[self._positions]

    @property
    def compared_outputs(self) -> Reals:
        """Torch's outputs on them."""
        return self.outputs[self._positions]

    @property
    def _positions(self) -> NDArray[np.intp]:
        return evenly_spread(len(self.samples), COMPARED_SAMPLES)


@torch.no_grad()
def _torch_outputs(name: str, network: nn.Module, samples: Reals, path: Path) -> Reals:
    """Return what torch computes.

    Raises:
        InputError: the samples don't fit the network, or it puts out something else than finite values of one tensor.
    """
    outputs: list[Tensor] = []
    for chunk in torch.split(torch.from_numpy(samples), CHUNK):
        try:
            found = network(chunk)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"{path}: '{name}' refuses samples of the shape {samples.shape[1:]}: {reason}") from error
        if not isinstance(found, Tensor) or found.ndim == 0 or len(found) != len(chunk):
            raise InputError(f"'{name}' must put out one tensor, the samples in front; it puts out {_told(found)}")
        outputs.append(found)
    values: Reals = torch.cat(outputs).to(torch.float32).numpy()
    if not np.isfinite(values).all():
        raise InputError(f"'{name}' puts out NaN or infinite values on {path}; look at its weights")
    return values


def _told(found: object) -> str:
    return f"the shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"


def load_network(name: str, weights: Path | None = None) -> nn.Module:
    """Return a network in eval mode, its weights float32 on the CPU.

    Random numbers start from one seed, so that a network without trained weights is the same one each time.

    Args:
        name: ``module:object``, the module found from the current folder first: a network, or a class or function
            without arguments that makes one.
        weights: a state dict to load into it; None: it has its weights already.

    Raises:
        InputError: there is no such object, it gives no network, or the weights are another network's.
    """
    if not re.fullmatch(r"[\w.]+:\w+", name):
        raise InputError(f"'{name}' names no object; give MODULE:OBJECT, such as my_network:build")
    find_first_in(Path.cwd())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = _found(name)
        # Once more: the module's own import, which happens once only, may have drawn numbers.
        torch.manual_seed(0)
        network = _made(name, found)
    network = network.to("cpu", torch.float32).eval()
    if weights is not None:
        load_weights(network, weights)
    return network


def _found(name: str) -> object:
    try:
        return import_object(name)
    except (Exception, SystemExit) as error:
        raise InputError(f"'{name}' can't be imported: {described(error, __file__)}") from error


def _made(name: str, found: object) -> nn.Module:
    """Return the network that an object is, or makes."""
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise InputError(
            f"'{name}' is a {type(found).__name__}; give a torch.nn.Module, or a function without arguments that "
            "returns one"
        )
    needed = _needed_arguments(found)
    if needed:
        raise InputError(
            f"'{name}' needs {', '.join(needed)}; give a function without arguments that makes the network"
        )
    try:
        made: object = found()
    except (Exception, SystemExit) as error:
        raise InputError(f"'{name}' can't be made: {described(error, __file__)}") from error
    if not isinstance(made, nn.Module):
        raise InputError(f"'{name}' returns a {type(made).__name__}; it must return a torch.nn.Module")
    return made


def _needed_arguments(function: object) -> list[str]:
    """Return the names of the arguments that a call can't leave out."""
    try:
        parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]  # it is callable
    except (TypeError, ValueError):  # some of those written in C don't tell
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [entry.name for entry in parameters if entry.default is entry.empty and entry.kind not in optional]


def read_samples(path: Path, array: str | None = None) -> NDArray[np.float32]:
    """Return the samples of a file, (n, *input shape), as the network takes them: preprocessed.

    Args:
        path: an .npz file.
        array: its name in the file; None: the only one.

    Raises:
        InputError: no such file, another format, several arrays, or values that no range can be taken from.
    """
    arrays = _read(path)
    name = _chosen(path, arrays, array)
    samples = arrays[name]
    place = f"{path}: the array '{name}'"
    if not np.issubdtype(samples.dtype, np.floating):
        raise InputError(f"{place} is {samples.dtype}; give float32, preprocessed as the network takes it")
    if samples.ndim < 2:  # noqa: PLR2004 - samples, and at least one axis of each
        raise InputError(f"{place} has the shape {samples.shape}; give (n, *input shape), samples in front")
    if samples.size == 0:
        raise InputError(f"{place} is empty, its shape is {samples.shape}; give some samples")
    if not np.isfinite(samples).all():
        raise InputError(f"{place} holds NaN or infinite values; leave such samples out")
    if samples.min() == samples.max():
        raise InputError(f"{place} holds nothing but {samples.flat[0]:g}; ranges need samples that differ")
    return samples.astype(np.float32)


def _read(path: Path) -> Mapping[str, NDArray[Any]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; numpy.savez('{path}', x=samples) writes one")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not an .npz file; numpy.savez('{path.stem}.npz', x=samples) writes one")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            members = {name: file[name] for name in file.files}
    except Exception as error:  # a damaged file raises whatever its reader stumbles over
        raise InputError(
            f"{path}: can't be read as .npz ({' '.join(str(error).split())[:120]}); write it with numpy.savez"
        ) from error
    # A member that is no .npy file comes as its bytes.
    strange = [name for name, values in members.items() if not isinstance(values, np.ndarray)]
    if strange:
        raise InputError(f"{path}: its member '{strange[0]}' is no array; write the file with numpy.savez")
    return members


def _chosen(path: Path, arrays: Mapping[str, NDArray[Any]], wanted: str | None) -> str:
    known = ", ".join(arrays)
    if not arrays:
        raise InputError(f"{path}: holds no array; numpy.savez('{path}', x=samples) writes one")
    if wanted is None:
        if len(arrays) > 1:
            raise InputError(f"{path}: holds several arrays, {known}; name one with --array")
        return next(iter(arrays))
    if wanted not in arrays:
        raise InputError(f"{path}: {unknown('array', wanted, arrays)}")
    return wanted
