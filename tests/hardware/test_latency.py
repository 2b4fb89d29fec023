"""Latency: files read back, work by kernel, formulas, a user's command, measuring in turns."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import nn

from qanas.core.errors import InputError
from qanas.core.measures import Cost
from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite_reader import read_tflite
from qanas.hardware.costs import Blueprint, cost_models
from qanas.hardware.device import Device, device_names
from qanas.hardware.latency.analytic import Analytic, fitted
from qanas.hardware.latency.base import random_inputs
from qanas.hardware.latency.command import Command
from qanas.hardware.latency.compiler import Compiler
from qanas.hardware.latency.measured import MeasuredHere, MeasuredKernels
from qanas.hardware.latency.surrogate import Surrogate
from qanas.hardware.latency.table import Table, TableFile, alone, distinct_operators, make_table
from qanas.hardware.latency.transferred import measure_networks
from qanas.hardware.work import macs_by_kind
from qanas.networks.lstm import LSTMNetwork
from qanas.quantization.program import RuntimeTensor
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace_shapes
from qanas.testing.costs import blueprint_of, check_latency

MLPERF = {
    "pretrainedResnet_quant": 12_501_632,
    "vww_96_int8": 7_489_664,
    "kws_ref_model": 2_656_768,
    "ad01_int8": 264_192,
}
"""Multiply-accumulates of MLPerf Tiny's references, from their layers' shapes by hand."""


class Fork(nn.Module):
    """Every kernel with multiply-accumulates that a file has, but the LSTM's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.head = nn.Linear(4, 5)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found = self.up(self.grouped(torch.relu(self.depthwise(self.stem(inputs)))))
        output: torch.Tensor = self.head(found.mean((2, 3)))
        return output


def lstm() -> Blueprint:
    graph = trace_shapes(lambda: LSTMNetwork(5, [4, 3]), (7, 5))
    return Blueprint(graph, QuantizedGraph.from_shapes(graph, Scheme()))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_file_is_read_back_as_the_program_that_was_written(bits: Literal[4, 8]) -> None:
    for blueprint in (
        blueprint_of(Fork(), scheme=Scheme(weight_bits=bits, container="int4" if bits < 8 else "int8")),
        lstm(),
    ):
        program, found = blueprint.program, read_tflite(blueprint.file)
        assert [(o.kind, o.version) for o in found.operators] == [(o.kind, o.version) for o in program.operators]
        assert list(found.inputs) == list(program.inputs)
        assert list(found.outputs) == list(program.outputs)
        for read, written in zip(found.operators, program.operators, strict=True):
            assert {name: read.options[name] for name in written.options} == dict(written.options)
            for one, two in zip([*read.inputs, *read.outputs], [*written.inputs, *written.outputs], strict=True):
                assert (one is None) == (two is None)
                if one is None or two is None:
                    continue
                assert (one.shape, one.dtype, one.variable) == (two.shape, two.dtype, two.variable)
                assert _values(one) == _values(two)
                assert two.quantization is None or _scales(one) == _scales(two)


def _values(tensor: RuntimeTensor) -> object:
    return None if tensor.data is None else tensor.data.tolist()


def _scales(tensor: RuntimeTensor) -> object:
    return None if tensor.quantization is None else tensor.quantization.scales.tolist()


def test_work_counts_the_multiply_accumulates_that_the_graph_does() -> None:
    for blueprint in (blueprint_of(Fork()), lstm()):
        found = macs_by_kind(read_tflite(blueprint.file))
        assert sum(found.values()) == blueprint.graph.macs
    # Fork, by hand: 16 positions of 8 filters of 3 x 9; of 1 x 9; of 4 x 9; 16 x 8 inputs to 4 x 4 outputs each; 4 x 5.
    counted = macs_by_kind(blueprint_of(Fork()).program)
    assert counted["convolution"] == 16 * 8 * 27 + 16 * 8 * 36 + 16 * 8 * 16
    assert counted["depthwise"] == 16 * 8 * 9
    assert counted["dense"] == 20
    # 7 steps: 4 gates of 4 units of 5 inputs and 4 states, then of 3 of 4 and 3, and 3 products a unit; then 3.
    recurrent = macs_by_kind(lstm().program)
    assert recurrent["recurrent"] == 7 * (4 * (4 * (5 + 4) + 3 * (4 + 3)) + 3 * (4 + 3))
    assert recurrent["dense"] == 3


