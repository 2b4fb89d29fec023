"""TFLite Micro with CMSIS-NN on an emulated Cortex-M55: Arm's own build of both, run in QEMU.

The program is Arm's inference runner, which the package ``mlia-ethos-u`` (PyPI, Apache-2.0) has for its simulator:
``make emulator`` fetches it. Of the two for that machine, the one for the U65 is optimized. QEMU has no Ethos-U: in a
copy its initialization does nothing and succeeds. The runner finds the .tflite file, the inputs and room for the
outputs at fixed addresses. A plugin of QEMU's counts instructions: of the interpreter's loop, and of each operator that
it calls.
"""

from __future__ import annotations

import collections
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from qanas.deployment.boards.board import EMULATOR, BoardError, said
from qanas.deployment.tflite_reader import read_tflite

VARIABLE = "QANAS_CMSIS_NN"
"""Of the environment: the runner's path."""

COMPILER = "cc"
"""Of this machine, for the plugin."""

MACHINE = "mps3-an547"
MODEL, INPUT, OUTPUT = 0x90000000, 0x92000000, 0x93000000
RETURN_0 = bytes.fromhex("00207047")  # movs r0, #0; bx lr
ABSENT = "arm_ethosu_npu_init"
LOOP = "_ZN6tflite21MicroInterpreterGraph14InvokeSubgraphEi"
"""The interpreter's loop over operators."""

FEW_SECONDS = 0.05
SYMBOLS = 2
"""The kind of an ELF file's section that has symbols."""


def lacking(runner: str = "") -> str:
    """Say why it can't be run here; empty where it can.

    Args:
        runner: its path, a device's ``latency.runner``; empty: the environment's.
    """
    missing = [tool for tool in (EMULATOR, COMPILER) if shutil.which(tool) is None]
    if missing:
        return f"no {' and no '.join(missing)} on this machine"
    field, named = ("latency.runner", runner) if runner else (f"${VARIABLE}", os.environ.get(VARIABLE, ""))
    if Path(named).is_file():
        return ""
    wrong = f"names no mlek_inference_runner.axf but '{named}'" if named else "is not set"
    return f"{field} {wrong}; make emulator fetches one"


@dataclass(frozen=True)
class Interpreted:
    """What came out.

    Attributes:
        outputs: bytes of each, in the file's order.
        arena_bytes: that the interpreter used.
        instructions: of one inference, by the interpreter's loop and all that it calls.
        by_operator: instructions of each operator, in the file's order.
    """

    outputs: Sequence[bytes]
    arena_bytes: int
    instructions: int
    by_operator: Sequence[int]


