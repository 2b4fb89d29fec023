"""Samples a few at a time: as many as leave a network's values in the cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CHUNK = 1024
"""Samples at a time at most."""

CHUNK_NUMBERS = 1 << 22
"""Numbers of the largest value at a time at most, whatever the size of a sample.

16 MB in float32: what is larger is faster neither in the cache nor in the allocator, which from 32 MB on gives every
value fresh pages. Less than 16 images at a time is slower, too: torch has other kernels for 1 x 1 convolutions then.
"""


def chunks_of(samples: Tensor, largest: int) -> Sequence[Tensor]:
    """Return samples in chunks, as few and as equal as can be; one without samples where there are none.

    Args:
        samples: shape (n, ...).
        largest: numbers of a sample's largest value.
    """
    most = max(1, min(CHUNK, CHUNK_NUMBERS // largest))
    return torch.tensor_split(samples, max(1, -(-len(samples) // most)))