@pytest.mark.skipif("QANAS_DATA" not in os.environ, reason="QANAS_DATA names no folder with the real data")
@pytest.mark.parametrize("name", MLPERF)
def test_others_files_are_read_and_their_work_is_what_is_published(name: str) -> None:
    path = Path(os.environ["QANAS_DATA"]) / "mlperf_tiny" / f"{name}.tflite"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    assert sum(macs_by_kind(read_tflite(path.read_bytes())).values()) == MLPERF[name]


@pytest.mark.parametrize("content", [b"", b"rubbish" * 9, b"    TFL3" + bytes(40)])
def test_what_is_no_file_is_refused_in_a_line(content: bytes) -> None:
    with pytest.raises(InputError, match=r"it is no .*\.tflite file"):
        read_tflite(content)


def test_every_cut_of_a_file_is_read_or_refused_in_a_line() -> None:
    content = blueprint_of(Fork()).file
    refused = 0
    for length in range(0, len(content), 97):
        try:
            read_tflite(content[:length])
        except InputError:  # anything else is a traceback
            refused += 1
    assert refused


# Devices


FITTED = [name for name in device_names() if isinstance(Device.named(name).latency, Analytic)]


@pytest.mark.parametrize("name", FITTED)
def test_formulas_are_what_their_points_say(name: str) -> None:
    device = Device.named(name)
    assert isinstance(device.latency, Analytic)
    assert device.clock_mhz is not None
    points = [(point.counts, point.ms * device.clock_mhz * 1e3) for point in device.published]
    again = fitted(points, list(device.latency.cycles))
    assert again == pytest.approx(dict(device.latency.cycles), rel=1e-3)
    told = "\n".join(device.lines())
    assert told.count("published: ") == len(device.published)
    assert all(point.source in told for point in device.published)


