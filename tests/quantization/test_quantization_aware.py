"""Quantization-aware training: what it computes, what its gradient is, and that it ships what it trained."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from qanas.layers.sequences import ChannelNorm, Conv1xK
from qanas.networks.lstm import LSTMNetwork
from qanas.networks.tcn import TCNNetwork
from qanas.quantization.graph import Graph
from qanas.quantization.numbers.affine import Affine, QuantizedWeights, WeightBits
from qanas.quantization.operators.arithmetic import Add
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.convolution import Convolution
from qanas.quantization.operators.dense import Dense
from qanas.quantization.operators.lstm import LSTM
from qanas.quantization.quantization_aware import FakeQuantizedGraph, fake_quantize, fake_quantize_weights
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace
from qanas.search_space.training_group import TrainingSettings
from qanas.training.loop import Epochs, fit
from qanas.training.torch_trainer import TorchTrainer
from qanas.training.trainer import TrainingSet

WINDOW, FEATURES = 8, 3


def samples(count: int = 64) -> Tensor:
    return torch.randn(count, WINDOW, FEATURES, generator=torch.Generator().manual_seed(count))


def lstm() -> nn.Module:
    torch.manual_seed(0)
    return LSTMNetwork(FEATURES, [5, 4], 1, 20.0)


def tcn() -> nn.Module:
    torch.manual_seed(0)
    network = TCNNetwork((WINDOW, FEATURES), [4, 6], 3, 2, 1, 20.0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, ChannelNorm):
                assert module.running_mean is not None
                module.running_mean.uniform_(-0.5, 0.5)
    return network.eval()


def fake(network: nn.Module, bits: WeightBits) -> tuple[Graph, FakeQuantizedGraph, QuantizedGraph]:
    graph = trace(network, (WINDOW, FEATURES))
    ranges = graph.calibrate(samples())
    return graph, FakeQuantizedGraph(graph, ranges, Scheme(bits)), QuantizedGraph.quantize(graph, ranges, Scheme(bits))


@dataclass(frozen=True)
class Silent(Dense):
    """A layer with weights that has forgotten to say how they are quantized."""

    quantized_weights = Operator.quantized_weights


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("network", [lstm(), tcn()], ids=["lstm", "tcn"])
def test_it_computes_what_ships_but_for_what_is_rounded_inside_operators(network: nn.Module, bits: WeightBits) -> None:
    _, module, quantized = fake(network, bits)
    with torch.no_grad():
        gap = (module(samples()) - quantized.forward(samples())).abs() / quantized.output.scale
    assert float(gap.max()) < 8.5  # the rounding of biases and ties, amplified by the layers behind them
    assert float(gap.mean()) < 1.0


def test_a_dense_layer_computes_what_is_counted_by_hand() -> None:
    network = nn.Sequential(nn.Linear(2, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[0.7, -0.26]]))  # type: ignore[operator]
        network[0].bias.copy_(torch.tensor([0.03]))  # type: ignore[operator]
    graph = trace(network, (2,))
    inputs = torch.tensor([[0.0, 0.0], [2.55, 2.55], [1.0, 0.004]])  # steps of 0.01
    module = FakeQuantizedGraph(graph, graph.calibrate(inputs), Scheme(4))
    # At 4 bits, steps of 0.1: 0.7 and -0.3. Outputs were calibrated on 0.7 and -0.26: from 0.03 to 1.152.
    step = (0.7 * 2.55 - 0.26 * 2.55 + 0.03) / 255
    expected = [round(y / step) * step for y in (0.03, 0.4 * 2.55 + 0.03, 0.73)]
    assert module(inputs).flatten().tolist() == pytest.approx(expected, abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(low=st.floats(-3, 0), high=st.floats(0.01, 3), seed=st.integers(0, 99), reach=st.floats(0.1, 2))
def test_values_and_gradients_are_those_of_torchs_own_fake_quantization(
    low: float, high: float, seed: int, reach: float
) -> None:
    affine = Affine.from_range(low, high)
    generator = torch.Generator().manual_seed(seed)
    ours = (reach * 4 * torch.randn(200, generator=generator)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    expected = torch.fake_quantize_per_tensor_affine(theirs, affine.scale, affine.zero_point, -128, 127)
    found = fake_quantize(ours, affine)
    off_ties = ((theirs / affine.scale).frac().abs() - 0.5).abs() > 1e-3
    assert torch.allclose(found[off_ties], expected[off_ties], atol=1e-6)
    weights = torch.randn(200, generator=generator)
    found.backward(weights)  # type: ignore[no-untyped-call]
    expected.backward(weights)  # type: ignore[no-untyped-call]
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad[off_ties], theirs.grad[off_ties])


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_weights_are_rounded_as_they_ship_and_pass_all_of_the_gradient(bits: int, groups: int) -> None:
    weights = torch.randn(8, 5, generator=torch.Generator().manual_seed(bits)).requires_grad_()
    quantized = QuantizedWeights.from_float(weights, bits, groups=groups)
    rounded = fake_quantize_weights(weights, quantized)
    steps = np.repeat(quantized.scales, 8 // groups)[:, None]
    assert np.array_equal(rounded.detach().numpy(), quantized.codes * steps)
    rounded.backward(torch.ones_like(rounded))  # type: ignore[no-untyped-call]
    assert weights.grad is not None
    assert bool((weights.grad == 1).all())


@pytest.mark.parametrize("network", [lstm(), tcn()], ids=["lstm", "tcn"])
def test_an_untrained_one_gives_its_graph_back_and_leaves_the_network_alone(network: nn.Module) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    graph, module, _ = fake(network, 4)
    back = module.graph()
    for ours, theirs in zip(back.nodes, graph.nodes, strict=True):
        assert (ours.name, ours.inputs) == (theirs.name, theirs.inputs)
        assert ours.operator.tensors().keys() == theirs.operator.tensors().keys()
        assert all(torch.equal(ours.operator.tensors()[k], v) for k, v in theirs.operator.tensors().items())
    assert len(list(module.parameters())) == sum(len(node.operator.tensors()) for node in graph.nodes)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_every_weight_and_bias_gets_a_gradient() -> None:
    for network in (lstm(), tcn()):
        _, module, _ = fake(network, 4)
        module(samples()).square().mean().backward()
        for parameter in module.parameters():
            assert parameter.grad is not None
            assert bool(parameter.grad.abs().max() > 0)


def test_the_graphs_lstm_is_torchs_kernel_and_its_observed_one_the_loop() -> None:
    _, module, _ = fake(lstm(), 8)
    operator = next(node.operator for node in module.graph().nodes if isinstance(node.operator, LSTM))
    inputs = samples()
    hidden, internals = operator.observe(inputs)
    assert torch.allclose(operator.forward(inputs), hidden, atol=1e-6)
    assert internals["cell"].shape == hidden.shape


def learn(module: nn.Module, epochs: int, rate: float, seed: int = 0) -> None:
    """Fit the mean of the last steps."""
    inputs = samples(512)
    targets = inputs[:, -4:].mean((1, 2))[:, None] * 20.0
    chosen = TrainingSettings(rate, "adam", "cosine", 32, "mse")
    trainer = TorchTrainer(module, TrainingSet(inputs, targets), lambda _, y, t: (y - t).square().mean(), chosen)
    fit(trainer, Epochs(len(inputs), chosen, epochs, seed))


def errors(graph: Graph) -> tuple[float, float]:
    """Root mean squared errors of a network and of its 4-bit form on other data, over the targets' deviation."""
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(samples(512)), Scheme(4))
    inputs = samples(400)
    targets = inputs[:, -4:].mean((1, 2))[:, None] * 20.0
    with torch.no_grad():
        squares = [
            (y - targets).square().mean() / targets.var() for y in (graph.forward(inputs), quantized.forward(inputs))
        ]
    return math.sqrt(float(squares[0])), math.sqrt(float(squares[1]))


