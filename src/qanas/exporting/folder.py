"""An export as a folder, as a search ships its models: the file, what is known of it, and its firmware."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from qanas.core.c_text import identifier
from qanas.core.errors import InputError
from qanas.core.even_spread import evenly_spread
from qanas.core.run_folder import digest, write_atomically
from qanas.deployment.firmware.folder import Firmware
from qanas.deployment.firmware.golden import GOLDEN_SAMPLES, GoldenVectors
from qanas.deployment.litert import LiteRTModel
from qanas.exporting.export import Deployed, noise_by_layer, require_folder_of, ship
from qanas.exporting.report import Export
from qanas.exporting.source import Source

BY_ITSELF = "how the network's input comes about is not known here; write its preprocessing down beside the firmware"


@dataclass(frozen=True)
class Place:
    """Where an export goes.

    Attributes:
        path: of the file, or of the folder.
        is_folder: which of the two.
    """

    path: Path
    is_folder: bool

    @classmethod
    def chosen(
        cls, out: Path | None, folder: Path | None, file_format: str, read: Mapping[str, Path | None] | None = None
    ) -> Place:
        """Return the one place that is given, before anything is computed.

        Args:
            out: a file.
            folder: a folder, which is made.
            file_format: of the file, there or in it.
            read: files that are read, by the option that names them.

        Raises:
            InputError: not one of them is given, it can't be written, it is a file that is read, its name is that of
                another format, or the format is none of firmware's.
        """
        if (out is None) == (folder is None):
            raise InputError("export: give --out FILE, or --folder DIR, which has card and firmware as well")
        if out is not None:
            require_folder_of(out)
            for option, path in (read or {}).items():
                if path is not None and out.exists() and path.exists() and out.samefile(path):
                    raise InputError(f"--out {out}: would replace what {option} reads; name another file")
            _require_ending(out, file_format)
            return cls(out, is_folder=False)
        place = Path(folder or "")
        if file_format != "tflite":
            raise InputError(f"--folder: firmware takes --format tflite; write --format {file_format} by --out")
        if not place.resolve().parent.is_dir():
            raise InputError(f"--folder {place}: the folder {place.parent} doesn't exist; make it first")
        if place.exists() and not place.is_dir():
            raise InputError(f"--folder {place}: is a file; name a folder, which is made")
        return cls(place, is_folder=True)

    def ship(self, source: Source, deployed: Deployed) -> Export:
        """Write what belongs there, unless the file failed; say what it is."""
        return ship_folder(source, deployed, self.path) if self.is_folder else ship(source, deployed, self.path)


def _require_ending(out: Path, file_format: str) -> None:
    """Refuse a name that tells another format than the file has."""
    wanted = ".onnx" if file_format == "onnx" else ".tflite"
    if out.suffix.lower() in {".onnx", ".tflite"} - {wanted}:
        other = "onnx" if wanted == ".tflite" else "tflite"
        raise InputError(
            f"--out {out}: --format is {file_format}; name it {out.with_suffix(wanted).name}, or give --format {other}"
        )


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
    for name in _left_by_earlier(folder) - written.keys():  # it is of another model
        (folder / name).unlink(missing_ok=True)
    for name, content in written.items():
        write_atomically(folder / name, content)
    told = {name: value for name, value in export.as_json().items() if name not in {"path", "failure"}}
    card = {**told, "files": {name: digest(content) for name, content in written.items()}}
    write_atomically(folder / "card.json", json.dumps(card, indent=2, allow_nan=False).encode() + b"\n")
    return export


def _left_by_earlier(folder: Path) -> set[str]:
    """Return the files of the firmware that an earlier export into a folder wrote, by its card."""
    try:
        files = json.loads((folder / "card.json").read_text("utf-8"))["files"]
        names = {str(name) for name in files}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return set()
    return {name for name in names if name.startswith("firmware/") and ".." not in Path(name).parts}
