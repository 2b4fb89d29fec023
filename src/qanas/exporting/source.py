"""A network of one's own as it is exported: traced, with calibration samples and what torch makes of them."""

from __future__ import annotations

import contextlib
import copy
import inspect
import re
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from qanas.core.errors import InputError, described, import_object, unknown
from qanas.core.even_spread import evenly_spread
from qanas.core.own_modules import find_first_in
from qanas.exporting.report import Reals
from qanas.quantization.border import INPUT, named_parts
from qanas.quantization.graph import Graph, OtherNetworkError, UnsupportedNetworkError
from qanas.quantization.ranges import joined
from qanas.quantization.tracing import trace, traced_difference, unwrapped
from qanas.training.pretrained import load_weights

COMPARED_SAMPLES = 256
"""Samples that are run in the runtime, spread over the calibration data: reference kernels are slow."""

CHUNK = 64
"""Samples that torch computes at a time."""

OF_CALIBRATION = "of the calibration"
"""The samples that a file is compared on where no others are there."""


Given = NDArray[Any] | Mapping[str, NDArray[Any]]
"""Samples that are there already: an array of shape (n, *input shape), or one for each input by its name."""


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
        return cls._of(name, network, samples, None if check is None else Samples.read(check, array))

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
        with contextlib.redirect_stdout(sys.stderr):
            return cls._of(name, _ready(name, _copied(name, network)), given, others)

    @classmethod
    def _of(cls, name: str, network: nn.Module, calibration: Samples, check: Samples | None) -> Source:
        inputs, notes = calibration.of(Arguments.of(network))
        others = None if check is None else check.of(Arguments.of(network))[0]
        if check is not None and others is not None:
            _require_alike(check.path, others, inputs)
        split = _Split.of(inputs, others)
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


HOLDS_BACK_FROM = 256
"""Samples from which on some are held back."""

FEW_SAMPLES = 100
"""Less than these are few to take ranges from."""

USUAL, FAR = 0.95, 16.0
"""A sample that reaches so many times as far as this share of all costs the others four of their eight bits."""

FURTHER = 1.1
"""How far compared samples may reach beyond those of the calibration, as a multiple."""