def perceptron() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(WINDOW * FEATURES, 8), nn.ReLU(), nn.Linear(8, 1))


@pytest.mark.parametrize("make", [lstm, perceptron])
def test_training_on_rounded_weights_mends_much_of_what_4_bits_cost(make: Callable[[], nn.Module]) -> None:
    network = make()
    learn(network, 30, 1e-2)
    graph = trace(network, (WINDOW, FEATURES))
    module = FakeQuantizedGraph(graph, graph.calibrate(samples(512)), Scheme(4))
    learn(module, 10, 5e-3)
    exact, before = errors(graph)
    _, after = errors(module.graph())
    assert before > 1.05 * exact
    assert after - exact < 0.6 * (before - exact)


def test_training_is_deterministic_in_its_seed() -> None:
    outcomes = []
    for seed in (1, 1, 2):
        _, module, _ = fake(lstm(), 4)
        learn(module, 2, 1e-2, seed)
        outcomes.append(torch.cat([parameter.detach().flatten() for parameter in module.parameters()]))
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])


def test_an_operator_that_does_not_say_how_its_weights_are_quantized_is_refused() -> None:
    operator = Silent(torch.ones(2, 2), torch.ones(2))
    with pytest.raises(NotImplementedError, match="Silent doesn't say how weight is quantized"):
        operator.quantized_weights([Affine(1.0)], Scheme())
    assert Add().quantized_weights([Affine(1.0)] * 2, Scheme()) == {}


def test_a_convolution_is_rounded_by_channel() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(Conv1xK(FEATURES, 4, 2))
    with torch.no_grad():
        network.get_parameter("0.weight").mul_(torch.tensor([1e-3, 1.0, 10.0, 1e3])[:, None, None])
    graph, module, quantized = fake(network, 4)
    node = next(node for node in graph.nodes if isinstance(node.operator, Convolution))
    rounded = module._fake(node, node.operator.tensors()).tensors()["weight"]
    assert torch.equal(rounded, quantized.operators[node.name].weights.dequantize())  # type: ignore[attr-defined]
    peaks = rounded.abs().amax((1, 2, 3)) / network.get_parameter("0.weight").abs().amax((1, 2))
    assert torch.allclose(peaks, torch.ones(4))
