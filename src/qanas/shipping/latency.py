"""The latency of what ships, all files in turns: one after the other they would be measured at different speeds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from qanas.core.card import Card, Latency
from qanas.core.errors import InputError
from qanas.core.measures import COST_UNITS
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.hardware.device import Device
from qanas.hardware.footprint import footprints_described, taken_footprint
from qanas.planning.progress import Progress
from qanas.shipping.models import Shipment

logger = logging.getLogger("qanas")

_KEPT_IN = {"flash_bytes": "flash", "ram_bytes": "RAM"}


def with_latency(
    devices: Sequence[Device], folder: RunFolder, shipments: Sequence[Shipment], progress: Progress
) -> list[Shipment]:
    """Return shipments whose cards have the devices' latency; where it can't be had, who watches is told why.

    Where a card lacks it, or has it by another protocol, all are taken anew, together: figures of different hours
    can't be compared. A card is a whole file at every moment; killed in between, the rest is taken next time.

    Args:
        devices: the recipe's own first.
        folder: of the run.
        shipments: of the run, baselines included.
        progress: who watches.
    """
    cards = {shipment.finalist.identity: shipment.card for shipment in shipments if shipment.card is not None}
    for device in devices:
        try:
            if all(_has_it(card, device) for card in cards.values()):
                continue
            taken = take(device, folder, list(cards))
        except InputError as error:
            logger.warning("latency: %s: %s", device.name, error)
            progress.message(f"latency: {device.name}: {error}")
            if device is devices[0]:  # the first one on a card is the recipe's own
                break
            continue
        for (identity, card), latency in zip(cards.items(), taken, strict=True):
            known = {**card.latency_ms, device.name: latency}
            told = {each.name: known[each.name] for each in devices if each.name in known}
            cards[identity] = card.model_copy(update={"latency_ms": told})
            write_atomically(folder.model(identity) / "card.json", cards[identity].to_json().encode())
    return [replace(s, card=cards.get(s.finalist.identity)) if s.card is not None else s for s in shipments]


def _has_it(card: Card, device: Device) -> bool:
    found = card.latency_ms.get(device.name)
    return found is not None and found.kernels == _told(device)


def _told(device: Device) -> str:
    """Return how a device's figures are had."""
    return "; ".join(filter(None, [device.latency.described, footprints_described(device)]))


def take(device: Device, folder: RunFolder, identities: Sequence[str]) -> list[Latency]:
    """Return what one inference of each of some shipped models takes.

    Raises:
        InputError: it can't be had.
    """
    contents = [(folder.model(identity) / "model.tflite").read_bytes() for identity in identities]
    told = _told(device)
    return [
        Latency(
            kernels=told,
            **{COST_UNITS[name]: value for name, value in figures.items()},
            **taken_footprint(device, content),
        )
        for content, figures in zip(contents, device.taken(contents), strict=True)
    ]


def told_latency(device: Device, folder: RunFolder, identities: Sequence[str]) -> list[str]:
    """Return lines on what some shipped models take now, or why that can't be had."""
    try:
        taken = take(device, folder, identities)
    except InputError as error:
        return [f"latency: {error}"]
    lines = [f"latency on {device.name}, {_told(device)}:"]
    for identity, latency in zip(identities, taken, strict=True):
        lines.append(f"  {identity} {', '.join(_figure(name, value) for name, value in latency.figures().items())}")
    return lines


def _figure(name: str, value: float) -> str:
    """Write what a model takes: milliseconds with three digits, counts with all; bytes are of flash or of RAM."""
    unit = COST_UNITS[name]
    told = f"{value:.3g}" if unit == "ms" else f"{value:,.0f}"
    return f"{told} bytes of {_KEPT_IN[name]}" if name in _KEPT_IN else f"{told} {unit}"