@dataclass(frozen=True)
class _Split:
    """Samples that calibrate, and those on which a file is compared with torch.

    Attributes:
        calibrating: each of shape (n, *input shape), by the inputs' names.
        compared: the same; others where there are any.
        checked_on: which ones these are, in words.
        notes: what is to be told of them.
    """

    calibrating: Mapping[str, Reals]
    compared: Mapping[str, Reals]
    checked_on: str
    notes: tuple[str, ...]

    @classmethod
    def of(cls, samples: Mapping[str, Reals], others: Mapping[str, Reals] | None) -> _Split:
        """Hold some samples back where there are enough and no others are given.

        Args:
            samples: each of shape (n, *input shape), by the inputs' names.
            others: the same, to compare on; None: none were given.
        """
        count = len(next(iter(samples.values())))
        told = _far(samples)
        if count < FEW_SAMPLES:
            told = (f"{count} samples are few to calibrate on; give some hundreds", *told)
        if others is not None:
            chosen = _at(others, evenly_spread(len(next(iter(others.values()))), COMPARED_SAMPLES))
            return cls(samples, chosen, "of --check", (*told, *_further(samples, chosen)))
        if count < HOLDS_BACK_FROM:
            alike = "sqnr_db is of samples that calibrated, others may do worse: give some with --check"
            chosen = _at(samples, evenly_spread(count, COMPARED_SAMPLES))
            return cls(samples, chosen, OF_CALIBRATION, (*told, alike))
        back = np.zeros(count, dtype=bool)
        back[evenly_spread(count, min(count // 4, COMPARED_SAMPLES))] = True
        calibrating, held = _at(samples, np.flatnonzero(~back)), _at(samples, np.flatnonzero(back))
        return cls(calibrating, held, "held back from the calibration", (*told, *_further(calibrating, held)))


def _far(samples: Mapping[str, Reals]) -> tuple[str, ...]:
    """Return what to tell of a few samples that reach so far that they alone set the step of all."""
    told = []
    for name, values in samples.items():
        reaches = np.abs(values).reshape(len(values), -1).max(axis=1)  # shape (n,)
        usual, farthest = float(np.quantile(reaches, USUAL)), int(reaches.argmax())
        if usual > 0 and reaches[farthest] > FAR * usual:
            told.append(
                f"sample {farthest} of '{name}' reaches to {reaches[farthest]:.4g}, {USUAL:.0%} of the samples to "
                f"{usual:.4g} at most: codes cover the former, and have {usual / reaches[farthest]:.2%} of their steps "
                "for the latter; leave such samples out, or what stands for a missing value in them"
            )
    return tuple(told)


def _at(samples: Mapping[str, Reals], positions: NDArray[np.intp]) -> dict[str, Reals]:
    return {name: values[positions] for name, values in samples.items()}


def _further(calibrating: Mapping[str, Reals], compared: Mapping[str, Reals]) -> tuple[str, ...]:
    """Return what to tell of compared samples that reach further than those of the calibration."""
    told = []
    for name, values in compared.items():
        low, high = float(calibrating[name].min()), float(calibrating[name].max())
        span, reach = high - low, max(float(values.max()), high) - min(float(values.min()), low)
        if reach > FURTHER * span:
            outside = float(((values < low) | (values > high)).mean())
            told.append(
                f"compared samples of '{name}' reach {reach / span:.2g} times as far as the calibration's "
                f"({outside:.1%} of their values are outside and clipped); calibrate with samples like them"
            )
    return tuple(told)


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
            returned = network(*chunk) if len(chunk) == 1 else network(**dict(zip(samples, chunk, strict=True)))
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


@dataclass(frozen=True)
class Arguments:
    """The arguments of a network's forward that tensors can be given for.

    Attributes:
        needed: those that a call can't leave out, in their order.
        optional: the others.
    """

    needed: tuple[str, ...]
    optional: tuple[str, ...]

    @classmethod
    def of(cls, network: nn.Module) -> Self:
        """Look at a network's forward."""
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        named = [
            entry for entry in inspect.signature(network.forward).parameters.values() if entry.kind not in variable
        ]
        needed = tuple(entry.name for entry in named if entry.default is entry.empty)
        return cls(needed, tuple(entry.name for entry in named if entry.name not in needed))

    @property
    def first(self) -> str:
        """The one that a single array is for."""
        return next(iter((*self.needed, *self.optional)), INPUT)


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
    network = _ready(name, network)
    if weights is not None:
        load_weights(network, weights)
    return network


def _ready(name: str, network: nn.Module) -> nn.Module:
    """Return a network in eval mode, its weights float32 on the CPU."""
    try:
        return unwrapped(network).to("cpu", torch.float32).eval()
    except UnsupportedNetworkError as error:
        raise InputError(f"'{name}': {error}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"'{name}' can't be put into eval mode on the CPU: {described(error, __file__)}") from error


class _Detaching(TorchFunctionMode):
    """Copies what was computed from parameters, too: `weight_norm`, pruning and kept features leave such tensors."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever is called
        """Copy a tensor that torch's own copy refuses without its history."""
        if func is not Tensor.__deepcopy__ or args[0].is_leaf:
            return func(*args, **(kwargs or {}))
        tensor, copied = args
        return copied.setdefault(id(tensor), tensor.detach().clone())


def _copied(name: str, network: nn.Module) -> nn.Module:
    """Return a network of the same values that can be changed.

    Raises:
        InputError: something in it can't be copied.
    """
    if any(map(is_lazy, (*network.parameters(), *network.buffers()))):
        raise InputError(f"'{name}' has lazy modules without weights; call it on a sample, or train it, first")
    try:
        with _Detaching():
            return copy.deepcopy(network)
    except Exception as error:  # whatever a user's objects raise
        reason = described(error, __file__)
        raise InputError(
            f"'{name}' can't be copied: {reason}; export it from the command line, MODULE:OBJECT"
        ) from error


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


@dataclass(frozen=True)
class Samples:
    """The arrays of a calibration file.

    Attributes:
        path: of the file.
        arrays: by their names.
        wanted: the only one that is asked for; None: what the network takes.
    """

    path: Path
    arrays: Mapping[str, NDArray[Any]]
    wanted: str | None

    @classmethod
    def read(cls, path: Path, wanted: str | None = None) -> Self:
        """Read a file.

        Args:
            path: an .npz file.
            wanted: the name of one array of it; None: what the network takes.

        Raises:
            InputError: no such file, another format, or not the array that is wanted.
        """
        arrays = _read(path)
        if not arrays:
            raise InputError(f"{path}: holds no array; numpy.savez('{path}', x=samples) writes one")
        if wanted is not None and wanted not in arrays:
            raise InputError(f"{path}: {unknown('array', wanted, arrays)}")
        return cls(path, arrays, wanted)

    @classmethod
    def given(cls, name: str, samples: Given) -> Self:
        """Take arrays of shape (n, *input shape) that are there already, one or by the names of arguments.

        Args:
            name: of them, for messages.
            samples: the arrays.

        Raises:
            InputError: one of them is no array, or there is none.
        """
        arrays = samples if isinstance(samples, Mapping) else {"arr_0": samples}
        if not arrays:
            raise InputError(f"{name}: holds no array; give one of shape (n, *input shape)")
        return cls(Path(name), {key: _array(name, key, values) for key, values in arrays.items()}, None)

    def of(self, arguments: Arguments) -> tuple[dict[str, Reals], tuple[str, ...]]:
        """Return samples for a network's arguments, each of shape (n, *input shape), and what is to be told of them.

        Raises:
            InputError: several arrays and none says which one it is, not one for each input, or values that no range
                can be taken from.
        """
        chosen, notes = self._alone(arguments) if len(arguments.needed) < 2 else self._several(arguments)  # noqa: PLR2004
        samples = {argument: self._checked(array) for argument, array in chosen.items()}
        counts = {argument: len(values) for argument, values in samples.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} of '{argument}'" for argument, count in counts.items())
            raise InputError(f"{self.path}: {told}; give as many samples of every input")
        if not notes:
            return samples, ()
        # The same samples, but no pair of equal ones: what compares inputs would see nothing else.
        shift = max(1, next(iter(counts.values())) // len(samples))
        moved = {
            argument: np.roll(values, shift * place, 0) for place, (argument, values) in enumerate(samples.items())
        }
        return moved, notes

    def _alone(self, arguments: Arguments) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return the array of the only input that a network needs, and those of others that it can have."""
        first = arguments.first
        others = {name: name for name in arguments.optional if name in self.arrays and name != first}
        left = [name for name in self.arrays if name not in others]
        if self.wanted is not None:
            return {first: self.wanted}, ()
        if first not in self.arrays and len(left) != 1:
            raise InputError(f"{self.path}: holds several arrays, {', '.join(self.arrays)}; name one with --array")
        return {first: first if first in self.arrays else left[0], **others}, ()

    def _several(self, arguments: Arguments) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return the array of each input: by its name, or in their order where numpy has given the names."""
        needed, known = arguments.needed, list(self.arrays)
        if set(needed) <= set(known) and self.wanted is None:
            return {name: name for name in (*needed, *arguments.optional) if name in self.arrays}, ()
        if known == [f"arr_{number}" for number in range(len(needed))]:
            return dict(zip(needed, known, strict=True)), ()
        if len(known) == 1 or self.wanted is not None:
            array = self.wanted or known[0]
            told = (
                f"{self.path} holds the samples of one input; '{array}' stands for {' and '.join(needed)}, in another "
                "order for each; give an array for each, by the argument's name"
            )
            return dict.fromkeys(needed, array), (told,)
        raise InputError(
            f"{self.path}: holds the arrays {', '.join(known)}, but the network takes {', '.join(needed)}; give an "
            "array for each input, by the argument's name"
        )

    def _checked(self, name: str) -> Reals:
        """Return an array in float32, shape (n, *input shape)."""
        samples = self.arrays[name]
        place = f"{self.path}: the array '{name}'"
        if not np.issubdtype(samples.dtype, np.floating):
            raise InputError(f"{place} is {samples.dtype}; give float32, preprocessed as the network takes it")
        if samples.ndim < 2:  # noqa: PLR2004 - samples, and at least one axis of each
            raise InputError(f"{place} has the shape {samples.shape}; give (n, *input shape), samples in front")
        if samples.size == 0:
            raise InputError(f"{place} is empty, its shape is {samples.shape}; give some samples")
        with np.errstate(over="ignore"):
            samples = samples.astype(np.float32)  # beyond its range they are infinite
        if not np.isfinite(samples).all():
            raise InputError(f"{place} holds NaN or values that are infinite in float32; leave such samples out")
        if samples.min() == samples.max():
            raise InputError(f"{place} holds nothing but {samples.flat[0]:g}; ranges need samples that differ")
        return samples


def _array(name: str, key: str, values: object) -> NDArray[Any]:
    """Return what was given as an array, tensors too, wherever they are and with a gradient or without.

    Raises:
        InputError: it is none, such as a list of samples that differ in shape.
    """
    try:
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = values.to(torch.float32) if values.is_floating_point() else values  # numpy has no bfloat16
        return np.asarray(values)
    except Exception as error:  # whatever a user's objects raise
        reason = described(error, __file__)
        raise InputError(f"{name}: '{key}' is no array ({reason}); give one of shape (n, *input shape)") from error


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
