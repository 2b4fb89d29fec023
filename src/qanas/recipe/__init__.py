"""Recipes: TOML to objects. The only registry of names."""

from __future__ import annotations

from qanas.recipe.load import load_plan
from qanas.recipe.registry import SPACES, STRATEGIES, TASKS

__all__ = ["SPACES", "STRATEGIES", "TASKS", "load_plan"]
