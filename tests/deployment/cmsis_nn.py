"""TFLite Micro with CMSIS-NN on an emulated Cortex-M55: Arm's own build of both, run in QEMU.

The program is Arm's inference runner, which the package ``mlia-ethos-u`` (PyPI, Apache-2.0) has for its simulator:

    pip download --no-deps mlia-ethos-u && unzip mlia_ethos_u-*.whl 'mlia/resources/*sse-300-*-tflm-ethos-U65*'
    export QANAS_CMSIS_NN=$PWD/mlia/resources/.../mlek_inference_runner.axf

Of the two for that machine, the one for the U65 is optimized. QEMU has no Ethos-U: in a copy its initialization does
nothing and succeeds. The runner finds the .tflite file, the inputs and room for the outputs at fixed addresses.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RUNNER = os.environ.get("QANAS_CMSIS_NN", "")

MODEL, INPUT, OUTPUT = 0x90000000, 0x92000000, 0x93000000
RETURN_0 = bytes.fromhex("00207047")  # movs r0, #0; bx lr
ABSENT = "arm_ethosu_npu_init"

FEW_SECONDS = 0.05


def lacking() -> str:
    """Why it can't be run here; empty where it can."""
    if shutil.which("qemu-system-arm") is None:
        return "no qemu-system-arm on this machine"
    return "" if Path(RUNNER).is_file() else "$QANAS_CMSIS_NN names no mlek_inference_runner.axf"


@dataclass(frozen=True)
class Inference:
    """What came out.

    Attributes:
        outputs: bytes of each, in the file's order.
        arena_bytes: that the interpreter used.
        said: everything that the runner printed.
    """

    outputs: Sequence[bytes]
    arena_bytes: int
    said: str


def patched(folder: Path) -> Path:
    """Write the runner without its accelerator into a folder."""
    content = bytearray(Path(RUNNER).read_bytes())
    place = _offset(bytes(content), _address(bytes(content), ABSENT) & ~1)
    content[place : place + len(RETURN_0)] = RETURN_0
    path = folder / "runner.axf"
    path.write_bytes(content)
    return path


def _sections(content: bytes) -> list[tuple[int, ...]]:
    (start,), (size, count) = struct.unpack_from("<I", content, 32), struct.unpack_from("<HH", content, 46)
    return [struct.unpack_from("<10I", content, start + number * size) for number in range(count)]


def _address(content: bytes, symbol: str) -> int:
    """The address of a symbol of an ELF file of 32 bits."""
    sections = _sections(content)
    for _, kind, _, _, offset, size, link, *_ in sections:
        names = sections[link][4] if kind == 2 else 0
        for place in range(offset, offset + size if kind == 2 else offset, 16):
            name, address = struct.unpack_from("<II", content, place)
            if content[names + name : content.index(0, names + name)] == symbol.encode():
                return int(address)
    raise AssertionError(f"the runner has no {symbol}")


def _offset(content: bytes, address: int) -> int:
    """Where in an ELF file an address lies."""
    (start,), (size, count) = struct.unpack_from("<I", content, 28), struct.unpack_from("<HH", content, 42)
    for number in range(count):
        _, offset, virtual, _, length, *_ = struct.unpack_from("<8I", content, start + number * size)
        if virtual <= address < virtual + length:
            return int(offset + address - virtual)
    raise AssertionError(f"nothing lies at {address:#x}")


def run(runner: Path, model: bytes, given: bytes, sizes: Sequence[int], timeout_s: float = 300) -> Inference:
    """Run a model once.

    Args:
        runner: see `patched`; files are written beside it.
        model: a .tflite file.
        given: codes of its inputs, one behind the other.
        sizes: bytes of each output.
        timeout_s: after which the emulator is stopped.
    """
    folder = runner.parent
    (folder / "m.tflite").write_bytes(model)
    (folder / "x.bin").write_bytes(given)
    place, printed = folder / "monitor", folder / "printed.txt"
    place.unlink(missing_ok=True)
    printed.unlink(missing_ok=True)
    command = ["qemu-system-arm", "-M", "mps3-an547", "-kernel", str(runner), "-nographic", "-icount", "shift=0"]
    for name, address in (("m.tflite", MODEL), ("x.bin", INPUT)):
        command += ["-device", f"loader,file={folder / name},addr={address:#x},force-raw=on"]
    command += ["-monitor", f"unix:{place},server=on,wait=off", "-serial", f"file:{printed}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + timeout_s
            while not printed.is_file() or "terminating" not in printed.read_text(errors="replace"):
                assert process.poll() is None, "the emulator ended"
                assert time.monotonic() < until, f"not done after {timeout_s} s"
                time.sleep(FEW_SECONDS)
            saved = folder / "out.bin"
            saved.unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX) as monitor:
                monitor.connect(str(place))
                monitor.sendall(f'pmemsave {OUTPUT:#x} {sum(sizes)} "{saved}"\nquit\n'.encode())
                process.wait(60)
        finally:
            process.kill()
    said, content = printed.read_text(errors="replace"), saved.read_bytes()
    used = re.search(r"size used: (\d+)", said)
    refusal = [line.strip() for line in said.splitlines() if "ERROR" in line or "Didn't find" in line]
    assert used is not None, f"it isn't run: {'; '.join(refusal)}"
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    outputs = [content[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    return Inference(outputs, int(used[1]), said)
