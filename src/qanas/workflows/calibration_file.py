"""Calibration samples from an .npz file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.core.errors import InputError
from qanas.core.suggestions import unknown


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
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # a damaged file raises whatever its reader stumbles over
        raise InputError(
            f"{path}: can't be read as .npz ({' '.join(str(error).split())[:120]}); write it with numpy.savez"
        ) from error


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
