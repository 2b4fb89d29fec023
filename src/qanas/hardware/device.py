"""Devices as data: a versioned file each."""

from __future__ import annotations

import tomllib
from abc import ABC, abstractmethod
from dataclasses import replace
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from qanas.core.errors import InputError, unknown
from qanas.deployment.litert import Kernels, LiteRTModel
from qanas.quantization.scheme import Avoided, Scheme

_STRICT = ConfigDict(extra="forbid", frozen=True)


class LatencySource(BaseModel, ABC):
    """How latency is had; a file says which by its ``method``. Every one passes `qanas.testing.check_latency`."""

    model_config = _STRICT

    @property
    @abstractmethod
    def described(self) -> str:
        """What took the time, for cards."""

    @abstractmethod
    def latency_ms(self, content: bytes) -> float:
        """Return the milliseconds of one inference of a .tflite file."""


class MeasuredHere(LatencySource):
    """On this machine, in LiteRT, on one thread: the median of some invocations.

    Attributes:
        kernels: which of the runtime's kernels.
        repeats: invocations whose median counts.
    """

    method: Literal["measured"]
    kernels: Kernels
    repeats: int = Field(ge=1)

    @property
    def described(self) -> str:
        """The kernels."""
        return f"LiteRT {self.kernels}, 1 thread"

    def latency_ms(self, content: bytes) -> float:
        """Run the file."""
        return LiteRTModel(content, self.kernels).latency_ms(self.repeats)


LatencySources = MeasuredHere
"""The union of all sources, told apart by ``method``."""


class Device(BaseModel):
    """A target device.

    Attributes:
        version: of the file's format.
        name: as recipes call it.
        description: one line for people.
        latency: how latency is had.
        avoid: kernels that its library has, but wrong: `Scheme` says which there are.
    """

    model_config = _STRICT
    version: Literal[1]
    name: str
    description: str
    latency: LatencySources
    avoid: Avoided = "nothing"

    @classmethod
    def named(cls, name: str) -> Device:
        """Return a device that qanas ships.

        Raises:
            InputError: no device has that name.
        """
        known = device_names()
        if name not in known:
            raise InputError(f"device.name: {unknown('device', name, known)}")
        text = resources.files("qanas.hardware.devices").joinpath(f"{name}.toml").read_text("utf-8")
        return cls.model_validate(tomllib.loads(text))

    def scheme(self, asked: Scheme) -> Scheme:
        """Return a scheme for this device: with what it has to avoid, where the scheme itself avoids nothing."""
        return replace(asked, avoid=self.avoid) if asked.avoid == "nothing" else asked

    def latency_ms(self, content: bytes) -> float:
        """Return the latency of one inference of a .tflite file, in milliseconds."""
        return self.latency.latency_ms(content)


def device_names() -> list[str]:
    """Return the names of the devices that qanas ships."""
    files = resources.files("qanas.hardware.devices").iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in files if entry.name.endswith(".toml"))
