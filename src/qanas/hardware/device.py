"""Devices as data: a versioned file each, shipped or a user's own."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator

from qanas.core.errors import InputError, unknown
from qanas.core.measures import Cost, Limit
from qanas.core.validation import first_mistake, message, place_of
from qanas.deployment.boards.board import Core
from qanas.deployment.standalone.footprint import Optimized
from qanas.hardware.latency.analytic import Analytic, Term
from qanas.hardware.latency.base import STRICT, Figure
from qanas.hardware.latency.command import Command
from qanas.hardware.latency.compiler import Compiler
from qanas.hardware.latency.emulator import Emulator
from qanas.hardware.latency.interpreter import Interpreter
from qanas.hardware.latency.measured import MeasuredHere
from qanas.hardware.latency.surrogate import Surrogate
from qanas.hardware.latency.table import Table
from qanas.hardware.latency.transferred import Transferred
from qanas.quantization.program import Program
from qanas.quantization.scheme import Avoided, Scheme

LatencySources = Annotated[
    MeasuredHere | Analytic | Command | Compiler | Emulator | Interpreter | Table | Surrogate | Transferred,
    Field(discriminator="method"),
]
"""The union of all sources, told apart by ``method``."""

VERSION = 2
"""Of the files' format."""

_KILO = 1e3

_TERMS: Mapping[Term, str] = {
    "convolution": "multiply-accumulate of a convolution",
    "depthwise": "of a depthwise convolution",
    "dense": "of a dense layer",
    "recurrent": "of an LSTM",
    "byte": "moved byte",
    "operator": "operator",
}


def _bytes(value: object) -> object:
    """Return a number of bytes with a unit behind it as a number, as limits of recipes are read."""
    if not isinstance(value, str):
        return value
    bound = Limit.parse(Cost("file_bytes"), value).bound
    return int(bound) if bound.is_integer() else bound


Bytes = Annotated[int, BeforeValidator(_bytes)]


class Memory(BaseModel):
    """What there is on a device, in bytes, or with a unit such as "2 MB".

    Attributes:
        flash_bytes: for programs and constants.
        ram_bytes: that is fast: what leaves it makes times of no use.
        runtime_flash_bytes: that the interpreter and the rest of the program take of the flash.
        runtime_ram_bytes: that stack and the rest take of the RAM.
        source: where the numbers are from.
    """

    model_config = STRICT
    flash_bytes: Bytes = Field(gt=0)
    ram_bytes: Bytes = Field(gt=0)
    runtime_flash_bytes: Bytes = Field(default=0, ge=0)
    runtime_ram_bytes: Bytes = Field(default=0, ge=0)
    source: str = Field(min_length=1)

    @field_validator("runtime_flash_bytes", "runtime_ram_bytes")
    @classmethod
    def _leaves_some(cls, taken: int, info: ValidationInfo) -> int:
        key = str(info.field_name).removeprefix("runtime_")
        whole = info.data.get(key)  # none where it is wrong itself
        if whole is not None and taken >= whole:
            raise ValueError(f"nothing is left of memory.{key} = {whole}: give less, of the same unit")
        return taken

    def limits(self) -> tuple[Limit, ...]:
        """Return what a network may cost at most, with what makes its input."""
        return (
            Limit(Cost("file_bytes"), self.flash_bytes - self.runtime_flash_bytes, Cost("front_end_flash_bytes")),
            Limit(Cost("arena_bytes"), self.ram_bytes - self.runtime_ram_bytes, Cost("front_end_ram_bytes")),
        )


class Published(BaseModel):
    """Somebody's measurement of a known network on the device.

    Attributes:
        network: what it is.
        ms: that it took.
        counts: how many of each term it has: multiply-accumulates by kind of kernel, moved bytes, operators.
        source: who measured it.
    """

    model_config = STRICT
    network: str
    ms: float = Field(gt=0, allow_inf_nan=False)
    counts: Mapping[Term, Annotated[float, Field(ge=0, allow_inf_nan=False)]]
    source: str = Field(min_length=1)


