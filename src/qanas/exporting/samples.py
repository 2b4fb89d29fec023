"""Samples that a network is exported with: read, held against its arguments, some of them kept to compare on."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.core.errors import InputError, described, unknown
from qanas.core.even_spread import evenly_spread
from qanas.exporting.report import Reals
from qanas.quantization.tracing import Arguments

Given = NDArray[Any] | Mapping[str, NDArray[Any]]
"""Samples that are there already: an array of shape (n, *input shape), or one for each input by its name."""


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
            held = ", ".join(self.arrays)
            raise InputError(
                f"{self.path}: holds several arrays, {held}, and the network takes one, '{first}'; name it with "
                f"--array; where '{first}' stands for several tensors, wrap the network in a module whose forward has "
                "an argument for each"
            )
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


COMPARED_SAMPLES = 256
"""Samples that are run in the runtime, spread over the calibration data: reference kernels are slow."""

OF_CALIBRATION = "of the calibration"
"""The samples that a file is compared on where no others are there."""

HOLDS_BACK_FROM = 256
"""Samples from which on some are held back."""

FEW_SAMPLES = 100
"""Less than these are few to take ranges from."""

USUAL, FAR = 0.95, 16.0
"""A sample that reaches so many times as far as this share of all costs the others four of their eight bits."""

FURTHER = 1.1
"""How far compared samples may reach beyond those of the calibration, as a multiple."""


@dataclass(frozen=True)
class Split:
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
    def of(cls, samples: Mapping[str, Reals], others: Mapping[str, Reals] | None) -> Split:
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
