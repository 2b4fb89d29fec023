"""An export as a folder, as a search ships its models: the file, what is known of it, and its firmware."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from qanas.core.c_text import identifier
from qanas.core.errors import InputError
from qanas.core.even_spread import evenly_spread
from qanas.core.run_folder import digest, write_atomically
from qanas.deployment.firmware.folder import Firmware
from qanas.deployment.firmware.golden import GoldenVectors
from qanas.deployment.litert import LiteRTModel
from qanas.exporting.export import Deployed, noise_by_layer, ship
from qanas.exporting.report import Export
from qanas.exporting.source import Source

GOLDEN_SAMPLES = 4

BY_ITSELF = "how the network's input comes about is not known here; write its preprocessing down beside the firmware"


def require_place_for(folder: Path, file_format: str) -> None:
    """Refuse a folder that can't be written, before anything is computed.

    Args:
        folder: that is wanted.
        file_format: of the file in it.

    Raises:
        InputError: its own folder doesn't exist, it is a file, or the format is none of firmware's.
    """
    if file_format != "tflite":
        raise InputError(f"--folder: firmware takes --format tflite; write --format {file_format} by --out")
    if not folder.resolve().parent.is_dir():
        raise InputError(f"--folder {folder}: the folder {folder.parent} doesn't exist; make it first")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--folder {folder}: is a file; name a folder, which is made")


def ship_folder(source: Source, deployed: Deployed, folder: Path) -> Export:
    """Write a folder unless the file failed; say what the file is.

    Identifiers of the firmware begin with the folder's name.
    """
    export = ship(source, deployed, folder / "model.tflite")
    if export.failure:
        return export
    export = replace(export, notes=(*export.notes, BY_ITSELF), layer_noise=noise_by_layer(source, deployed))
    chosen = evenly_spread(source.compared_count, GOLDEN_SAMPLES)
    border = source.graph.border
    inputs = {name: values[chosen] for name, values in source.compared.items()}
    firmware = Firmware(
        name=identifier(folder.resolve().name),
        content=deployed.content,
        border=border,
        peak_ram_bytes=int(deployed.costs["peak_ram_bytes"]),
        golden=GoldenVectors.record(LiteRTModel(deployed.content, border=border), inputs),
        preprocessing={},
        warning=BY_ITSELF,
    )
    written = {f"firmware/{name}": text.encode() for name, text in firmware.files().items()}
    for name, content in written.items():
        write_atomically(folder / name, content)
    told = {name: value for name, value in export.as_json().items() if name not in {"path", "failure"}}
    card = {**told, "files": {name: digest(content) for name, content in written.items()}}
    write_atomically(folder / "card.json", json.dumps(card, indent=2, allow_nan=False).encode() + b"\n")
    return export
