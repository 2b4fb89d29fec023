"""A device's file: taken as people write it, or refused in one line that names the key and the mend."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qanas.core.errors import InputError
from qanas.core.measures import Cost
from qanas.hardware.costs import cost_models
from qanas.hardware.device import Device

HEAD = """version = 2
name = "b"
description = "d"
part = "p"
clock_mhz = 160
"""
MEMORY = """[memory]
flash_bytes = 2097152
ram_bytes = 786432
source = "data sheet"
"""
COMMAND = '[latency]\nmethod = "command"\nargv = ["python", "x.py", "{model}"]\n'
ANALYTIC = '[latency]\nmethod = "analytic"\nsource = "x"\n'
WHOLE = HEAD + MEMORY + COMMAND


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "b.toml"
    path.write_text(text, encoding)
    return path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD + MEMORY + ANALYTIC + "cycles = { convolution = -1, dense = 5 }\n",
         "latency.cycles.convolution: -1: input should be greater than or equal to 0"),
        (HEAD + MEMORY + ANALYTIC + "cycles = { convolution = nan }\n",
         "latency.cycles.convolution: nan: input should be a finite number"),
        (HEAD + MEMORY + ANALYTIC + "cycles = { convolution = 0 }\n",
         "latency.cycles: a network would take no time: give cycles of a multiply-accumulate of a convolution"),
        (HEAD + MEMORY + ANALYTIC + "cycles = { conv = 1.0 }\n",
         "latency.cycles.conv: 'conv' is not 'convolution', 'depthwise', 'dense', 'recurrent', 'byte' or 'operator'"),
        (HEAD + MEMORY + ANALYTIC, "latency.cycles: missing; add it"),
        (HEAD + MEMORY.replace("source", "runtime_flash_bytes = 9999999\nsource") + COMMAND,
         "memory.runtime_flash_bytes: 9999999: nothing is left of memory.flash_bytes = 2097152: give less"),
        (HEAD + MEMORY.replace("source", "runtime_ram_bytes = '768 KiB'\nsource") + COMMAND,
         "memory.runtime_ram_bytes: '768 KiB': nothing is left of memory.ram_bytes = 786432: give less"),
        (WHOLE.replace("2097152", '"2 MBit"'), "memory.flash_bytes: '2 MBit' is no number of bytes, also not with "),
        (WHOLE.replace("ram_bytes", "sram_bytes"), "memory.sram_bytes: unknown key; did you mean 'ram_bytes'?"),
        (WHOLE + "timeout = 3\n", "latency.timeout: unknown key; did you mean 'timeout_s'?"),
        (WHOLE.replace("part", "vendor"), "vendor: unknown key; known here: avoid, caution, clock_mhz"),
        (WHOLE.replace("command", "comand"), "latency.method: 'comand' is not 'measured', "),
        (WHOLE.replace("command", "comand"), "; did you mean 'command'?"),
        (WHOLE.replace('method = "command"\n', ""), "latency.method: missing; add it"),
        (WHOLE.replace('["python", "x.py", "{model}"]', '"python x.py"'),
         "latency.argv: 'python x.py': input should be a valid list; write [..., ...]"),
        (WHOLE.replace("{model}", "model"), "latency.argv: no part holds {model}, the file that is to be run"),
        (WHOLE.replace('"b"', '"My Board"'), "name: 'My Board': give small letters, digits, '.', '_' and '-'"),
        (HEAD + "latency = 3\n", "latency: 3 is not a table; write [latency] and its keys below"),
        (HEAD, "latency: missing; add it"),
        ("", "version: missing; add it"),
        (HEAD + 'core = "Cortex-M0"\n' + MEMORY + COMMAND, "core: 'Cortex-M0' is not 'Cortex-M4', "),
        (WHOLE + "[[published]]\nnetwork = 'n'\nms = -1\ncounts = {}\nsource = 's'\n",
         "published.0.ms: -1: input should be greater than 0"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_devices_file(tmp_path: Path, text: str, told: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        Device.read(path)
    assert str(caught.value).startswith(f"device.name: {path}: ")
    assert told in str(caught.value)


@pytest.mark.parametrize(("text", "expected"), [('"2 MB"', 2_000_000), ('"2MiB"', 2_097_152), ("2097152", 2_097_152)])
def test_memory_may_have_a_unit_as_limits_have(tmp_path: Path, text: str, expected: int) -> None:
    memory = Device.read(written(tmp_path, WHOLE.replace("2097152", text))).memory
    assert memory is not None
    assert memory.flash_bytes == expected


def test_a_byte_order_mark_is_taken_and_another_encoding_is_told(tmp_path: Path) -> None:
    assert Device.read(written(tmp_path, WHOLE, "utf-8-sig")).name == "b"
    with pytest.raises(InputError, match=r"is no TOML: .*; save it as UTF-8"):
        Device.read(written(tmp_path, "# µC\n" + WHOLE, "latin-1"))


@pytest.mark.parametrize(
    ("latency", "told"),
    [
        (
            'method = "table"\npath = "no.json"',
            r"device\.latency\.path: .*/no\.json: No such file .*qanas table makes",
        ),
        ('method = "table"\npath = "bad.json"', r"device\.latency\.path: .*/bad\.json is no table: device: "),
        ('method = "interpreter"\nrunner = "no.axf"', r"device: on an emulated Cortex-M55: "),
        (
            'method = "command"\nargv = ["no-such-program", "{model}"]',
            r"device\.latency\.argv: no program 'no-such-program'",
        ),
        ('method = "measured"\nkernels = "optimized"', ""),
    ],
)
def test_what_lacks_for_a_devices_latency_is_seen_without_running(tmp_path: Path, latency: str, told: str) -> None:
    (tmp_path / "bad.json").write_text("{}", "utf-8")
    found = Device.read(written(tmp_path, f"{HEAD}{MEMORY}[latency]\n{latency}\n")).latency.lacking
    assert re.match(told, found)
    assert bool(found) == bool(told)


def test_a_device_that_a_cost_names_is_blamed_on_the_cost_and_found_beside_the_recipe(tmp_path: Path) -> None:
    host = Device.named("host")
    with pytest.raises(InputError, match=r"^latency_ms@nrf5430: unknown device 'nrf5430': did you mean 'nrf5340'\?"):
        cost_models([Cost("latency_ms", "nrf5430")], host)
    written(tmp_path, WHOLE)
    (*_, cost) = cost_models([Cost("latency_ms", "b.toml")], host, tmp_path)
    assert cost.measure.column == "latency_ms@b.toml"
