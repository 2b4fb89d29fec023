"""Zero-cost proxies: scores of a network that was never trained, from one batch. More is taken to be better."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qanas.core.candidate import Candidate
from qanas.core.errors import TrainingFailed, described
from qanas.core.even_spread import evenly_spread
from qanas.core.seeds import derive_seed
from qanas.performance_estimation.bench import Bench

ProxyName = Literal[
    "parameters", "macs", "synflow", "snip", "grad_norm", "grasp", "fisher", "jacob_cov", "naswot", "zen"
]
PROXIES: tuple[ProxyName, ...] = get_args(ProxyName)

BATCH = 32
"""Training samples, spread evenly, that proxies are had on."""

CORRELATION_FLOOR = 1e-5
ZEN_STEP = 0.01
ZEN_DRAWS = 4

Loss = Callable[[Tensor], Tensor]
"""From a network's output on the batch to its loss."""


def synflow(network: nn.Module, inputs: Tensor) -> float:
    """Return the sum of ``|w| * dR/d|w|``, R the sum of outputs on ones with absolute weights (Tanaka et al. 2020).

    In double precision; batch norms are passed by, as they are before any training in evaluation mode.

    Args:
        network: changed in no way.
        inputs: of the shape that the network takes, (batch, *input_shape); their values don't matter.
    """
    linear = copy.deepcopy(network).double().eval()
    for parameter in linear.parameters():
        parameter.data.abs_()
    with _differentiable():
        total = _only(linear(torch.ones_like(inputs[:1], dtype=torch.float64))).sum()
        gradients = torch.autograd.grad(total, list(linear.parameters()), allow_unused=True)
    pairs = zip(linear.parameters(), gradients, strict=True)
    return float(sum((weight * slope).abs().sum().item() for weight, slope in pairs if slope is not None))


def snip(network: nn.Module, inputs: Tensor, loss: Loss) -> float:
    """Return the sum of ``|w * dL/dw|``, how much the loss hangs on each weight (Lee et al. 2019).

    Args:
        network: changed in no way.
        inputs: shape (batch, *input_shape).
        loss: of its outputs.
    """
    weights, slopes = _gradients(network, inputs, loss)
    return float(sum((weight * slope).abs().sum().item() for weight, slope in zip(weights, slopes, strict=True)))


def grad_norm(network: nn.Module, inputs: Tensor, loss: Loss) -> float:
    """Return the sum of the Euclidean norms of each weight tensor's gradient, inputs of shape (batch, *input_shape)."""
    _, slopes = _gradients(network, inputs, loss)
    return float(sum(slope.norm().item() for slope in slopes))


def grasp(network: nn.Module, inputs: Tensor, loss: Loss) -> float:
    """Return ``-sum(w * H g)``, how pruning would change the flow of gradients (Wang et al. 2020).

    Args:
        network: changed in no way.
        inputs: shape (batch, *input_shape).
        loss: of its outputs.
    """
    with _differentiable():
        weights = _weights(network)
        value = loss(_only(network(inputs)))
        slopes = torch.autograd.grad(value, weights, create_graph=True, allow_unused=True)
        product = sum((slope * slope.detach()).sum() for slope in slopes if slope is not None)
        assert isinstance(product, Tensor)  # noqa: S101 - a network has weights
        curved = torch.autograd.grad(product, weights, allow_unused=True)
    pairs = zip(weights, curved, strict=True)
    return -float(sum((weight * slope).sum().item() for weight, slope in pairs if slope is not None))


def fisher(network: nn.Module, inputs: Tensor, loss: Loss) -> float:
    """Return half the sum, over layers and channels, of the mean over the batch of ``(sum a * dL/da) ** 2``.

    Activations are the outputs of the layers that have weights, their second axis the channels (Theis et al. 2018;
    Turner et al. 2020).

    Args:
        network: changed in no way.
        inputs: shape (batch, *input_shape).
        loss: of its outputs.
    """
    with _differentiable(), _outputs_of(network, _has_own_weights) as found:
        value = loss(_only(network(inputs)))
        slopes = torch.autograd.grad(value, found, allow_unused=True)
    total = 0.0
    for activation, slope in zip(found, slopes, strict=True):
        if slope is not None:
            products = (activation * slope).detach()
            per_channel = products.reshape(*products.shape[:2], -1).sum(-1)
            total += 0.5 * float((per_channel**2).mean(0).sum())
    return total


def jacob_cov(network: nn.Module, inputs: Tensor) -> float:
    """Return ``-sum(log(v + k) + 1 / (v + k))`` of the eigenvalues of the correlations of input Jacobians.

    The less the network's slopes at different samples are alike, the more it tells apart (Mellor et al. 2020).

    Args:
        network: changed in no way.
        inputs: shape (batch, *input_shape).
    """
    with _differentiable():
        asked = inputs.clone().requires_grad_(True)
        slopes = torch.autograd.grad(_only(network(asked)).sum(), asked)[0]
    rows = slopes.reshape(len(inputs), -1).double().numpy()
    rows = rows - rows.mean(1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1)
    correlations = rows @ rows.T / np.maximum(np.outer(norms, norms), 1e-30)
    values = np.maximum(np.linalg.eigvalsh(correlations), 0.0)
    return -float((np.log(values + CORRELATION_FLOOR) + 1.0 / (values + CORRELATION_FLOOR)).sum())


