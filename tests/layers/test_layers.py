import math
from itertools import product
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from qanas.layers.sequences import Conv1xK, OneBiasLSTM, ScaledLinear
from qanas.networks.lstm import LSTMNetwork

SIZES = st.integers(1, 6)


def sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))


def naive_lstm(layer: OneBiasLSTM, sequence: list[list[float]]) -> list[list[float]]:
    """The equations of the layer in Python's own numbers, one unit at a time."""
    kernel, recurrent, bias = (p.tolist() for p in (layer.weight_ih, layer.weight_hh, layer.bias))
    units = layer.units
    hidden, cell, outputs = [0.0] * units, [0.0] * units, []
    for features in sequence:
        sums = [
            bias[row]
            + sum(w * x for w, x in zip(kernel[row], features, strict=True))
            + sum(w * h for w, h in zip(recurrent[row], hidden, strict=True))
            for row in range(4 * units)
        ]
        for unit in range(units):
            i, f, g = (sums[gate * units + unit] for gate in range(3))
            cell[unit] = sigmoid(f) * cell[unit] + sigmoid(i) * math.tanh(g)
        hidden = [sigmoid(sums[3 * units + unit]) * math.tanh(cell[unit]) for unit in range(units)]
        outputs.append(hidden)
    return outputs


def randomised(layer: nn.Module) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()


@settings(deadline=None, max_examples=25)
@given(features=SIZES, units=SIZES, time=SIZES, seed=st.integers(0, 1000))
def test_lstm_is_what_its_equations_say(features: int, units: int, time: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = OneBiasLSTM(features, units)
    randomised(layer)
    inputs = torch.randn(3, time, features)
    with torch.no_grad():
        outputs = layer(inputs)
    expected = torch.tensor([naive_lstm(layer, sample) for sample in inputs.tolist()])
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(features=SIZES, units=SIZES, time=SIZES, seed=st.integers(0, 1000))
def test_lstm_is_torchs_with_a_second_bias_of_zero(features: int, units: int, time: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer, reference = OneBiasLSTM(features, units), nn.LSTM(features, units, batch_first=True)
    randomised(layer)
    with torch.no_grad():
        for name, values in (
            ("weight_ih_l0", layer.weight_ih),
            ("weight_hh_l0", layer.weight_hh),
            ("bias_ih_l0", layer.bias),
            ("bias_hh_l0", torch.zeros(4 * units)),
        ):
            reference.get_parameter(name).copy_(values)
    inputs = torch.randn(4, time, features)
    torch.testing.assert_close(layer(inputs), reference(inputs)[0])
    layer(inputs).square().sum().backward()
    reference(inputs)[0].square().sum().backward()
    torch.testing.assert_close(layer.weight_hh.grad, reference.weight_hh_l0.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.bias.grad, reference.bias_ih_l0.grad, rtol=1e-4, atol=1e-5)


def test_lstm_has_no_trace_of_the_second_bias_in_its_weights() -> None:
    layer = OneBiasLSTM(3, 2)
    assert set(layer.state_dict()) == {"weight_ih", "weight_hh", "bias"}
    assert sum(p.numel() for p in layer.parameters()) == 4 * 2 * (3 + 2 + 1)


def test_lstm_starts_as_keras_starts() -> None:
    torch.manual_seed(0)
    layer = OneBiasLSTM(14, 50)
    assert layer.bias.tolist() == [0.0] * 50 + [1.0] * 50 + [0.0] * 100
    bound = math.sqrt(6.0 / (14 + 200))
    assert 0.95 * bound < float(layer.weight_ih.detach().abs().max()) <= bound
    torch.testing.assert_close(layer.weight_hh.T @ layer.weight_hh, torch.eye(50), rtol=0.0, atol=1e-5)


def test_scaled_linear_folds_into_an_ordinary_layer() -> None:
    torch.manual_seed(0)
    layer, plain = ScaledLinear(5, 3, 125.0), nn.Linear(5, 3)
    assert layer.bias.tolist() == [0.0] * 3
    randomised(layer)
    with torch.no_grad():
        for parameter, folded in zip((plain.weight, plain.bias), layer.folded(), strict=True):
            parameter.copy_(folded)
    inputs = torch.randn(7, 5)
    torch.testing.assert_close(layer(inputs), plain(inputs))
    torch.testing.assert_close(layer(inputs), 125.0 * (inputs @ layer.weight.T + layer.bias))


def padded(inputs: Tensor, zeros: int) -> Tensor:
    return torch.cat([torch.zeros(*inputs.shape[:2], zeros), inputs], dim=2)


@pytest.mark.parametrize(
    ("taps", "stride", "dilation", "padding"), list(product((1, 3), (1, 2, 3), (1, 2), ("valid", "causal")))
)
def test_convolution_is_torchs_with_channels_last(
    taps: int, stride: int, dilation: int, padding: Literal["valid", "causal"]
) -> None:
    torch.manual_seed(0)
    layer = Conv1xK(4, 5, taps, stride=stride, dilation=dilation, padding=padding)
    reference = nn.Conv1d(4, 5, taps, stride=stride, dilation=dilation)
    reference.load_state_dict(layer.state_dict())
    inputs = torch.randn(2, 11, 4)
    source = inputs.transpose(1, 2)
    if padding == "causal":
        source = padded(source, (taps - 1) * dilation)
    torch.testing.assert_close(layer(inputs), reference(source).transpose(1, 2))


def test_causal_outputs_do_not_see_the_future() -> None:
    torch.manual_seed(0)
    layer = Conv1xK(2, 3, 3, dilation=2, padding="causal")
    inputs = torch.randn(1, 9, 2)
    changed = inputs.clone()
    changed[:, 5:] += 1.0
    before, after = layer(inputs), layer(changed)
    assert before.shape == (1, 9, 3)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5], after[:, 5])


def test_the_network_reads_the_last_hidden_state_in_the_targets_unit() -> None:
    torch.manual_seed(0)
    network = LSTMNetwork(3, [4, 2], 1, 125.0)
    inputs = torch.randn(5, 6, 3)
    hidden = inputs
    for layer in network.lstm:
        hidden = layer(hidden)
    expected = 125.0 * (hidden[:, -1] @ network.head.weight.T + network.head.bias)
    torch.testing.assert_close(network(inputs), expected)
