"""Flash and RAM of a network on a device, as C without an interpreter: estimated, or read off a linked file."""

from __future__ import annotations

from collections.abc import Mapping

from qanas.core.errors import InputError
from qanas.deployment.boards.board import BOARDS, COMPILER, NAME, SIZE, BoardError, lacking, version
from qanas.deployment.standalone.emitter import NotCoveredError
from qanas.deployment.standalone.footprint import Footprint, estimated
from qanas.deployment.standalone.model import Standalone
from qanas.deployment.tflite_reader import read_tflite
from qanas.hardware.device import Device
from qanas.quantization.program import Program

FOOTPRINT_COSTS = ("flash_bytes", "ram_bytes")


def expected_footprint(device: Device, program: Program) -> Footprint:
    """Return what a program would take, without compiling it.

    Args:
        device: that names a core.
        program: of the network as it ships.

    Raises:
        InputError: there is no C form of it.
    """
    assert device.built_for is not None  # noqa: S101 - who asks has looked
    try:
        return estimated(program, device.built_for[1])
    except NotCoveredError as error:
        raise InputError(f"device: {device.name}: as C without an interpreter: {error}") from error


def footprints_described(device: Device) -> str:
    """Return how a shipped model's flash and RAM are had, for cards; empty where the device names no core."""
    if device.built_for is None:
        return ""
    core, optimized = device.built_for
    exact = f"linked by gcc {version(COMPILER)} {optimized}"
    return f"flash and RAM as C on a {core}: {'estimated' if lacking((COMPILER, SIZE)) else exact}"


def taken_footprint(device: Device, content: bytes) -> Mapping[str, float]:
    """Return the flash and RAM of a shipped file: of the linked program, or estimated where there is no compiler.

    Args:
        device: of which nothing is returned where it names no core, or where there is no C form of the file.
        content: a .tflite file.
    """
    if device.built_for is None:
        return {}
    core, optimized = device.built_for
    program = read_tflite(content)
    try:
        if lacking((COMPILER, SIZE)):
            found = estimated(program, optimized)
        else:
            found = BOARDS[core].footprint(Standalone.of(NAME, program), optimized)
    except (NotCoveredError, BoardError):
        return {}
    return {"flash_bytes": float(found.flash_bytes), "ram_bytes": float(found.ram_bytes)}
