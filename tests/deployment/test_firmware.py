"""The firmware folder: five models of one run in one program, which is held against what Python computes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from torch import nn

import qanas.quantization
from qanas.deployment.arena import operator_kinds
from qanas.deployment.operators import OPERATOR_KINDS
from tests.deployment.firmware_models import C99, CXX17, STRICT, Model, model_of, models, printed, program

needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None or shutil.which("c++") is None, reason="no C and C++ compiler on this machine"
)


@pytest.fixture(scope="module")
def found() -> list[Model]:
    return models()


@pytest.fixture(scope="module")
def place(found: list[Model], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("firmware")
    for model in found:
        model.write(folder)
    return folder


@needs_compiler
@pytest.mark.parametrize(("compiler", "language", "count"), [("cc", C99, 5), ("c++", CXX17, 4)])
def test_models_link_into_one_program_and_compute_what_python_does(
    place: Path, found: list[Model], compiler: str, language: tuple[str, ...], count: int
) -> None:
    """Preprocessing, quantize and dequantize; no warning in either language."""
    linked = found[:count]
    (place / "main.c").write_text(program(linked), "utf-8")
    sources = [str(path.relative_to(place)) for model in linked for path in (place / model.name).glob("src/*.c")]
    includes = [f"-I{model.name}/src" for model in linked]
    subprocess.run([compiler, *language, *includes, "main.c", *sources, "-o", compiler, "-lm"], cwd=place, check=True)
    said = subprocess.run([place / compiler], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == printed(linked)


@needs_compiler
def test_the_program_for_tflite_micro_is_right_in_its_syntax(place: Path, found: list[Model]) -> None:
    """Held against declarations of ours alone; `test_firmware_targets.py` runs it."""
    stub = Path(__file__).with_name("tflm_stub")
    for model in (found[0], found[-1]):
        folder = place / model.name
        command = ["c++", "-std=c++17", *STRICT, "-fsyntax-only", "-Isrc", f"-I{stub}", "main.cc"]
        subprocess.run(command, cwd=folder, check=True)


@needs_compiler
def test_golden_vectors_are_right_without_an_interpreter(place: Path, found: list[Model]) -> None:
    """From the raw input on; two models are one program's, their identifiers don't clash."""
    seed, dense = found[:2]
    sources = [f"{model.name}/standalone/{model.name}_standalone.c" for model in (seed, dense)]
    sources += [f"{seed.name}/src/{seed.name}{part}.c" for part in ("_golden", "_preprocessing")]
    includes = [f"-I{seed.name}/src"]
    command = ["cc", *C99, *includes, f"{seed.name}/standalone/main.c", *sources, "-o", "standalone", "-lm"]
    subprocess.run(command, cwd=place, check=True)
    said = subprocess.run([place / "standalone"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[-1] == "PASS"
    assert sum("output is 0 steps off" in line for line in said) == 2 * seed.firmware.golden.count


def test_what_has_no_kernel_in_c_has_no_standalone_part_and_says_so(found: list[Model]) -> None:
    wide = found[2].firmware.files()
    assert not [name for name in wide if name.startswith("standalone/")]
    assert "There is no such form of this model: " in wide["README.md"]


def test_what_isnt_there_isnt_talked_about(found: list[Model]) -> None:
    lstm, dense, conv, images, cell = (model.firmware.files() for model in found)
    assert "keeps its hidden and cell state" in lstm["README.md"]
    for files in (dense, conv, images, cell):
        assert not re.search("LSTM|Reset", "".join(files.values()))
    assert "NHWC" in images["src/a_run_2_images.h"]
    samples = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    assert not [name for name in model_of("plain", nn.Linear(3, 2), samples).firmware.files() if "preprocess" in name]
    assert "same codes" in images["README.md"]
    assert "#define A_RUN_2_IMAGES_OUTPUT_TOLERANCE 0" in images["src/a_run_2_images_golden.h"]
    assert "#define A_RUN_2_SEED_OUTPUT_TOLERANCE 2" in lstm["src/a_run_2_seed_golden.h"]


def test_the_arena_is_that_of_the_values_and_more(found: list[Model]) -> None:
    for model in found:
        header = model.firmware.files()[f"src/{model.name}.h"]
        arena = re.search(r"_ARENA_BYTES (\d+)", header)
        assert arena is not None
        assert int(arena[1]) > model.firmware.peak_ram_bytes
        assert int(arena[1]) % 16 == 0


def test_the_operators_are_those_of_the_file(found: list[Model]) -> None:
    kinds = ["FULLY_CONNECTED", "STRIDED_SLICE", "UNIDIRECTIONAL_SEQUENCE_LSTM"]
    assert operator_kinds(found[0].firmware.content) == kinds
    header = found[0].firmware.files()[f"src/{found[0].name}_tflm.h"]
    assert re.findall(r"resolver\.(\w+)\(", header) == [OPERATOR_KINDS[kind].resolver_method for kind in kinds]
    assert "MicroMutableOpResolver<3>" in header


def test_every_operator_that_the_graph_writes_can_be_deployed() -> None:
    sources = [path.read_text("utf-8") for path in Path(qanas.quantization.__file__).parent.rglob("*.py")]
    written = {kind for text in sources for kind in re.findall(r'"([A-Z][A-Z0-9_]*)"', text)}
    builtin = written & set(dir(schema.BuiltinOperator)) - {"LSTM", "ELU"}  # torch's names in messages
    assert len(builtin) > 20
    assert builtin <= set(OPERATOR_KINDS)
