"""A network of one's own as it is exported: traced, with calibration samples and what torch makes of them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from qanas.core.errors import InputError, described
from qanas.exporting.own_network import copied, is_ready, load_network, ready, watched
from qanas.exporting.report import Reals
from qanas.exporting.samples import OF_CALIBRATION, Given, Samples, Split
from qanas.quantization.border import named_parts
from qanas.quantization.graph import Graph, OtherNetworkError, UnsupportedNetworkError
from qanas.quantization.ranges import joined
from qanas.quantization.tracing import Arguments, called, trace, traced_difference

CHUNK = 64
"""Samples that torch computes at a time."""


class NotShippedError(InputError):
    """A network that can be read, of which the file would be another one."""


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        name: ``module:object``.
        graph: of the network.
        samples: of the calibration, each of shape (n, *input shape) as torch has them, by the inputs' names.
        compared: those that are run in the runtime, in the same way.
        compared_outputs: torch's on them, float32, each of shape (n, *shape), by the outputs' names.
        checked_on: which samples the compared ones are, in words.
        notes: what is to be told of the samples.
        failure: why nothing may be written, whatever the format: the graph is not what torch computes; else empty.
    """

    name: str
    graph: Graph
    samples: Mapping[str, Reals]
    compared: Mapping[str, Reals]
    compared_outputs: Mapping[str, Reals]
    checked_on: str = OF_CALIBRATION
    notes: tuple[str, ...] = ()
    failure: str = ""

    @classmethod
    def load(
        cls,
        name: str,
        calibration: Path,
        *,
        weights: Path | None = None,
        array: str | None = None,
        check: Path | None = None,
    ) -> Source:
        """Read samples, make the network, run it in torch and trace it.

        Args:
            name: ``module:object``, see `load_network`.
            calibration: an .npz file with samples.
            weights: a state dict for the network; None: it has its weights.
            array: the samples' name in the file; None: its only array, or those with the names of the inputs.
            check: an .npz file like ``calibration`` with other samples, on which the file is compared with torch; None:
                some that are held back from the calibration, where there are enough.

        Raises:
            InputError: any of it can't be had, or the network has what the runtime has not.
            NotShippedError: torch does what no file would.
        """
        # What a user's code prints is not what is asked for: that may be JSON.
        with contextlib.redirect_stdout(sys.stderr):
            return cls._load(name, calibration, weights, array, check)

    @classmethod
    def _load(cls, name: str, calibration: Path, weights: Path | None, array: str | None, check: Path | None) -> Source:
        samples = Samples.read(calibration, array)
        network = load_network(name, weights)
        others = None if check is None else Samples.read(check, array)
        with _as_written():  # now that the network's own modules are imported
            return cls._of(name, network, samples, others)

    @classmethod
    def of(cls, network: nn.Module, calibration: Given, *, check: Given | None = None) -> Source:
        """Take a network and samples that are there already; the network stays as it is.

        Args:
            network: trained.
            calibration: an array of shape (n, *input shape), or arrays by the names of the network's arguments.
            check: like ``calibration``, other samples; see `load`.

        Raises:
            InputError: any of it can't be had, or the network has what the runtime has not.
            NotShippedError: torch does what no file would.
        """
        name = type(network).__name__
        given = Samples.given("calibration", calibration)
        others = None if check is None else Samples.given("check", check)
        with contextlib.redirect_stdout(sys.stderr), _as_written():
            copy = ready(name, copied(name, network))
            with watched(network) as called_ones:
                try:
                    source = cls._of(name, copy, given, others)
                except InputError:
                    if not called_ones:
                        raise
            if not called_ones:
                return source
            if not is_ready(network):
                raise InputError(
                    f"'{name}' can't be copied: a function or hook in it holds its module '{called_ones[0]}'; call "
                    "network.cpu().float().eval() first, or export it from the command line, MODULE:OBJECT"
                )
            return cls._of(name, network, given, others)

    @classmethod
    def _of(cls, name: str, network: nn.Module, calibration: Samples, check: Samples | None) -> Source:
        inputs, notes = calibration.of(Arguments.of(network))
        others = None if check is None else check.of(Arguments.of(network))[0]
        if check is not None and others is not None:
            _require_alike(check.path, others, inputs)
        split = Split.of(inputs, others)
        outputs = _torch_outputs(name, network, split.compared, (check or calibration).path)
        shapes = {argument: values.shape[1:] for argument, values in inputs.items()}
        try:
            graph = trace(network, shapes if len(shapes) > 1 else next(iter(shapes.values())))
        except OtherNetworkError as error:
            raise NotShippedError(f"{name}: {error}") from error
        except UnsupportedNetworkError as error:
            raise InputError(f"'{name}' can't be exported: {error}") from error

        def named(values: Mapping[str, Reals]) -> dict[str, Reals]:
            return dict(zip(graph.border.input_names, values.values(), strict=True))

        compared = named(split.compared)
        apart = traced_difference(graph, network, {name: torch.from_numpy(values) for name, values in compared.items()})
        if apart and _shapes_of(graph) != {output: values.shape[1:] for output, values in outputs.items()}:
            raise NotShippedError(f"{name}: {apart}")  # nothing else can be told of it
        told = (*notes, *split.notes)
        return cls(name, graph, named(split.calibrating), compared, outputs, split.checked_on, told, apart or "")

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The samples as torch takes them, each of shape (n, *input shape), by the inputs' names."""
        return {name: torch.from_numpy(values) for name, values in self.samples.items()}

    @property
    def compared_count(self) -> int:
        """How many samples are compared."""
        return len(next(iter(self.compared.values())))


