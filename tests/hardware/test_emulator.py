"""Emulated boards as a source of latency, and of flash and RAM; most of it needs the boards' tools (make emulator)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from torch import nn

from qanas.core.errors import InputError
from qanas.deployment.boards.board import BOARDS, NAME, BoardError, lacking
from qanas.deployment.standalone.model import Standalone
from qanas.deployment.tflite_reader import read_tflite
from qanas.hardware.device import Device
from qanas.hardware.latency.emulator import Emulator
from qanas.testing.costs import blueprint_of

needs_emulator = pytest.mark.skipif(bool(lacking()), reason=f"not on this machine: {', '.join(lacking())}")

SMALL = blueprint_of(nn.Conv2d(3, 8, 3), nn.ReLU()).file


def test_without_its_tools_it_says_in_a_line_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"needs arm-none-eabi-gcc and qemu-system-arm; make emulator, or .*apt-get"):
        Device.named("cortex-m4").latency.of([SMALL])


@pytest.mark.toolchain
@needs_emulator
@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m7", "cortex-m33"])
def test_instructions_are_counted_the_same_each_time(name: str) -> None:
    device = Device.named(name)
    assert isinstance(device.latency, Emulator)
    (found,) = device.figure("instructions", [SMALL])
    # 36 positions of 8 filters of 27 products: at least half an instruction a product, with two in one.
    assert 36 * 8 * 27 / 2 < found < 36 * 8 * 27 * 20
    again = BOARDS[device.latency.core].instructions(Standalone.of(NAME, read_tflite(SMALL)), "-O2", 60)
    assert again == found


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
