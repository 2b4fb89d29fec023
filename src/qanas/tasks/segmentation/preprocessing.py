"""Colours to network inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qanas.tasks.base import FloatArray
from qanas.tasks.segmentation.reader import Bytes


def channel_statistics(images: Bytes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each channel's mean and standard deviation over all pixels, both of shape (3,).

    A channel that is constant has the deviation 1.

    Args:
        images: 0 to 255, shape (n, 3, height, width).
    """
    values = np.arange(256)
    counts = np.stack([np.bincount(images[:, channel].reshape(-1), minlength=256) for channel in range(3)])
    shares = counts / counts.sum(axis=1, keepdims=True)
    means = shares @ values
    deviations = np.sqrt((shares * (values - means[:, None]) ** 2).sum(axis=1))
    return means, np.where(deviations > 0, deviations, 1.0)


def standardise(images: Bytes, means: NDArray[np.float64], deviations: NDArray[np.float64]) -> FloatArray:
    """Return ``(value - mean) / deviation`` of each channel, in single precision, shape (n, 3, height, width)."""
    offsets, factors = means.astype(np.float32), (1.0 / deviations).astype(np.float32)
    standardised: FloatArray = images.astype(np.float32)
    standardised -= offsets[:, None, None]
    standardised *= factors[:, None, None]
    return standardised


def colours(inputs: FloatArray, means: Sequence[float], deviations: Sequence[float]) -> Bytes:
    """Return the images, 0 to 255, that `standardise` made these inputs of; shape (n, 3, height, width)."""
    mean, deviation = (np.asarray(values, dtype=np.float32)[:, None, None] for values in (means, deviations))
    images: Bytes = (inputs * deviation + mean).round().clip(0, 255).astype(np.uint8)
    return images
