"""`einsum` and `tensordot`: as torch computes them, and as simulated in the runtime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from qanas.quantization.graph import UnsupportedNetworkError
from qanas.quantization.tracing import trace
from tests.quantization.conftest import steps_from_runtime
from tests.quantization.functions import Function

SHAPE = (3, 4, 5)
MATRIX, MATRICES = torch.linspace(-1, 1, 10).reshape(5, 2), torch.linspace(-1, 1, 30).reshape(3, 5, 2).sin()

CONTRACTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "attention": lambda x: torch.einsum("bhid,bhjd->bhij", x, 0.5 * x.flip(2)),
    "what attention finds": lambda x: torch.einsum("bhij, bhjd -> bihd", (x @ x.mT).softmax(-1), x),
    "a linear layer": lambda x: torch.einsum("bhnd,dk->bhnk", x, MATRIX),
    "a linear layer in front": lambda x: torch.einsum("dk,...d->...k", MATRIX, x),
    "over channels": lambda x: torch.einsum("bchw,ck->bkhw", x, MATRICES[:, 0]),
    "over several axes": lambda x: torch.einsum("bcij,cjk->bik", x, MATRICES),
    "a matrix a head": lambda x: torch.einsum("bhnd,hdk->bnhk", x, MATRICES),
    "a product": lambda x: torch.einsum("bhnd,bhd->bhnd", x, x.mean(2)),
    "a product with a constant": lambda x: torch.einsum("bhnd,hd->bdhn", x, MATRICES[..., 0]),
    "a permutation and a sum": lambda x: torch.einsum("bhnd->bdh", x),
    "nothing named": lambda x: torch.einsum("bhnd,dk", x, MATRIX),
    "the batch behind": lambda x: torch.einsum("bhnd,bhnd->nb", x, x).transpose(0, 1),
    "three values": lambda x: torch.einsum("bhnd,bhnd,bhnd->bhn", x, x.flip(1), x.tanh()),
    "two values and a matrix": lambda x: torch.einsum("bhnd,bhnd,dk->bhk", x, x.tanh(), MATRIX),
    "two matrices first": lambda x: torch.einsum("hdk,de,b...ne->b...nk", MATRICES, MATRIX @ MATRIX.T, x[:, :1])[:, 0],
    "tensordot": lambda x: torch.tensordot(x, MATRICES[..., 0].T, dims=([1], [1])).movedim(-1, 1),
    "tensordot of the last": lambda x: torch.tensordot(x, MATRIX, 1),
}


@pytest.mark.parametrize("name", CONTRACTIONS)
def test_contractions_are_those_of_torch(name: str) -> None:
    network = Function(CONTRACTIONS[name])
    samples = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    wanted = network(samples)
    assert torch.allclose(trace(network, SHAPE).forward(samples), wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(steps_from_runtime(network, samples)).max() == 0


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: torch.einsum("bhnd,chnd->bchn", x, x), "mixes samples"),
        (lambda x: torch.einsum("bhnd->hnd", x), "a sum over the batch"),
        (lambda x: torch.einsum("bhii->bhi", x[..., :4]), "a diagonal"),
        (lambda x: torch.einsum("bhn->bh", x), "an operand of 4 axes"),
    ],
)
def test_what_is_no_product_of_samples_is_refused(function: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(UnsupportedNetworkError, match=message):
        trace(Function(function), SHAPE)
