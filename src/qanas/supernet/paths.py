"""Which paths a supernet is trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch

Sampling = Literal["fair", "uniform"]

Paths = list[tuple[int, ...]]


def uniform_paths(options: Sequence[int], generator: torch.Generator) -> Paths:
    """Return one path whose options are drawn independently (Guo et al., ECCV 2020).

    Args:
        options: how many there are at each layer.
        generator: of the choice.
    """
    return [tuple(int(torch.randint(count, (), generator=generator)) for count in options)]


def strictly_fair_paths(options: Sequence[int], generator: torch.Generator) -> Paths:
    """Return as many paths as the widest layer has options, each option equally often (Chu et al., ICCV 2021).

    Their gradients are summed before the weights change, so that every option is trained equally often, at the
    same weights of the others. Layers with fewer options repeat theirs: equally often over many draws.

    >>> paths = strictly_fair_paths((3, 3), torch.Generator().manual_seed(0))
    >>> [sorted(layer) for layer in zip(*paths)]
    [[0, 1, 2], [0, 1, 2]]
    """
    most = max(options)
    columns = []
    for count in options:
        rounds = -(-most // count)
        order = torch.cat([torch.randperm(count, generator=generator) for _ in range(rounds)])
        columns.append(order[:most].tolist())
    return list(zip(*columns, strict=True))


SAMPLERS: Mapping[Sampling, Callable[[Sequence[int], torch.Generator], Paths]] = {
    "fair": strictly_fair_paths,
    "uniform": uniform_paths,
}
"""Each returns the paths whose gradients are summed into one step."""