def test_a_formula_adds_up_what_operators_do() -> None:
    source = Analytic(
        method="analytic", source="made up", cycles={"convolution": 2.0, "dense": 3.0, "byte": 0.5, "operator": 7.0}
    )
    blueprint = blueprint_of(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    # 36 positions of 4 filters of 27; the flattening moves 144 bytes in and out; 288 of the dense layer; 3 operators.
    kinds = [operator.kind for operator in blueprint.program.operators]
    assert source.of([blueprint.file]) == [
        2 * 36 * 4 * 27 + 3 * 288 + 0.5 * 288 * kinds.count("RESHAPE") + 7 * len(kinds)
    ]


def test_too_few_points_are_refused() -> None:
    with pytest.raises(InputError, match="1 points can't tell 2 numbers apart"):
        fitted([({"convolution": 1.0}, 2.0)], ["convolution", "operator"])


def own_device(folder: Path, **changes: object) -> Path:
    path = folder / "board.toml"
    argv = json.dumps([sys.executable, str(folder / "board.py"), "{model}", "{input}"])
    path.write_text(
        'version = 2\nname = "board"\ndescription = "mine"\n[memory]\nflash_bytes = 70000\nram_bytes = 9000\n'
        f'runtime_flash_bytes = 50000\nsource = "data sheet"\n[latency]\nmethod = "command"\nargv = {argv}\n'
        f"counts = {json.dumps(changes.get('counts', 'latency_ms'))}\nattempts = 2\ntimeout_s = 5.0\n"
    )
    (folder / "board.py").write_text(str(changes.get("script", "print('{\"ms\": [3, 2.5, 4]}')")))
    return path


def test_a_users_command_says_what_a_file_takes(tmp_path: Path) -> None:
    sizes = "os.path.getsize(sys.argv[1]) + os.path.getsize(sys.argv[2])"
    script = f"import json, sys, os\nprint(json.dumps({{'cycles': [{sizes}]}}))"
    device = Device.named(str(own_device(tmp_path, counts="cycles", script=script)))
    content = blueprint_of(nn.Conv2d(3, 4, 3)).file
    assert device.figure("cycles", [content]) == [len(content) + 3 * 8 * 8]
    assert [(limit.cost.column, limit.bound) for limit in device.limits()] == [
        ("file_bytes", 20000),
        ("arena_bytes", 9000),
    ]
    with pytest.raises(InputError, match=r"latency_ms: of the device board, cycles can be had"):
        cost_models([Cost("latency_ms")], device)


def test_what_a_board_computes_is_held_against_litert(tmp_path: Path) -> None:
    content = blueprint_of(nn.Conv2d(3, 4, 3)).file
    expected = LiteRTModel(content).invoke(random_inputs(content))["output"].ravel()
    answer = f"print(json.dumps({{'ms': [2], 'outputs': {expected.tolist()}}}))"
    source = Device.named(str(own_device(tmp_path, script=f"import json\n{answer}"))).latency
    assert source.of([content]) == [2]
    (tmp_path / "board.py").write_text('print(\'{"ms": [2], "outputs": [0, 1]}\')')
    with pytest.raises(InputError, match=r'its "outputs" are no list of 144 codes'):
        source.of([content])
    wrong = (expected.astype(int) + 2).tolist()
    (tmp_path / "board.py").write_text(f"import json\nprint(json.dumps({{'ms': [2], 'outputs': {wrong}}}))")
    with pytest.raises(InputError, match=r"144 of 144 outputs aren't LiteRT's, by up to 2 steps"):
        source.of([content])


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("raise SystemExit('no board is there')", "ended with code 1: no board is there"),
        ("print('hello')", "Expecting value"),
        ("print('{\"ms\": []}')", "printed no"),
        ("print('{\"ms\": [-1]}')", "printed no"),
        ("print('{\"ms\": NaN}')", "printed no"),
    ],
)
def test_a_board_that_fails_or_lies_is_one_line(tmp_path: Path, script: str, told: str) -> None:
    device = Device.named(str(own_device(tmp_path, script=script)))
    with pytest.raises(InputError, match=r"gave no answer in 2 attempts") as caught:
        device.latency.of([blueprint_of(nn.ReLU()).file])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_board_that_hangs_is_stopped() -> None:
    source = Command(method="command", argv=(sys.executable, "-c", "input()", "{model}"), timeout_s=0.2, attempts=1)
    read, write = os.pipe()  # nothing ever comes through it
    kept = os.dup(0)
    os.dup2(read, 0)
    try:
        with pytest.raises(InputError, match=r"timed out after 0\.2 seconds"):
            source.of([blueprint_of(nn.ReLU()).file])
    finally:
        os.dup2(kept, 0)
        for descriptor in (read, write, kept):
            os.close(descriptor)


@pytest.mark.skipif(importlib.util.find_spec("ethosu") is None, reason="no Vela: pip install ethos-u-vela")
def test_a_compiler_tells_what_it_leaves_to_the_cpu_and_outlives_what_kills_it(detector: Blueprint) -> None:
    device = Device.named("ethos-u55-128")
    assert isinstance(device.latency, Compiler)
    small = blueprint_of(nn.Conv2d(3, 8, 3), nn.ReLU()).file
    (cycles,) = device.figure("cycles", [small])
    # 36 positions of 8 filters of 27 products at 128 a cycle are the least that there can be.
    assert 36 * 8 * 27 / 128 < cycles < 1e5
    assert device.figure("latency_ms", [small]) == [cycles / 500e3]
    with pytest.raises(InputError, match="leaves 26 operators to the CPU: 26 "):
        device.latency.of([detector.file])
    priced = device.latency.model_copy(update={"cpu_operators": "price", "cpu_cycles": 1e6})
    assert 26e6 < priced.of([detector.file])[0] < 30e6
    # Weights in 4 bits end its process; the other file of the same call is not to blame.
    int4 = blueprint_of(nn.Conv2d(3, 8, 3), scheme=Scheme(weight_bits=4, container="int4")).file
    with pytest.raises(InputError, match="Vela refuses the network for ethos-u55-128"):
        device.latency.of([small, int4])


