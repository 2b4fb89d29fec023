"""Firmware folders on what they are for: emulated Cortex-M, and TFLite Micro itself, natively and there.

`make firmware` runs these. They need Debian's gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm, with
TFLite Micro libstdc++-arm-none-eabi-newlib as well, and a build of TFLite Micro: its folder of sources is
``$QANAS_TFLM``, its libtensorflow-microlite.a for that core ``$QANAS_TFLM_CORTEX_M4``. What isn't there is skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import qanas.deployment.boards
from qanas.deployment.boards.board import BOARDS, Core
from tests.deployment.firmware_models import C99, Model, models, printed, program
from tests.deployment.standalone_models import comparing_program, written
from tests.deployment.test_standalone import architectures, networks

pytestmark = pytest.mark.toolchain

CORE = ("-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard")
TOOLCHAIN = Path(__file__).with_name("cortex_m4.cmake")
BOARD_FILES = Path(qanas.deployment.boards.__file__).parent
LINKED = ("-T", str(BOARD_FILES / "board.ld"), "-nostartfiles", "--specs=rdimon.specs", "-Wl,--gc-sections")
QEMU = ("qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none")
TFLM = os.environ.get("QANAS_TFLM", "")
TFLM_CORTEX_M4 = os.environ.get("QANAS_TFLM_CORTEX_M4", "")

needs_emulator = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("arm-none-eabi-gcc", "qemu-system-arm")),
    reason="no arm-none-eabi-gcc or no qemu-system-arm on this machine",
)
needs_tflm = pytest.mark.skipif(
    not TFLM or shutil.which("cmake") is None, reason="no CMake, or $QANAS_TFLM names no build of TFLite Micro"
)


@pytest.fixture(scope="module")
def found() -> list[Model]:
    return models()


@pytest.fixture
def place(found: list[Model], tmp_path: Path) -> Path:
    for model in found:
        model.write(tmp_path)
    return tmp_path


def run(command: Sequence[str], place: Path) -> str:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def emulate(image: Path) -> subprocess.CompletedProcess[str]:
    command = [*QEMU, "-kernel", str(image), "-semihosting-config", "enable=on,target=native"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@needs_emulator
def test_what_is_ours_computes_on_a_cortex_m4_what_python_does(place: Path, found: list[Model]) -> None:
    (place / "main.c").write_text(program(found), "utf-8")
    sources = ["main.c", *(str(path.relative_to(place)) for path in place.glob("*/src/*.c"))]
    includes = [f"-I{model.name}/src" for model in found]
    ours = [*CORE, "-O2", *C99, *includes, "-c", *sources]
    run(["arm-none-eabi-gcc", *ours], place)
    objects = [Path(source).with_suffix(".o").name for source in sources]
    start = [str(BOARD_FILES / "startup.c"), *objects]
    run(["arm-none-eabi-gcc", *CORE, "-O2", *start, *LINKED, "-lm", "-o", "all.elf"], place)
    done = emulate(place / "all.elf")
    assert done.returncode == 0
    assert done.stdout.splitlines() == printed(found)


@needs_emulator
@pytest.mark.parametrize("options", [("-Os",), ("-O2",), ("-O2", "-DQANAS_NO_DSP")], ids=" ".join)
@pytest.mark.parametrize("core", BOARDS)
def test_without_an_interpreter_no_output_differs_from_the_simulation(
    core: Core, options: tuple[str, ...], tmp_path: Path
) -> None:
    """Every operator that has a kernel, LSTMs and the architectures of this package, in one program."""
    cases = networks() | architectures()
    (tmp_path / "main.c").write_text(comparing_program(cases), "utf-8")
    board = BOARDS[core]
    done = board.run(board.linked(tmp_path, ["main.c", *written(cases, tmp_path)], *options))
    assert done.stdout.split() == [word for name in cases for word in (name, "0")]
    assert done.returncode == 0


@needs_emulator
@pytest.mark.parametrize("core", BOARDS)
def test_golden_vectors_pass_without_an_interpreter(core: Core, place: Path, found: list[Model]) -> None:
    for model in found:
        folder = place / model.name
        if not (folder / "standalone").is_dir():
            continue
        parts = ("standalone/*.c", "src/*_golden.c", "src/*_preprocessing.c")
        sources = [str(path.relative_to(folder)) for part in parts for path in folder.glob(part)]
        done = BOARDS[core].run(BOARDS[core].linked(folder, sources, "-Os", "-Isrc"))
        assert done.returncode == 0
        assert done.stdout.splitlines()[-1] == "PASS"


def build(folder: Path, *options: str) -> Path:
    """The commands of the folder's README; return the program."""
    run(["cmake", "-S", ".", "-B", "build", f"-DTFLM={TFLM}", *options], folder)
    run(["cmake", "--build", "build"], folder)
    return folder / "build" / f"{folder.name}_golden"


@needs_tflm
def test_golden_vectors_are_right_in_tflite_micro(place: Path, found: list[Model]) -> None:
    for model in found:
        said = run([str(build(place / model.name))], place)
        golden = model.firmware.golden
        assert said.count("from codes: ") == golden.count * len(golden.outputs)
        assert said.count("from raw: output") == len(golden.raw)


@needs_tflm
def test_a_wrong_golden_vector_is_found(place: Path, found: list[Model]) -> None:
    folder = place / found[0].name
    golden = folder / "src" / f"{folder.name}_golden.c"
    text = golden.read_text("utf-8")
    place_of_output = text.index(f"{folder.name}_golden_output[")
    wrong = re.sub(r"\n    -?\d+\n", "\n    101\n", text[place_of_output:], count=1)
    golden.write_text(text[:place_of_output] + wrong, "utf-8")
    done = subprocess.run([build(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Golden vectors: WRONG." in done.stderr


@needs_emulator
@needs_tflm
@pytest.mark.skipif(not TFLM_CORTEX_M4, reason="$QANAS_TFLM_CORTEX_M4 names no build of TFLite Micro for a Cortex-M4")
def test_golden_vectors_are_right_in_tflite_micro_on_a_cortex_m4(place: Path, found: list[Model]) -> None:
    run(["arm-none-eabi-gcc", *CORE, "-O2", "-c", str(BOARD_FILES / "startup.c"), "-o", "startup.o"], place)
    for model in found:
        image = build(
            place / model.name,
            f"-DCMAKE_TOOLCHAIN_FILE={TOOLCHAIN}",
            f"-DTFLM_LIBRARY={TFLM_CORTEX_M4}",
            f"-DCMAKE_EXE_LINKER_FLAGS={place / 'startup.o'} {' '.join(LINKED)}",
        )
        done = emulate(image)
        assert done.returncode == 0, done.stderr
        assert "Golden vectors: right." in done.stderr
