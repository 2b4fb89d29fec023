"""SQLite without waiting for the disk, on import: a search writes its study a thousand times.

Only a power failure would lose what is left to the system; a killed process loses nothing.
"""

from __future__ import annotations

import sqlite3

from sqlalchemy import Engine, event


@event.listens_for(Engine, "connect")
def leave_it_to_the_system(connection: object, _: object) -> None:
    """Say so on every new connection of this process."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")
