"""What shipped models take, in lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qanas.core.card import Latency
from qanas.core.run_folder import RunFolder
from qanas.hardware.device import Device
from qanas.shipping import latency

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_counts_have_all_digits_and_bytes_say_of_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Latency(ms=0.01409, cycles=1959774.0, flash_bytes=455787.0, ram_bytes=836.0, kernels="by formula")
    monkeypatch.setattr(latency, "take", lambda *_: [taken])
    _, line = latency.told_latency(Device.named("nrf5340"), RunFolder(tmp_path), ["seed"])
    assert line == "  seed 0.0141 ms, 1,959,774 cycles, 455,787 bytes of flash, 836 bytes of RAM"
