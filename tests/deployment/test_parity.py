"""Parity goes red when the simulation and the shipped file differ in one scale, zero point or rounding rule."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from qanas.deployment.litert import LiteRTModel, dequantize
from qanas.deployment.parity import ParitySteps, parity_failure
from qanas.deployment.tflite import write_tflite
from qanas.quantization.numbers import affine, requantization
from qanas.quantization.operators import lstm
from qanas.quantization.operators.dense import QuantizedDense
from qanas.quantization.operators.lstm import QuantizedLSTM
from qanas.quantization.quantized_graph import QuantizedGraph


def deployed_codes(trained: Any, program_of: QuantizedGraph) -> Any:  # noqa: ANN401 - the fixture's type lives there
    return LiteRTModel(write_tflite(program_of.program())).codes(trained.split.inputs)


def judge(trained: Any, simulated: QuantizedGraph, shipped: QuantizedGraph) -> tuple[ParitySteps, str | None]:  # noqa: ANN401
    """Compare as finalists are compared."""
    ours = simulated.codes(torch.from_numpy(trained.split.inputs)).numpy().astype(np.int8)
    theirs = deployed_codes(trained, shipped)
    steps = ParitySteps.between(ours, theirs)
    metrics = [
        trained.task.evaluate(dequantize(codes, trained.quantized.output), trained.split) for codes in (ours, theirs)
    ]
    return steps, parity_failure(steps, metrics[0], metrics[1], dict(trained.task.parity_tolerance))


def lstm_and_head(graph: QuantizedGraph) -> tuple[str, QuantizedLSTM, str, QuantizedDense]:
    (lstm_name, cell), (head_name, head) = (
        next((name, entry) for name, entry in graph.operators.items() if isinstance(entry, kind))
        for kind in (QuantizedLSTM, QuantizedDense)
    )
    assert isinstance(cell, QuantizedLSTM)
    assert isinstance(head, QuantizedDense)
    return lstm_name, cell, head_name, head


def with_lstm(graph: QuantizedGraph, **changes: Any) -> QuantizedGraph:  # noqa: ANN401 - passed on
    name, cell, _, _ = lstm_and_head(graph)
    return replace(graph, operators={**graph.operators, name: replace(cell, **changes)})


def with_head(graph: QuantizedGraph, **changes: Any) -> QuantizedGraph:  # noqa: ANN401 - passed on
    _, _, name, head = lstm_and_head(graph)
    return replace(graph, operators={**graph.operators, name: replace(head, **changes)})


def lstm_input_zero_point(graph: QuantizedGraph) -> QuantizedGraph:
    source = lstm_and_head(graph)[1].input
    return with_lstm(graph, input=replace(source, zero_point=source.zero_point + 1))


def lstm_input_scale(graph: QuantizedGraph) -> QuantizedGraph:
    source = lstm_and_head(graph)[1].input
    return with_lstm(graph, input=replace(source, scale=1.1 * source.scale))


def hidden_scale(graph: QuantizedGraph) -> QuantizedGraph:
    output = lstm_and_head(graph)[1].output
    return with_lstm(graph, output=replace(output, scale=1.05 * output.scale))


def head_input_scale(graph: QuantizedGraph) -> QuantizedGraph:
    source = lstm_and_head(graph)[3].input
    return with_head(graph, input=replace(source, scale=1.05 * source.scale))


def head_output_scale(graph: QuantizedGraph) -> QuantizedGraph:
    output = lstm_and_head(graph)[3].output
    return with_head(graph, output=replace(output, scale=1.02 * output.scale))


def head_weight_scale(graph: QuantizedGraph) -> QuantizedGraph:
    weights = lstm_and_head(graph)[3].weights
    return with_head(graph, weights=replace(weights, scales=weights.scales * np.float32(1.05)))


def forget_gate_scale(graph: QuantizedGraph) -> QuantizedGraph:
    kernel = list(lstm_and_head(graph)[1].kernel)
    kernel[1] = replace(kernel[1], scales=kernel[1].scales * np.float32(1.25))
    return with_lstm(graph, kernel=tuple(kernel))


Change = Callable[[QuantizedGraph], QuantizedGraph]
ONE_CHANGE: list[Change] = [
    lstm_input_zero_point,
    lstm_input_scale,
    hidden_scale,
    head_input_scale,
    head_output_scale,
    head_weight_scale,
    forget_gate_scale,
]


def test_the_unchanged_network_is_within_parity(trained: Any) -> None:  # noqa: ANN401
    steps, failure = judge(trained, trained.quantized, trained.quantized)
    assert failure is None
    assert steps.n_outputs == len(trained.split)
    assert (steps.max, steps.mean) == (0, 0.0), "the simulation is that of the reference kernels, bit by bit"


@pytest.mark.parametrize("change", ONE_CHANGE)
def test_one_parameter_changed_in_the_simulation_is_outside_parity(trained: Any, change: Change) -> None:  # noqa: ANN401
    assert judge(trained, change(trained.quantized), trained.quantized)[1] is not None


def head_output_zero_point(graph: QuantizedGraph) -> QuantizedGraph:
    output = lstm_and_head(graph)[3].output
    return with_head(graph, output=replace(output, zero_point=output.zero_point + 1))


def test_an_output_zero_point_off_by_one_is_outside_parity(trained: Any) -> None:  # noqa: ANN401
    assert judge(trained, head_output_zero_point(trained.quantized), trained.quantized)[1] is not None


def file_head_scale(graph: QuantizedGraph) -> QuantizedGraph:
    """Change the output's scale in the file alone."""
    name = graph.graph.output
    return replace(graph, affines={**graph.affines, name: replace(graph.output, scale=1.02 * graph.output.scale)})


