from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Count:
    """What a network's convolutions and linear layers do on one sample."""

    macs: int
    parameters: int
    folded_parameters: int


def count(network: nn.Module, size: tuple[int, int]) -> Count:
    """Count by running the network and looking at the shapes that come by."""
    macs = 0

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        del inputs
        assert isinstance(module, nn.Conv2d | nn.Linear)
        per_output = module.weight[0].numel()
        macs += output[0].numel() * per_output

    weighted = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [module.register_forward_hook(look) for module in weighted]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, *size))
    for hook in hooks:
        hook.remove()
    return Count(
        macs=macs,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        folded_parameters=sum(module.weight.numel() + len(module.weight) for module in weighted),
    )


@pytest.fixture
def counted() -> Callable[[nn.Module, tuple[int, int]], Count]:
    return count


def learn_one_step(network: nn.Module, size: tuple[int, int], batch: int = 2) -> None:
    """Take a short step down the gradient: every parameter has a part in it, and the loss falls as it says."""
    torch.manual_seed(0)
    network.train().double()
    inputs = torch.randn(batch, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        targets = torch.randn_like(network(inputs))

    def loss() -> Tensor:
        outputs: Tensor = network(inputs)
        return (outputs - targets).square().mean()

    before = loss()
    gradients = torch.autograd.grad(before, list(network.parameters()))
    length = torch.sqrt(sum((gradient.square().sum() for gradient in gradients), torch.tensor(0.0)))
    step = 1e-5
    with torch.no_grad():
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            assert gradient.isfinite().all()
            parameter.sub_(step * gradient / length)
        assert (before - loss()).item() == pytest.approx(step * length.item(), rel=0.1)
    network.float()


@pytest.fixture
def one_step() -> Callable[..., None]:
    return learn_one_step


def trace_equally(network: nn.Module, size: tuple[int, int]) -> None:
    """Hold a traced network against the network itself, on another batch size than any it was traced with."""
    torch.manual_seed(1)
    inputs = torch.randn(3, 3, *size)
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(torch.fx.symbolic_trace(network)(inputs), network(inputs))


@pytest.fixture
def traced_equal() -> Callable[[nn.Module, tuple[int, int]], None]:
    return trace_equally
