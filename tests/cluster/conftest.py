"""A real PostgreSQL and a real Ray of two nodes, both thrown away; tests of what lacks are skipped, and say so."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qanas.planning.sharing import PASSWORD

if TYPE_CHECKING:
    from throwaway_postgres import Postgres

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Return a server, whose password is in the environment."""
    from throwaway_postgres import Postgres, lacking

    reason = lacking() or ("" if importlib.util.find_spec("psycopg") else "no psycopg; pip install 'qanas[postgres]'")
    if reason:
        pytest.skip(reason)
    with Postgres() as server:
        os.environ[PASSWORD] = server.password
        yield server
        del os.environ[PASSWORD]


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """Return a cluster of two nodes of one CPU each on this machine."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("no Ray; pip install 'qanas[ray]'")
    from throwaway_ray import two_nodes

    with two_nodes() as cluster:
        yield cluster
