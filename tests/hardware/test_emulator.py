"""Emulated boards as a source of latency, and of flash and RAM; most of it needs the boards' tools (make emulator)."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
from torch import nn

from qanas.core.errors import InputError
from qanas.core.measures import Cost
from qanas.deployment.boards import cmsis_nn
from qanas.deployment.boards.board import BOARDS, NAME, BoardError, lacking
from qanas.deployment.litert import LiteRTModel
from qanas.deployment.standalone.footprint import KERNEL_BYTES, LAYER_BYTES, STACK_BYTES, Optimized, estimated
from qanas.deployment.standalone.model import Standalone
from qanas.deployment.tflite_reader import read_tflite
from qanas.hardware.costs import Blueprint, cost_models
from qanas.hardware.device import Device
from qanas.hardware.footprint import FOOTPRINT_COSTS, footprints_described, taken_footprint
from qanas.hardware.latency.base import random_inputs
from qanas.hardware.latency.emulator import Emulator
from qanas.hardware.latency.interpreter import Interpreter
from qanas.hardware.latency.table import alone, distinct_operators
from qanas.hardware.profile import profiled
from qanas.networks.lstm import LSTMNetwork
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace_shapes
from qanas.testing.costs import blueprint_of

needs_emulator = pytest.mark.skipif(bool(lacking()), reason=f"not on this machine: {', '.join(lacking())}")

SMALL = blueprint_of(nn.Conv2d(3, 8, 3), nn.ReLU()).file


def test_without_its_tools_it_says_in_a_line_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"needs arm-none-eabi-gcc and qemu-system-arm; make emulator, or .*apt-get"):
        Device.named("cortex-m4").latency.of([SMALL])


# Flash and RAM


COSTS = {
    name: next(m for m in cost_models([Cost(name)], Device.named("stm32l4r5")) if m.measure.name == name)
    for name in FOOTPRINT_COSTS
}


def lstm() -> Blueprint:
    """That of docs/results/standalone.md: 2,084 bytes of flash on a Cortex-M4, 456 of RAM without the stack."""
    graph = trace_shapes(lambda: LSTMNetwork(14, [1, 4, 1], 1, 125.0), (30, 14))
    return Blueprint(graph, QuantizedGraph.from_shapes(graph, Scheme()))


def test_flash_and_ram_are_costs_before_anything_is_compiled() -> None:
    flash, ram = (COSTS[name] for name in FOOTPRINT_COSTS)
    found = lstm()
    assert flash.of(found) == pytest.approx(2084, rel=0.1)
    assert ram.of(found) == 456 + STACK_BYTES
    with pytest.raises(InputError, match="flash_bytes: the device host names no core that C can be compiled for"):
        cost_models([Cost("flash_bytes")], Device.named("host"))
    wide = blueprint_of(nn.Conv2d(3, 8, 3), scheme=Scheme(weight_bits=8, activation_bits=16))
    with pytest.raises(InputError, match=r"stm32l4r5: as C without an interpreter: CONV_2D: .* not of 8 bits"):
        flash.of(wide)


def test_every_kernel_and_structure_has_its_bytes() -> None:
    kernels = files("qanas.deployment.standalone").joinpath("kernels")
    texts = {entry.name.removesuffix(".c"): entry.read_text("utf-8") for entry in kernels.iterdir()}
    without_code = {"window"}
    assert set(texts) == set(KERNEL_BYTES) | without_code
    assert set(re.findall(r"} (\w+_layer);", "".join(texts.values()))) == set(LAYER_BYTES)


@pytest.mark.toolchain
@needs_emulator
def test_estimates_are_near_what_is_linked() -> None:
    program = lstm().program
    options: tuple[Optimized, ...] = ("-Os", "-O2")
    for optimized in options:
        before = estimated(program, optimized)
        exact = BOARDS["Cortex-M4"].footprint(Standalone.of(NAME, program), optimized)
        assert before.flash_bytes == pytest.approx(exact.flash_bytes, rel=0.1)
        assert before.ram_bytes == exact.ram_bytes
    content = lstm().file
    taken = taken_footprint(Device.named("stm32l4r5"), content)
    linked = BOARDS["Cortex-M4"].footprint(Standalone.of(NAME, read_tflite(content)), "-Os")
    assert taken == {"flash_bytes": linked.flash_bytes, "ram_bytes": linked.ram_bytes}
    assert footprints_described(Device.named("stm32l4r5")).startswith(
        "flash and RAM as C on a Cortex-M4: linked by gcc"
    )


def test_without_a_compiler_a_card_says_that_they_are_estimated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    device = Device.named("stm32l4r5")
    assert footprints_described(device) == "flash and RAM as C on a Cortex-M4: estimated"
    assert taken_footprint(device, SMALL)["ram_bytes"] > STACK_BYTES
    assert not taken_footprint(Device.named("host"), SMALL)


# Instructions


@pytest.mark.toolchain
@needs_emulator
@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m7", "cortex-m33"])
def test_instructions_are_counted_the_same_each_time(name: str) -> None:
    device = Device.named(name)
    assert isinstance(device.latency, Emulator)
    (found,) = device.figure("instructions", [SMALL])
    # 36 positions of 8 filters of 27 products: at least half an instruction a product, with two in one.
    assert 36 * 8 * 27 / 2 < found < 36 * 8 * 27 * 20
    again = BOARDS[device.latency.core].inference(Standalone.of(NAME, read_tflite(SMALL)), "-O2", 60)
    assert again.instructions == found


@pytest.mark.toolchain
@needs_emulator
def test_a_board_reads_inputs_and_writes_outputs() -> None:
    content = SMALL
    inputs = random_inputs(content)
    given = b"".join(array.tobytes() for array in inputs.values())
    done = BOARDS["Cortex-M7"].inference(Standalone.of(NAME, read_tflite(content)), "-O2", 60, given)
    expected = LiteRTModel(content).invoke(inputs)
    assert done.outputs == b"".join(array.tobytes() for array in expected.values())
    with pytest.raises(BoardError, match="its inputs take 192 codes; 3 are given"):
        BOARDS["Cortex-M7"].inference(Standalone.of(NAME, read_tflite(content)), "-O2", 60, b"abc")


@pytest.mark.toolchain
@needs_emulator
def test_one_depthwise_operator_alone_is_c_without_a_warning() -> None:
    # With channels and positions known, gcc once saw a loop behind the one of four channels run for ever.
    network = blueprint_of(nn.Conv2d(16, 16, 3, padding=1, groups=16), input_shape=(16, 40, 40)).file
    lone = [alone(one) for one in distinct_operators([network]).values() if one.kind == "DEPTHWISE_CONV_2D"]
    assert [value > 0 for value in Device.named("cortex-m7").latency.of(lone)] == [True]


@pytest.mark.toolchain
@needs_emulator
def test_what_no_board_takes_is_one_line() -> None:
    source = Emulator(method="emulator", core="Cortex-M4", timeout_s=0.01)
    with pytest.raises(InputError, match=r"on an emulated Cortex-M4: mps2-an386 isn't done after 0\.01 seconds"):
        source.of([blueprint_of(nn.Conv2d(3, 9, 3)).file])  # nothing was kept of it
    huge = blueprint_of(nn.Conv2d(3, 4, 1), input_shape=(3, 900, 900)).file  # 2.4 MB go in, 3.2 out
    with pytest.raises(InputError, match=r"Cortex-M4: arm-none-eabi-gcc: .*overflowed") as caught:
        source.of([huge])
    assert "\n" not in str(caught.value)
    broken = Standalone(NAME, "#error no header\n", "", "", 0)
    with pytest.raises(BoardError, match=re.escape("arm-none-eabi-gcc: ") + ".*no header"):
        BOARDS["Cortex-M4"].footprint(broken, "-Os")


# An interpreter


@pytest.mark.toolchain
@pytest.mark.skipif(bool(cmsis_nn.lacking()), reason=cmsis_nn.lacking())
def test_an_interpreters_instructions_are_its_operators_and_little_more() -> None:
    device = Device.named("cortex-m55")
    (whole,) = device.figure("instructions", [lstm().file])
    layers = profiled(read_tflite(lstm().file), device).layers
    taken = [layer.taken or 0.0 for layer in layers]
    assert len(taken) == len(read_tflite(lstm().file).operators)
    assert min(taken) > 100
    assert whole * 0.98 < sum(taken) < whole  # the loop has the rest


def test_without_the_runner_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cmsis_nn.VARIABLE, raising=False)
    with pytest.raises(InputError, match=r"on an emulated Cortex-M55: .*(make emulator fetches one|on this machine)"):
        Device.named("cortex-m55").figure("instructions", [SMALL])


def test_a_runner_is_looked_for_beside_the_file_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "board.toml"
    head = 'version = 2\nname = "mine"\ndescription = "mine"\n'
    file.write_text(head + '[latency]\nmethod = "interpreter"\nrunner = "runners/mine.axf"\n', "utf-8")
    source = Device.read(file).latency
    assert isinstance(source, Interpreter)
    assert Path(source.runner) == tmp_path / "runners" / "mine.axf"


def test_a_missing_runner_is_told_by_whoever_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda tool: tool)
    monkeypatch.setenv(cmsis_nn.VARIABLE, __file__)
    assert not cmsis_nn.lacking()
    assert cmsis_nn.lacking("no/runner.axf").startswith(
        "latency.runner names no mlek_inference_runner.axf but 'no/runner.axf'; "
    )
    monkeypatch.setenv(cmsis_nn.VARIABLE, "nor/here.axf")
    assert cmsis_nn.lacking().startswith(f"${cmsis_nn.VARIABLE} names no mlek_inference_runner.axf but 'nor/here.axf'")
    monkeypatch.delenv(cmsis_nn.VARIABLE)
    assert cmsis_nn.lacking().startswith(f"${cmsis_nn.VARIABLE} is not set; make emulator fetches one")