def test_a_table_is_the_sum_of_operators_that_were_taken_alone(tmp_path: Path) -> None:
    source = Device.named("stm32l4r5").latency
    first, second = blueprint_of(nn.Conv2d(3, 4, 3), nn.ReLU6()).file, lstm().file
    path = tmp_path / "made.json"
    made = make_table("stm32l4r5", source, [first, first], path)
    assert len(made.values) == len(read_tflite(first).operators)
    device = tmp_path / "own.toml"
    device.write_text(
        'version = 2\nname = "own"\ndescription = "by table"\nclock_mhz = 100\n[latency]\nmethod = "table"\n'
        'path = "made.json"\n'
    )
    table = Device.named(str(device))
    assert table.figures == ("cycles", "latency_ms")
    assert TableFile.read(path) is TableFile.read(path)  # parsed once
    assert table.figure("cycles", [first]) == pytest.approx(source.of([first]))
    with pytest.raises(InputError, match=r"lacks 4 of 4 operators, the first a UNIDIRECTIONAL_SEQUENCE_LSTM"):
        table.figure("cycles", [second])
    make_table("stm32l4r5", source, [second], path)  # what was there stays
    assert table.figure("cycles", [first, second]) == pytest.approx(source.of([first, second]))
    ones_of_the_contract = [blueprint_of(nn.Conv2d(3, channels, 3), nn.ReLU()).file for channels in (4, 64)]
    make_table("stm32l4r5", source, ones_of_the_contract, path)
    check_latency(Table(method="table", path=str(path)))
    with pytest.raises(InputError, match=r"made\.json: it is of stm32l4r5"):
        make_table("nrf5340", Device.named("nrf5340").latency, [first], path)
    path.write_text("{}")
    with pytest.raises(InputError, match=r"made\.json is no table: device: Field required"):
        table.figure("cycles", [first])


class Started(Analytic):
    """A formula with a driver's start in front that nobody tells of."""

    @property
    def additive(self) -> bool:
        return False

    @property
    def overhead(self) -> None:  # type: ignore[override]  # nobody knows
        return None

    def of(self, contents: Sequence[bytes]) -> list[float]:
        return [5000.0 + value for value in super().of(contents)]


def test_what_every_inference_has_once_is_counted_once(tmp_path: Path) -> None:
    source = Started(method="analytic", source="made up", cycles={"convolution": 1.0, "operator": 10.0})
    deep = [blueprint_of(nn.Conv2d(3, 4, 3), *(nn.Conv2d(4, 4, 1) for _ in range(n))).file for n in range(4)]
    table = make_table("started", source, deep[1:], tmp_path / "started.json")
    assert table.overhead == pytest.approx(5000)
    assert (table.wholes, round(table.off, 6)) == (3, 0)
    read = Table(method="table", path=str(tmp_path / "started.json"))
    assert read.of(deep) == pytest.approx(source.of(deep))
    assert read.described.endswith("sums are 0.0% off on 3 whole networks")
    wider = blueprint_of(nn.Conv2d(3, 9, 3)).file
    make_table("started", source, [wider], tmp_path / "started.json")  # the overhead stays
    assert read.of([wider, *deep]) == pytest.approx(source.of([wider, *deep]))


def test_a_surrogate_fills_a_tables_gaps_or_refuses(tmp_path: Path) -> None:
    source = Device.named("stm32l4r5").latency
    sizes = [(c, k, h) for c in (3, 8, 13, 24) for k in (1, 3, 5) for h in (6, 9, 16)]
    seen = [blueprint_of(nn.Conv2d(3, c, k), input_shape=(3, h, h)).file for c, k, h in sizes]
    path = tmp_path / "made.json"
    make_table("stm32l4r5", source, seen, path)
    surrogate = Surrogate(method="surrogate", path=str(path))
    unseen = [blueprint_of(nn.Conv2d(3, c, 3), input_shape=(3, h, h)).file for c in (5, 18) for h in (8, 12, 14)]
    assert surrogate.of(seen) == pytest.approx(source.of(seen))
    found, truth = surrogate.of(unseen), source.of(unseen)
    assert kendalltau(found, truth).statistic > 0.7
    assert not set(found) & set(surrogate.of(seen))
    assert re.search(r"held-out operators: rank 0\.9\d+, off by \d+%", surrogate.described)
    with pytest.raises(InputError, match="a surrogate knows kinds of operators that were measured"):
        surrogate.of([lstm().file])
    with pytest.raises(InputError, match=r"ranked at 0\.\d+ only, below 1"):
        Surrogate(method="surrogate", path=str(path), least_rank=1.0).of(seen)
    make_table("stm32l4r5", source, seen[:4], tmp_path / "few.json")
    with pytest.raises(InputError, match="4 operators are too few for a surrogate"):
        Surrogate(method="surrogate", path=str(tmp_path / "few.json")).of(seen)