def file_head_weights(graph: QuantizedGraph) -> QuantizedGraph:
    """Flip the largest weight of the head in the file alone."""
    weights = lstm_and_head(graph)[3].weights
    codes = weights.codes.copy()
    codes.flat[np.abs(codes).argmax()] *= -1
    return with_head(graph, weights=replace(weights, codes=codes))


@pytest.mark.parametrize("change", [file_head_scale, file_head_weights, forget_gate_scale])
def test_one_parameter_changed_in_the_file_is_outside_parity(trained: Any, change: Change) -> None:  # noqa: ANN401
    assert judge(trained, trained.quantized, change(trained.quantized))[1] is not None


def test_inputs_rounded_down_are_outside_parity(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    monkeypatch.setattr(affine, "round_half_away", torch.floor)
    assert judge(trained, trained.quantized, trained.quantized)[1] is not None


def floor_one_fixed_point_product(monkeypatch: pytest.MonkeyPatch, which: int, steps_of_time: int) -> None:
    """Round one kind of the LSTM's fixed-point products down: 0 the input's, 1 the recurrent, 2 the hidden state."""
    calls = 0
    exact = requantization.FixedPoint.__call__

    def exact_or_floor(self: requantization.FixedPoint, values: Tensor) -> Tensor:
        nonlocal calls
        position = calls % (1 + 2 * steps_of_time)
        site = 0 if position == 0 else 1 + (position - 1) % 2
        calls += 1
        if site != which:
            return exact(self, values)
        return torch.floor(values * self.multipliers * self.before * self.after)

    monkeypatch.setattr(requantization.FixedPoint, "__call__", exact_or_floor)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["input products", "recurrent products", "hidden state"])
def test_a_fixed_point_product_rounded_down_is_outside_parity(
    trained: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
    which: int,
) -> None:
    floor_one_fixed_point_product(monkeypatch, which, trained.split.inputs.shape[1])
    assert judge(trained, trained.quantized, trained.quantized)[1] is not None


def test_cells_rounded_down_are_outside_parity(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    monkeypatch.setattr(lstm, "round_half_away", torch.floor)
    assert judge(trained, trained.quantized, trained.quantized)[1] is not None


@pytest.mark.parametrize("table", ["logistic_table", "tanh_table"])
def test_true_instead_of_fixed_point_functions_are_outside_parity(
    trained: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
    table: str,
) -> None:
    codes = torch.arange(-(2.0**15), 2.0**15)

    def true_function(integer_bits: int = 3) -> Tensor:
        values = codes * 2.0 ** (integer_bits - 15)
        function = torch.sigmoid if table == "logistic_table" else torch.tanh
        return torch.round(function(values) * 2.0**15).clamp(-(2.0**15), 2.0**15 - 1)

    monkeypatch.setattr(lstm, table, true_function)
    assert judge(trained, trained.quantized, trained.quantized)[1] is not None


def test_outputs_rounded_down_are_outside_parity(
    trained: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requantization, "round_half_away", torch.floor)
    assert judge(trained, trained.quantized, trained.quantized)[1] is not None


@pytest.mark.parametrize(("gap", "red"), [(0, False), (3, False), (-3, False), (4, True), (-4, True)])
def test_more_than_three_steps_are_outside_parity(gap: int, red: bool) -> None:
    simulated = np.full((1000, 1), 100, np.int8)
    deployed = simulated.copy()
    deployed[7] += gap
    steps = ParitySteps.between(simulated, deployed)
    assert (steps.max, steps.mean, steps.n_outputs) == (abs(gap), abs(gap) / 1000, 1000)
    assert (parity_failure(steps, {}, {}, {}) is not None) is red


def test_steps_do_not_wrap_around() -> None:
    assert ParitySteps.between(np.array([-128], np.int8), np.array([127], np.int8)).max == 255


@pytest.mark.parametrize(("deployed", "red"), [(8.0, False), (8.1, False), (8.11, True), (7.8, True), (np.nan, True)])
def test_a_metric_beyond_its_tolerance_is_outside_parity(deployed: float, red: bool) -> None:
    failure = parity_failure(ParitySteps(0, 0.0, 1), {"mae": 8.0}, {"mae": deployed}, {"mae": 0.1000001})
    assert (failure is not None) is red
    assert failure is None or "mae" in failure


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_metric_that_is_no_number_in_both_is_the_same(value: float) -> None:
    assert parity_failure(ParitySteps(0, 0.0, 1), {"snr": value}, {"snr": value}, {"snr": 0.1}) is None
    assert parity_failure(ParitySteps(0, 0.0, 1), {"snr": value}, {"snr": 1.0}, {"snr": 0.1}) is not None