def naswot(network: nn.Module, inputs: Tensor) -> float:
    """Return ``log |det K|``, K the numbers of units that are on or off for both of two samples (Mellor et al. 2021).

    Units are those of ReLUs; in networks without, the signs of the outputs of layers that have weights.

    Args:
        network: changed in no way.
        inputs: shape (batch, *input_shape).
    """
    is_rectifier = any(isinstance(module, _RECTIFIERS) for module in network.modules())
    wanted = (lambda module: isinstance(module, _RECTIFIERS)) if is_rectifier else _has_own_weights
    with torch.no_grad(), _outputs_of(network, wanted) as found:
        network(inputs)
    codes = np.concatenate([(o.reshape(len(inputs), -1) > 0).numpy() for o in found if len(o) == len(inputs)], axis=1)
    on = codes.astype(np.float64)
    alike = on @ on.T + (1 - on) @ (1 - on).T
    return float(np.linalg.slogdet(alike)[1])


def zen(network: nn.Module, inputs: Tensor, seed: int = 0) -> float:
    """Return the logarithm of how far outputs move as Gaussian inputs do a little (Lin et al. 2021, Zen-NAS).

    What batch norms take out is put back: half the logarithm of each one's mean variance. Other than there outputs are
    the network's, not its last features.

    Args:
        network: changed in no way.
        inputs: of the shape that it takes, (batch, *input_shape); their values don't matter.
        seed: of what is drawn.
    """
    copied = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    for module in copied.modules():
        if isinstance(module, _BatchNorm):
            module.train()
            module.momentum = 1.0
    moved = []
    with torch.no_grad():
        for _ in range(ZEN_DRAWS):
            first = torch.randn(inputs.shape, generator=generator)
            second = first + ZEN_STEP * torch.randn(inputs.shape, generator=generator)
            moved.append(float((_only(copied(first)) - _only(copied(second))).abs().mean()))
    norms = [m for m in copied.modules() if isinstance(m, _BatchNorm) and m.running_var is not None]
    logs = [float(torch.log(m.running_var.mean() + m.eps)) for m in norms]  # type: ignore[union-attr]
    put_back = 0.5 * math.fsum(logs)
    return float(np.log(np.mean(moved) + 1e-30)) + put_back


_RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.Hardswish, nn.SiLU)


def proxies_of(bench: Bench, candidate: Candidate, names: Sequence[ProxyName]) -> dict[ProxyName, float]:
    """Return proxies of a candidate's untrained network; weights and samples are the same each time.

    Raises:
        TrainingFailed: one can't be had of this network.
    """
    network = bench.build(candidate, derive_seed(bench.seed, "proxies")).eval()
    data = bench.data_of(candidate).train
    inputs, targets = data.batch(evenly_spread(len(data), min(BATCH, len(data))))
    batch, truth = torch.from_numpy(inputs), torch.from_numpy(targets)
    task = bench.task_of(candidate)
    kind = str(candidate.training.get("loss", task.losses[0]))
    truth = truth.long() if truth.dtype in (torch.int8, torch.uint8, torch.int16, torch.int32) else truth
    loss: Loss = lambda outputs: task.loss(kind, outputs, truth)  # noqa: E731 - handed on below
    ways: Mapping[ProxyName, Callable[[], float]] = {
        "parameters": lambda: float(sum(parameter.numel() for parameter in network.parameters())),
        "macs": lambda: float(bench.blueprint(candidate).graph.macs),
        "synflow": lambda: synflow(network, batch),
        "snip": lambda: snip(network, batch, loss),
        "grad_norm": lambda: grad_norm(network, batch, loss),
        "grasp": lambda: grasp(network, batch, loss),
        "fisher": lambda: fisher(network, batch, loss),
        "jacob_cov": lambda: jacob_cov(network, batch),
        "naswot": lambda: naswot(network, batch),
        "zen": lambda: zen(network, batch, bench.seed),
    }
    found: dict[ProxyName, float] = {}
    for name in names:
        try:
            found[name] = ways[name]()
        except (RuntimeError, NotImplementedError, ValueError) as error:
            raise TrainingFailed(f"{name} can't be had of this network: {described(error)}") from error
        if not np.isfinite(found[name]):
            raise TrainingFailed(f"{name} of this network is {found[name]}")
    return found


def _only(outputs: object) -> Tensor:
    """Return the only output; of several their sum over all would have no meaning here."""
    if isinstance(outputs, Tensor):
        return outputs
    raise RuntimeError("the network has several outputs")


def _weights(network: nn.Module) -> list[Tensor]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _gradients(network: nn.Module, inputs: Tensor, loss: Loss) -> tuple[list[Tensor], list[Tensor]]:
    """Return weights and the loss's gradients with regard to them, those that it depends on."""
    weights = _weights(network)
    with _differentiable():
        slopes = torch.autograd.grad(loss(_only(network(inputs))), weights, allow_unused=True)
    pairs = [(w.detach(), slope) for w, slope in zip(weights, slopes, strict=True) if slope is not None]
    return [weight for weight, _ in pairs], [slope for _, slope in pairs]


def _has_own_weights(module: nn.Module) -> bool:
    return not isinstance(module, _BatchNorm) and next(module.parameters(recurse=False), None) is not None


@contextmanager
def _outputs_of(network: nn.Module, wanted: Callable[[nn.Module], bool]) -> Iterator[list[Tensor]]:
    """Give a list that takes the output, shape (batch, ...), of every wanted module, in the order of the pass."""
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        del module, inputs
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor):
            found.append(first)

    hooks = [module.register_forward_hook(keep) for module in network.modules() if wanted(module)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _differentiable() -> Iterator[None]:
    """Keep what derivatives are had from, whoever called."""
    with torch.enable_grad():
        yield