FILES = ("path", "networks", "runner")
"""Keys of a device's ``[latency]`` that name a file; relative ones start from the device's file."""


class Device(BaseModel):
    """A target device.

    Attributes:
        version: of the file's format.
        name: as recipes call it.
        description: one line for people.
        part: its processor; empty where that is whatever machine runs the search.
        clock_mhz: that cycles are turned into milliseconds with.
        runtime: what runs the file.
        memory: what a network has to fit into.
        latency: how latency is had.
        core: that the model is compiled for as C without an interpreter: then its flash and RAM there are known.
        avoid: kernels that its library has, but wrong: `Scheme` says which there are.
        published: what its latency can be held against.
        caution: what its numbers are not good for.
    """

    model_config = STRICT
    version: Literal[2]
    name: str
    description: str
    part: str = ""
    clock_mhz: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    runtime: str = ""
    memory: Memory | None = None
    latency: LatencySources
    core: Core | None = None
    avoid: Avoided = "nothing"
    published: tuple[Published, ...] = Field(default=(), strict=False)
    caution: str = ""

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", name):
            raise ValueError("give small letters, digits, '.', '_' and '-', such as 'my-board'")
        return name

    @classmethod
    def named(cls, name: str, folder: Path | None = None, key: str = "device.name") -> Device:
        """Return a device that qanas ships, or that of a file of one's own.

        Args:
            name: of it, or the path of a .toml file.
            folder: that a relative path starts from; the current one by default.
            key: of the recipe that names it, for messages.

        Raises:
            InputError: no device has that name, or the file is none.
        """
        if name.endswith(".toml"):
            own = os.path.expanduser(os.path.expandvars(name))  # noqa: PTH111 - who is nobody stays as it is
            return cls.read((folder or Path()) / own, key)
        known = device_names()
        if name not in known:
            raise InputError(f"{key}: {unknown('device', name, known)}, or a .toml file of your own")
        text = resources.files("qanas.hardware.devices").joinpath(f"{name}.toml").read_text("utf-8")
        return cls.model_validate(tomllib.loads(text))

    @classmethod
    def read(cls, path: Path, key: str = "device.name") -> Device:
        """Return the device of a file.

        Args:
            path: of the file.
            key: of the recipe that names it, for messages.

        Raises:
            InputError: it can't be read; one line that names the file and the field.
        """
        try:
            content = tomllib.loads(path.read_text("utf-8-sig"))  # some editors put a byte order mark in front
            latency = content.get("latency")
            for file in FILES:
                if isinstance(latency, dict) and isinstance(latency.get(file), str) and latency[file]:
                    latency[file] = str(path.parent / latency[file])
            return cls.model_validate(content)
        except OSError as error:
            raise InputError(f"{key}: {path}: {error.strerror}; name a device or a .toml file") from error
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise InputError(f"{key}: {path} is no TOML: {error}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{key}: {path} is no TOML: {error}; save it as UTF-8") from error
        except ValidationError as error:
            mistake = first_mistake(error)
            location, known = place_of(mistake, cls)
            field = ".".join(location)
            raise InputError(f"{key}: {path}: {field}: {message(field, known, mistake)}") from error

    def scheme(self, asked: Scheme) -> Scheme:
        """Return a scheme for this device: with what it has to avoid, where the scheme itself avoids nothing."""
        return replace(asked, avoid=self.avoid) if asked.avoid == "nothing" else asked

    def completed(self, limit: Limit) -> Limit:
        """Return a limit with what has to fit in beside, where it is this device's: resolved recipes name bounds alone.

        Args:
            limit: as a recipe has it.
        """
        own = (each for each in self.limits() if (each.cost, each.bound) == (limit.cost, limit.bound))
        return next(own, limit)

    @property
    def built_for(self) -> tuple[Core, Optimized] | None:
        """The core that the model is compiled for as C, and what the compiler is told; None where it isn't known."""
        if isinstance(self.latency, Emulator):
            return self.latency.core, self.latency.optimized
        return None if self.core is None else (self.core, "-Os")

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What can be had of it: what its source counts and, of cycles at a known clock, milliseconds."""
        own = self.latency.figure
        return (own, "latency_ms") if own == "cycles" and self.clock_mhz else (own,)

    def figure(self, name: Figure, contents: Sequence[bytes]) -> list[float]:
        """Return one of the figures of one inference of each of some .tflite files.

        Raises:
            InputError: it isn't had of this device, or a file can't be run.
        """
        return [found[name] for found in self.taken(contents, (name,))]

    def taken(self, contents: Sequence[bytes], names: Sequence[Figure] = ()) -> list[dict[Figure, float]]:
        """Return the figures of each of some files, by name: those asked for, or all.

        Raises:
            InputError: one isn't had of this device, or a file can't be run.
        """
        lacking = [name for name in names if name not in self.figures]
        if lacking:
            raise InputError(f"device: {self.name} has {', '.join(self.figures)}, not {lacking[0]}")
        values = self.latency.of(contents)
        return [{name: self._converted(name, value) for name in self.figures} for value in values]

    def by_operator(self, name: Figure, program: Program) -> list[float] | None:
        """Return one of the figures of each operator of a program; None where its source can't tell them apart.

        Raises:
            InputError: nothing is known of one.
        """
        found = self.latency.by_operator(program)
        return None if found is None else [self._converted(name, value) for value in found]

    def _converted(self, name: Figure, value: float) -> float:
        if name == self.latency.figure:
            return value
        return self.milliseconds(value)

    def milliseconds(self, cycles: float) -> float:
        """Return what cycles take at the device's clock."""
        assert self.clock_mhz is not None  # noqa: S101 - `figures` has looked
        return cycles / (self.clock_mhz * _KILO)

    def expected(self, point: Published) -> float | None:
        """Return the milliseconds of a published point by the device's own formula; None where it has none."""
        if not isinstance(self.latency, Analytic) or self.clock_mhz is None:
            return None
        return self.milliseconds(self.latency.of_counts(point.counts))

    def lines(self) -> list[str]:
        """Return all that is known of it, for people; each published point beside what the device says of it."""
        told = [f"{self.name}: {self.description}"]
        known = {
            "part": self.part,
            "clock": f"{self.clock_mhz:g} MHz" if self.clock_mhz else "",
            "runtime": self.runtime,
        }
        told += [f"{what}: {value}" for what, value in known.items() if value]
        if self.memory is not None:
            limits = ", ".join(f"{limit.cost.column} <= {limit.bound:,.0f}" for limit in self.limits())
            told.append(f"limits: {limits} ({self.memory.source})")
        if self.avoid != "nothing":
            told.append(f"avoids: {self.avoid}")
        told.append(f"latency: {' and '.join(self.figures)}, {self.latency.described}")
        if self.built_for is not None:
            told.append(f"flash and RAM of the model as C: {' '.join(self.built_for)}")
        if isinstance(self.latency, Analytic):
            numbers = ", ".join(f"{value:g} a {_TERMS[term]}" for term, value in self.latency.cycles.items())
            told.append(f"cycles: {numbers}")
        for point in self.published:
            said = self.expected(point)
            off = "" if said is None else f", here {said:.4g} ms ({said / point.ms - 1:+.0%})"
            told.append(f"published: {point.network} {point.ms:g} ms{off}; {point.source}")
        if self.caution:
            told.append(f"caution: {self.caution}")
        return told

    def limits(self) -> tuple[Limit, ...]:
        """Return what a network may cost at most to fit."""
        return () if self.memory is None else self.memory.limits()


def device_names() -> list[str]:
    """Return the names of the devices that qanas ships."""
    files = resources.files("qanas.hardware.devices").iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in files if entry.name.endswith(".toml"))
