"""Devices as data: a versioned file each."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from qanas.core.errors import InputError
from qanas.core.suggestions import unknown
from qanas.deployment.litert import Kernels, LiteRTModel

_STRICT = ConfigDict(extra="forbid", frozen=True)


class LatencySource(BaseModel):
    """How latency is had.

    Attributes:
        method: ``measured``: on this machine, in LiteRT.
        kernels: which of the runtime's kernels.
        repeats: invocations whose median counts.
    """

    model_config = _STRICT
    method: Literal["measured"]
    kernels: Kernels
    repeats: int = Field(ge=1)


class Device(BaseModel):
    """A target device.

    Attributes:
        version: of the file's format.
        name: as recipes call it.
        description: one line for people.
        latency: how latency is had.
    """

    model_config = _STRICT
    version: Literal[1]
    name: str
    description: str
    latency: LatencySource

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

    def latency_ms(self, content: bytes) -> float:
        """Return the latency of one inference of a .tflite file, in milliseconds."""
        return LiteRTModel(content, self.latency.kernels).latency_ms(self.latency.repeats)


def device_names() -> list[str]:
    """Return the names of the devices that qanas ships."""
    files = resources.files("qanas.hardware.devices").iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in files if entry.name.endswith(".toml"))
