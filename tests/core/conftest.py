"""Fixtures for modules that tests write and import."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def modules_as_they_were() -> Iterator[None]:
    """What is imported meanwhile is forgotten afterwards, and so is where it was found."""
    path, modules = list(sys.path), dict(sys.modules)
    yield
    sys.path[:] = path
    for name in sys.modules.keys() - modules.keys():
        del sys.modules[name]
    sys.modules.update(modules)
