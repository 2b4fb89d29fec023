"""Emulated boards: QEMU's Cortex-M4, M7 and M33, for programs of Debian's gcc-arm-none-eabi."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).with_name("cortex_m4")
TOOLS = ("arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm")

NANOSECONDS = 8
"""That an instruction takes in the emulator (-icount shift=3)."""


@dataclass(frozen=True)
class Board:
    """A machine of QEMU.

    Attributes:
        machine: its name there.
        core: what compilers are told.
        code: where its program lies.
        ram: where its memory lies.
        tick_nanoseconds: of its system timer.
    """

    machine: str
    core: tuple[str, ...]
    code: int
    ram: int
    tick_nanoseconds: int

    @property
    def instructions_of_tick(self) -> float:
        """How many instructions the emulator runs from one tick of the system timer to the next."""
        return self.tick_nanoseconds / NANOSECONDS

    def linked(self, folder: Path, sources: Sequence[str], *options: str) -> Path:
        """Compile and link sources of a folder; without warnings."""
        script = (HERE / "mps2.ld").read_text("utf-8")
        script = script.replace("0x00000000", hex(self.code)).replace("0x20000000", hex(self.ram))
        (folder / f"{self.machine}.ld").write_text(script, "utf-8")
        image = f"{self.machine}.elf"
        linking = ["-T", f"{self.machine}.ld", "-nostartfiles", "--specs=rdimon.specs", "-Wl,--gc-sections"]
        sections = ["-ffunction-sections", "-fdata-sections"]
        command = ["arm-none-eabi-gcc", *self.core, "-mthumb", "-std=c99", "-Wall", "-Wextra", "-Werror", *sections]
        command += [*options, *sources, str(HERE / "startup.c"), *linking, "-lm", "-o", image]
        subprocess.run(command, cwd=folder, check=True)
        return folder / image

    def run(self, image: Path) -> subprocess.CompletedProcess[str]:
        """Run a program; what it prints comes back."""
        command = ["qemu-system-arm", "-M", self.machine, "-nographic", "-monitor", "none", "-serial", "none"]
        command += ["-icount", "shift=3", "-semihosting-config", "enable=on,target=native", "-kernel", str(image)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


FLOATS = ("-mfloat-abi=hard",)

BOARDS = {
    "Cortex-M4": Board("mps2-an386", ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", *FLOATS), 0, 0x20000000, 40),
    "Cortex-M7": Board("mps2-an500", ("-mcpu=cortex-m7", "-mfpu=fpv5-d16", *FLOATS), 0, 0x20000000, 40),
    "Cortex-M33": Board("mps2-an505", ("-mcpu=cortex-m33", "-mfpu=fpv5-sp-d16", *FLOATS), 0x10000000, 0x38000000, 50),
}


def lacking() -> list[str]:
    """Return the tools that aren't on this machine."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]
