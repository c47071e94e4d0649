"""The state as commands that only look at it open it: nothing is made, nothing is migrated."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from timonel.settings import Settings
    from timonel.stores.database import Database

__all__ = ["open_database"]

_SQLITE = "sqlite:///"


def open_database(options: "Settings") -> "Database | None":
    """The database for reading, or None while there is none yet.

    Raises:
        StoreError: there is one that cannot be read.
    """
    from timonel.stores.database import Database

    url = options.database_url
    if url.startswith(_SQLITE) and not Path(url.removeprefix(_SQLITE)).expanduser().exists():
        return None
    return Database.open(url, read_only=True)
