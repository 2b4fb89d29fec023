"""Files of figures that were taken: of which device, how, and when."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ValidationError

from qanas.core.errors import InputError
from qanas.core.run_folder import write_atomically
from qanas.hardware.latency.base import STRICT, Figure, LatencySource


class FiguresFile(BaseModel):
    """What every such file holds.

    Attributes:
        version: of its format.
        device: whose figures they are.
        figure: what was counted.
        protocol: how.
        date: when.
    """

    key: ClassVar[str]
    """Of a device's file that names it, for messages."""

    held: ClassVar[str]
    """What it should hold, for messages."""

    made_by: ClassVar[str]
    """The command that makes one."""

    model_config = STRICT
    version: Literal[1] = 1
    device: str
    figure: Figure
    protocol: str
    date: str

    @property
    def digest(self) -> str:
        """Changes with what was taken, not with the day."""
        return hashlib.sha256(self.model_dump_json(exclude={"date"}).encode()).hexdigest()[:12]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return a file's content.

        Raises:
            InputError: it can't be read.
        """
        try:
            status = path.stat()
            found: Self = _parsed(cls, path, (status.st_mtime_ns, status.st_size, status.st_ino))
        except OSError as error:
            raise InputError(f"{cls.key}: {path}: {error.strerror}; {cls.made_by} makes one") from error
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "it"
            raise InputError(f"{cls.key}: {path} is no {cls.held}: {field}: {first['msg']}") from error
        return found

    @classmethod
    def taken(cls, device: str, source: LatencySource, **content: Any) -> Self:  # noqa: ANN401 - a file's own fields
        """Return a file of what was taken today."""
        today = dt.datetime.now(tz=dt.UTC).date().isoformat()
        return cls(device=device, figure=source.figure, protocol=source.described, date=today, **content)

    def write(self, path: Path) -> None:
        """Write it."""
        write_atomically(path, (self.model_dump_json(indent=1) + "\n").encode())


F = TypeVar("F", bound=FiguresFile)


@functools.lru_cache(maxsize=16)
def _parsed(kind: type[F], path: Path, status: tuple[int, ...]) -> F:
    """Return a file's content, parsed once for all candidates of a search.

    Args:
        kind: of file.
        path: of it.
        status: when it was changed, its size and its place: another file is parsed anew.
    """
    del status
    return kind.model_validate_json(path.read_bytes())
