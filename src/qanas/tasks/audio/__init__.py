"""Recordings and their classes."""

from qanas.tasks.audio.task import Audio

__all__ = ["Audio"]