@dataclass(frozen=True)
class Runner:
    """The runner without its accelerator, and the plugin, in a folder that has to stay.

    Attributes:
        image: the program.
        plugin: that counts.
        loop: where the interpreter's loop lies, its first address and the one behind its last.
    """

    image: Path
    plugin: Path
    loop: tuple[int, int]

    @classmethod
    def made(cls, folder: Path, runner: str = "") -> Runner:
        """Write it into a folder.

        Args:
            folder: that is there.
            runner: the path of Arm's; empty: the environment's.

        Raises:
            BoardError: something lacks, or is something else.
        """
        why = lacking(runner)
        if why:
            raise BoardError(why)
        content = bytearray(Path(runner or os.environ[VARIABLE]).read_bytes())
        address, _ = _symbol(bytes(content), ABSENT)
        place = _offset(bytes(content), address)
        content[place : place + len(RETURN_0)] = RETURN_0
        (folder / "runner.axf").write_bytes(content)
        start, size = _symbol(bytes(content), LOOP)
        source = resources.files(__package__ or "").joinpath("counting_plugin.c")
        (folder / "counting.c").write_text(source.read_text("utf-8"), "utf-8")
        said([COMPILER, "counting.c", "-std=c99", "-O2", "-shared", "-fPIC", "-o", "counting.so"], folder)
        return cls(folder / "runner.axf", folder / "counting.so", (start, start + size))

    def run(self, model: bytes, given: bytes, timeout_s: float = 300.0) -> Interpreted:
        """Run a model once.

        Args:
            model: a .tflite file.
            given: codes of its inputs, one behind the other.
            timeout_s: after which the emulator is stopped.

        Raises:
            BoardError: the interpreter refuses the model, or isn't done in time.
        """
        program = read_tflite(model)
        sizes = [tensor.stored_bytes for tensor in program.outputs.values()]
        with tempfile.TemporaryDirectory(dir=self.image.parent) as name:
            folder = Path(name)
            (folder / "m.tflite").write_bytes(model)
            (folder / "x.bin").write_bytes(given)
            printed, content = self._ran(folder, sum(sizes), timeout_s)
            counted = (folder / "counted.txt").read_text("utf-8")
        used = re.search(r"size used: (\d+)", printed)
        if used is None:
            refusal = [line.strip() for line in printed.splitlines() if "ERROR" in line or "Didn't find" in line]
            raise BoardError(f"TFLite Micro doesn't run it: {'; '.join(refusal) or 'it does not say why'}")
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        outputs = [content[start : start + size] for start, size in zip(starts, sizes, strict=True)]
        whole, by_operator = _counts(counted, len(program.operators))
        return Interpreted(outputs, int(used[1]), whole, by_operator)

    def _ran(self, folder: Path, size: int, timeout_s: float) -> tuple[str, bytes]:
        """Return what the runner printed, and so many bytes of the outputs."""
        place, printed, saved = folder / "monitor", folder / "printed.txt", folder / "out.bin"
        begin, end = self.loop
        options = f"from={begin:x},to={end:x},out={folder / 'counted.txt'}"
        command = [EMULATOR, "-M", MACHINE, "-kernel", str(self.image), "-nographic", "-icount", "shift=0"]
        command += ["-plugin", f"{self.plugin},{options}"]
        for name, address in (("m.tflite", MODEL), ("x.bin", INPUT)):
            command += ["-device", f"loader,file={folder / name},addr={address:#x},force-raw=on"]
        command += ["-monitor", f"unix:{place},server=on,wait=off", "-serial", f"file:{printed}"]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as process:  # noqa: S603 - our own
            try:
                until = time.monotonic() + timeout_s
                while not printed.is_file() or "terminating" not in printed.read_text(errors="replace"):
                    if process.poll() is not None:
                        raise BoardError(f"{MACHINE} ended with code {process.returncode}")
                    if time.monotonic() > until:
                        raise BoardError(f"{MACHINE} isn't done after {timeout_s:g} seconds")
                    time.sleep(FEW_SECONDS)
                with socket.socket(socket.AF_UNIX) as monitor:
                    monitor.connect(str(place))
                    monitor.sendall(f'pmemsave {OUTPUT:#x} {size} "{saved}"\nquit\n'.encode())
                    process.wait(60)
            finally:
                process.kill()
        return printed.read_text(errors="replace"), saved.read_bytes()


def _counts(text: str, operators: int) -> tuple[int, list[int]]:
    """Return the instructions of an inference and of its operators, of the plugin's lines.

    The loop calls operators, and little else, through pointers: of the calls that there is one of an operator, those
    that take most are theirs.
    """
    whole, sites = 0, collections.defaultdict[str, list[int]](list)
    for line in text.splitlines():
        kind, *numbers = line.split()
        if kind == "whole":
            whole = int(numbers[0])
        else:
            sites[numbers[0]].append(int(numbers[1]))
    found = max((each for each in sites.values() if len(each) == operators), key=sum, default=[])
    if whole <= 0 or not found:
        raise BoardError("the plugin counted nothing: the runner is another build than 26.03's")
    return whole, found


def _sections(content: bytes) -> list[tuple[int, ...]]:
    (start,), (size, count) = struct.unpack_from("<I", content, 32), struct.unpack_from("<HH", content, 46)
    return [struct.unpack_from("<10I", content, start + number * size) for number in range(count)]


def _symbol(content: bytes, symbol: str) -> tuple[int, int]:
    """Return the address and the size of a function of an ELF file of 32 bits."""
    sections = _sections(content)
    for _, kind, _, _, offset, size, link, *_ in sections:
        names = sections[link][4] if kind == SYMBOLS else 0
        for place in range(offset, offset + size if kind == SYMBOLS else offset, 16):
            name, address, length = struct.unpack_from("<III", content, place)
            if content[names + name : content.index(0, names + name)] == symbol.encode():
                return int(address) & ~1, int(length)
    raise BoardError(f"the runner has no {symbol}: it is another build than 26.03's")


def _offset(content: bytes, address: int) -> int:
    """Where in an ELF file an address lies."""
    (start,), (size, count) = struct.unpack_from("<I", content, 28), struct.unpack_from("<HH", content, 42)
    for number in range(count):
        _, offset, virtual, _, length, *_ = struct.unpack_from("<8I", content, start + number * size)
        if virtual <= address < virtual + length:
            return int(offset + address - virtual)
    raise BoardError(f"the runner has nothing at {address:#x}")
