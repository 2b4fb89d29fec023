"""QEMU's Cortex-M boards, for programs of Debian's gcc-arm-none-eabi: their flash, their RAM, their instructions.

Instructions are those of QEMU's clock (``-icount``): the same in every run, and not cycles: there are no caches, flash
wait states or second issue.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from qanas.core.c_text import render
from qanas.deployment.standalone.footprint import STACK_BYTES, Footprint, Optimized
from qanas.deployment.standalone.model import Standalone

Core = Literal["Cortex-M4", "Cortex-M7", "Cortex-M33"]

COMPILER, SIZE, EMULATOR = "arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm"
TOOLS = (COMPILER, SIZE, EMULATOR)
PACKAGES = "gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"
"""Of Debian and Ubuntu, that have the tools."""

NANOSECONDS = 8
"""That an instruction takes in the emulator (-icount shift=3)."""

SECTIONS = ("-ffunction-sections", "-fdata-sections")
NAME = "network"
"""Of models whose C nobody reads."""

ALONE = f"""
#include "{NAME}_standalone.h"
int main(void) {{
  {NAME}_standalone_run();
  return 0;
}}
"""
"""A program that does nothing but run the model."""


class BoardError(Exception):
    """A program that isn't built, or doesn't run to its end; one line."""


@dataclass(frozen=True)
class Inference:
    """What a board says of one.

    Attributes:
        instructions: that it took.
        outputs: codes of all outputs, one behind the other.
    """

    instructions: int
    outputs: bytes


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
        """Compile and link sources of a folder, without warnings; return the program.

        Raises:
            BoardError: it doesn't compile, or doesn't fit.
        """
        files = resources.files(__package__ or "")
        script = files.joinpath("board.ld").read_text("utf-8")
        script = script.replace("0x00000000", hex(self.code)).replace("0x20000000", hex(self.ram))
        (folder / f"{self.machine}.ld").write_text(script, "utf-8")
        (folder / "startup.c").write_text(files.joinpath("startup.c").read_text("utf-8"), "utf-8")
        image = f"{self.machine}.elf"
        linking = ["-T", f"{self.machine}.ld", "-nostartfiles", "--specs=rdimon.specs", "-Wl,--gc-sections"]
        command = [COMPILER, *self.core, "-mthumb", "-std=c99", "-Wall", "-Wextra", "-Werror", *SECTIONS]
        said([*command, *options, *sources, "startup.c", *linking, "-lm", "-o", image], folder)
        return folder / image

    def run(self, image: Path, timeout_s: float = 600.0) -> subprocess.CompletedProcess[str]:
        """Run a program in its folder, whose files it can open; what it prints comes back.

        Raises:
            subprocess.TimeoutExpired: it isn't done in time.
        """
        command = [EMULATOR, "-M", self.machine, "-nographic", "-monitor", "none", "-serial", "none"]
        command += ["-icount", "shift=3", "-semihosting-config", "enable=on,target=native", "-kernel", str(image)]
        return subprocess.run(  # noqa: S603 - our own
            command, cwd=image.parent, capture_output=True, text=True, check=False, timeout=timeout_s
        )

    def inference(self, model: Standalone, optimized: Optimized, timeout_s: float, given: bytes = b"") -> Inference:
        """Run one inference.

        Args:
            model: called `NAME`.
            optimized: what the compiler is told.
            timeout_s: seconds after which the emulator is stopped.
            given: codes of all inputs, one behind the other; nothing: they are all zero.

        Raises:
            BoardError: it doesn't fit the board, isn't done in time, or fails.
        """
        expected = sum(border.size for border in model.inputs)
        if given and len(given) != expected:
            raise BoardError(f"its inputs take {expected} codes; {len(given)} are given")
        with tempfile.TemporaryDirectory(prefix="board-") as place:
            folder = Path(place)
            (folder / "input.bin").write_bytes(given or bytes(expected))
            borders = {"inputs": model.inputs, "outputs": model.outputs}
            sources = _written(model, folder, render(__package__ or "", "counting.c.jinja", name=NAME, **borders))
            image = self.linked(folder, sources, optimized)
            try:
                done = self.run(image, timeout_s)
            except subprocess.TimeoutExpired as error:
                raise BoardError(f"{self.machine} isn't done after {timeout_s:g} seconds") from error
            if done.returncode or not done.stdout.strip().isdigit():
                raise BoardError(f"{self.machine} ended with code {done.returncode}: {_first_line(done.stderr)}")
            outputs = (folder / "output.bin").read_bytes()
        return Inference(round(int(done.stdout) * self.instructions_of_tick), outputs)

    def footprint(self, model: Standalone, optimized: Optimized) -> Footprint:
        """Return what a program takes that does nothing but run the model, read off the linked file, and the stack.

        Args:
            model: called `NAME`.
            optimized: what the compiler is told.

        Raises:
            BoardError: it doesn't compile.
        """
        with tempfile.TemporaryDirectory(prefix="board-") as place:
            folder = Path(place)
            sources = _written(model, folder, ALONE)
            command = [COMPILER, *self.core, "-mthumb", "-std=c99", optimized, *SECTIONS, *sources, "-nostartfiles"]
            said([*command, "--specs=nano.specs", "-Wl,--gc-sections", "-Wl,-e,main", "-o", "alone.elf"], folder)
            row = said([SIZE, "alone.elf"], folder).splitlines()[1]
        text, data, bss = map(int, row.split()[:3])
        return Footprint(text + data, data + bss + STACK_BYTES)


def _written(model: Standalone, folder: Path, main: str) -> list[str]:
    """Write a model's sources and a program around it; return the names of the C files."""
    for file, text in {**model.files(), "main.c": main}.items():
        (folder / file).write_text(text, "utf-8")
    return ["main.c", f"{model.name}_standalone.c"]


def said(command: Sequence[str], folder: Path) -> str:
    """Run one of the tools in a folder; return what it prints.

    Raises:
        BoardError: it isn't there, or fails.
    """
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        raise BoardError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise BoardError(f"{command[0]}: {_first_line(done.stderr)}")
    return done.stdout


def _first_line(text: str) -> str:
    """Return the line that says what is wrong: the first of an error, else the first."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it doesn't say why"]
    return next((line for line in lines if "error" in line or "overflowed" in line), lines[0])


FLOATS = ("-mfloat-abi=hard",)

BOARDS: Mapping[Core, Board] = {
    "Cortex-M4": Board("mps2-an386", ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", *FLOATS), 0, 0x20000000, 40),
    "Cortex-M7": Board("mps2-an500", ("-mcpu=cortex-m7", "-mfpu=fpv5-d16", *FLOATS), 0, 0x20000000, 40),
    "Cortex-M33": Board("mps2-an505", ("-mcpu=cortex-m33", "-mfpu=fpv5-sp-d16", *FLOATS), 0x10000000, 0x38000000, 50),
}


def lacking(tools: Sequence[str] = TOOLS) -> list[str]:
    """Return the tools that aren't on this machine."""
    return [tool for tool in tools if shutil.which(tool) is None]


@cache
def version(tool: str) -> str:
    """Return a tool's version, such as ``12.2.1``; empty where it isn't there or doesn't say."""
    if lacking([tool]):
        return ""
    said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    words = said.splitlines()[0].replace("(", " ").replace(")", " ").split() if said else []
    return next((word for word in words if word.replace(".", "").isdigit() and "." in word), "")
