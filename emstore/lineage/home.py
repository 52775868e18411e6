"""Where emstore keeps what it can always make again: one folder per user, outside every store."""

import os
from pathlib import Path
from typing import Final

INDEX: Final = "lineage.sqlite"


def home() -> Path:
    """Return the folder of the user's caches: ``$EMSTORE_HOME``, else the platform's own place for caches."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("EMSTORE_HOME")
    return Path(chosen).expanduser() if chosen else user_cache_path("emstore", appauthor=False)