@contextlib.contextmanager
def _as_written() -> Iterator[None]:
    """Run compiled parts as they are written: to compile takes minutes, a compiler, and another order of sums."""
    if "torch._dynamo" not in sys.modules:  # which to import takes seconds, and without it nothing is compiled
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _require_alike(path: Path, others: Mapping[str, Reals], samples: Mapping[str, Reals]) -> None:
    """Refuse samples to compare on that are not of the inputs that the network is traced with.

    Args:
        path: of the others.
        others: each of shape (n, *input shape), by the arguments' names.
        samples: those of the calibration, in the same way.

    Raises:
        InputError: they have other inputs, or inputs of other shapes.
    """
    if set(others) != set(samples):
        told, wanted = " and ".join(others), " and ".join(samples)
        raise InputError(f"{path}: holds samples of {told}, the calibration those of {wanted}; give the same inputs")
    for name, values in others.items():
        shape, wanted_shape = values.shape[1:], samples[name].shape[1:]
        if shape != wanted_shape:
            raise InputError(
                f"{path}: samples of '{name}' have the shape {shape}, those of the calibration {wanted_shape}; "
                "a file has one shape, give both alike"
            )


def _shapes_of(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Return the shapes of one sample of the outputs as torch has them, by their names."""
    ports = zip(graph.border.outputs, graph.outputs, strict=True)
    return {port.name: port.order.torch_shape(graph.shapes[value]) for port, value in ports}


@torch.no_grad()
def _torch_outputs(name: str, network: nn.Module, samples: Mapping[str, Reals], path: Path) -> dict[str, Reals]:
    """Return what torch computes, each of shape (n, *shape), by the outputs' names.

    Args:
        name: of the network.
        network: in eval mode.
        samples: each of shape (n, *input shape), by the arguments' names.
        path: of the samples.

    Raises:
        InputError: the samples don't fit the network, or it puts out something else than finite values of tensors.
    """
    # Of copies: a network may change its input in place, and the file is run on the same samples.
    chunks = zip(*(torch.split(torch.tensor(values), CHUNK) for values in samples.values()), strict=True)
    outputs: list[dict[str, Tensor]] = []
    for chunk in chunks:
        try:
            returned = called(network, dict(zip(samples, chunk, strict=True)))
        except (Exception, SystemExit) as error:
            shapes = " and ".join(str(values.shape[1:]) for values in samples.values())
            reason = described(error, __file__)
            raise InputError(f"{path}: '{name}' refuses samples of the shape {shapes}: {reason}") from error
        outputs.append(_tensors(name, returned, len(chunk[0])))
    found = {output: values.to(torch.float32).numpy() for output, values in joined(outputs).items()}
    for output, values in found.items():
        if not np.isfinite(values).all():
            where = "" if len(found) == 1 else f" as '{output}'"
            raise InputError(f"'{name}' puts out NaN or infinite values{where} on {path}; look at its weights")
    return found


def _tensors(name: str, returned: object, count: int) -> dict[str, Tensor]:
    """Return what a network put out for some samples by name.

    Raises:
        InputError: it is not made of tensors with the samples in front.
    """
    must = f"'{name}' must put out tensors, the samples in front"
    try:
        tensors = named_parts(returned, Tensor)
    except ValueError as error:
        raise InputError(f"{must}: {error}") from error
    for output, values in tensors.items():
        if values.ndim == 0 or len(values) != count:
            raise InputError(f"{must}; '{output}' has the shape {tuple(values.shape)}")
    return tensors
