"""A step as one CUDA graph: hundreds of small kernels are launched at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UP = 3
"""Steps before the capture, in which libraries choose algorithms and allocate workspaces (torch's own advice)."""


def captured(step: Callable[[], None], state: Sequence[Tensor], device: torch.device) -> Callable[[], None]:
    """Return a function that does what ``step`` does: a CUDA graph of it on a GPU, elsewhere ``step`` itself.

    Written after torch's notes on CUDA graphs; the half that needs a GPU has not been run so far.

    Args:
        step: works on tensors that stay where they are, without asking for a value of one.
        state: all tensors that it changes; they are left as they were.
        device: where.
    """
    if device.type != "cuda":
        return step
    before = [tensor.clone() for tensor in state]
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for tensor, kept in zip(state, before, strict=True):
        tensor.copy_(kept)
    replay: Callable[[], None] = graph.replay
    return replay
