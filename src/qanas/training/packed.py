"""Weights as the content of a file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors.torch import save
from torch import Tensor


def packed(weights: Mapping[str, Tensor], facts: Mapping[str, str] | None = None) -> bytes:
    """Return weights as safetensors, all of them by every name that they have.

    Layers may share weights, as a network has that is given a module twice; the format knows no two names of one
    tensor, so that each is written by itself. Whoever loads them into such a network gives it the same twice.

    Args:
        weights: a state dict, tensors of any shapes.
        facts: what else the file tells.
    """
    taken: set[int] = set()  # memory that a tensor before has
    own: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        memory = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone(memory_format=torch.contiguous_format) if memory in taken else tensor.contiguous()
        taken.add(memory)
    return save(own, dict(facts or {}))