def test_another_devices_table_and_a_few_networks_rank_a_third_device(tmp_path: Path) -> None:
    # One device takes depthwise kernels dear, the other dense ones: sums of the first by kind tell the second.
    known = Analytic(
        method="analytic", source="made up", cycles={"convolution": 1.0, "depthwise": 9.0, "operator": 50.0}
    )
    other = Analytic(
        method="analytic", source="made up", cycles={"convolution": 3.0, "depthwise": 2.0, "operator": 900.0}
    )
    networks = [
        blueprint_of(nn.Conv2d(3, c, 3), *(nn.Conv2d(c, c, 3, padding=1, groups=c) for _ in range(d))).file
        for c in (2, 5, 9, 14)
        for d in (0, 1, 3, 6)
    ]
    make_table("known", known, networks, tmp_path / "known.json")
    measure_networks("new", other, networks[::2], tmp_path / "networks.json")
    (tmp_path / "new.toml").write_text(
        'version = 2\nname = "new"\ndescription = "by transfer"\n[latency]\nmethod = "transfer"\n'
        'path = "known.json"\nnetworks = "networks.json"\n'
    )
    device = Device.named(str(tmp_path / "new.toml"))
    truth, found = other.of(networks[1::2]), device.figure("cycles", networks[1::2])
    alone_tau, tau = (kendalltau(said, truth).statistic for said in (known.of(networks[1::2]), found))
    assert tau > max(alone_tau, 0.9)
    assert np.median(np.abs(np.array(found) / np.array(truth) - 1)) < 0.1
    (tmp_path / "networks.json").unlink()
    measure_networks("new", other, networks[:2], tmp_path / "networks.json")
    with pytest.raises(InputError, match="2 measured networks; measure 5 at least"):
        device.figure("cycles", networks)


def test_measured_networks_are_added_to_their_own_file_and_to_no_other(tmp_path: Path) -> None:
    source = Analytic(method="analytic", source="made up", cycles={"convolution": 1.0, "operator": 50.0})
    networks = [blueprint_of(nn.Conv2d(3, channels, 3)).file for channels in (2, 3, 4)]
    path = tmp_path / "networks.json"
    measure_networks("new", source, networks[:2], path)
    assert len(measure_networks("new", source, networks[1:], path).networks) == 3
    with pytest.raises(InputError, match=r"networks\.json: it is of new, .*; name another file for other"):
        measure_networks("other", source, networks, path)
    make_table("new", source, networks, tmp_path / "table.json")
    with pytest.raises(InputError, match=r"table\.json is no file of measured networks"):
        measure_networks("new", source, networks, tmp_path / "table.json")


@pytest.mark.parametrize("kernels", ["reference", "optimized"])
def test_every_operator_alone_is_a_file_that_runs(kernels: MeasuredKernels) -> None:
    source = MeasuredHere(method="measured", kernels=kernels, rounds=1, invocations=1)
    operators = distinct_operators([blueprint_of(Fork()).file, lstm().file])
    assert all(value > 0 for value in source.of([alone(operator) for operator in operators.values()]))


def test_a_device_file_with_a_mistake_is_one_line(tmp_path: Path) -> None:
    path = own_device(tmp_path)
    path.write_text(path.read_text().replace("ram_bytes = 9000", "ram_bytes = -1"))
    with pytest.raises(InputError, match=r"board\.toml: memory\.ram_bytes: -1: input should be greater than 0"):
        Device.named(str(path))
    with pytest.raises(InputError, match=r"no\.toml: No such file"):
        Device.named(str(tmp_path / "no.toml"))


def test_files_are_measured_in_turns_and_a_refused_one_is_told() -> None:
    source = MeasuredHere(method="measured", kernels="optimized", rounds=2)
    small, large = blueprint_of(nn.Conv2d(3, 4, 3)), blueprint_of(nn.Conv2d(3, 64, 7), input_shape=(3, 96, 96))
    found = source.of([large.file, small.file, large.file])
    assert found[0] > found[1] < found[2]  # thousands of times the work
    with pytest.raises(InputError, match="LiteRT refuses the model"):
        source.of([small.file, b"rubbish"])
