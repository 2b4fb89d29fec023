"""What paths are scored on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qanas.supernet.distillation import NoiseToSignal
from qanas.supernet.teacher_features import BlockFeatures
from qanas.training.torch_trainer import channels_last

CHUNK_NUMBERS = 1 << 16
"""Numbers of a block's input that are computed at a time: with what a layer makes of them they fit into a cache."""


@dataclass(frozen=True)
class ScoredSamples:
    """The teacher's features on held-out samples, cut into chunks.

    Attributes:
        chunks: inputs and targets.
        noise: with the variances of the teacher's outputs over all held-out samples.
    """

    chunks: tuple[BlockFeatures, ...]
    noise: NoiseToSignal

    @classmethod
    def of(cls, features: BlockFeatures, noise: NoiseToSignal, chosen: Sequence[int] | None = None) -> ScoredSamples:
        """Cut some of the samples into chunks, in memory of their own.

        Args:
            features: all held-out samples.
            noise: of all of them.
            chosen: positions of the samples, in the order in which they are scored; None for all.
        """
        positions = torch.arange(len(features)) if chosen is None else torch.tensor(list(chosen))
        size = chunk_size(features)
        chunks = tuple(
            BlockFeatures(channels_last(features.inputs[part]), channels_last(features.outputs[part]))
            for part in torch.split(positions, size)
        )
        return cls(chunks, noise)

    def ratios(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return the noise-to-signal ratio of every sample, float64.

        Args:
            outputs: of each chunk, real values.
        """
        pairs = zip(outputs, self.chunks, strict=True)
        return torch.cat([self.noise(values, chunk.outputs) for values, chunk in pairs]).to(torch.float64)


def chunk_size(features: BlockFeatures) -> int:
    """Return how many samples of a block are computed at a time."""
    return max(1, CHUNK_NUMBERS // features.inputs[0].numel())
