"""Remaining useful life of turbofan engines (NASA C-MAPSS)."""

from qanas.tasks.turbofan.task import Turbofan

__all__ = ["Turbofan"]
