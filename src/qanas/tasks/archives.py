"""Pictures that are published as one .tar beside their table: unpacked once a machine, where caches lie."""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
from pathlib import Path

from qanas.core.errors import InputError
from qanas.tasks.folders import visible_files


def archives_in(folder: Path) -> list[Path]:
    """Return the .tar files of a folder, compressed ones too, by name."""
    return [path for path in visible_files(folder) if ".tar" in path.suffixes[-2:] or path.suffix == ".tgz"]


def unpacked(archive: Path) -> Path:
    """Return the folder that an archive is unpacked into: under $XDG_CACHE_HOME, or ~/.cache, in ``qanas/``.

    Raises:
        InputError: it is damaged, or there is no room.
    """
    told = archive.stat()
    name = hashlib.sha256(repr((archive.name, told.st_size, told.st_mtime_ns)).encode()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qanas"
    folder = home / f"{archive.name.partition('.')[0]}-{name}"
    if folder.is_dir():
        return folder
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as partial:
            whole = Path(partial) / "whole"
            with tarfile.open(archive) as file:
                file.extractall(whole, filter="data")
            if not folder.is_dir():  # another process may have been quicker
                whole.rename(folder)
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"{archive}: can't be unpacked into {home}: {error}: unpack it yourself, beside it") from error
    return folder
