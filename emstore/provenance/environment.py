"""What the results may depend on beyond the inputs and settings."""

import platform
import re
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from blake3 import blake3

from emstore.provenance.record import Environment, Software


@cache
def current(device: str = "cpu") -> Environment:
    """Return the environment of this process; holds no host or user name."""
    installed = sorted(f"{name}=={number}" for name, number in _installed().items())
    return Environment(
        python=platform.python_version(),
        platform=f"{sys.platform} {platform.machine()}",
        device=device,
        lock=f"blake3:{blake3(chr(10).join(installed).encode()).hexdigest()}",
    )


def _installed() -> dict[str, str]:
    """Return name and version of every installed distribution, as their folders are named.

    By the PyPA's "Recording installed projects" a folder is ``{name}-{version}.dist-info``. To parse each one's metadata
    instead would take longer than everything else in a record.
    """
    found: dict[str, str] = {}
    for entry in sys.path:
        try:
            folders = [path for path in Path(entry).iterdir() if path.suffix in (".dist-info", ".egg-info")]
        except OSError:
            continue
        for folder in folders:
            name, _, number = folder.stem.partition("-")
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), number)
    return found


def software(*packages: str) -> tuple[Software, ...]:
    """Return name and version of some installed packages; those not installed are left out."""
    found = []
    for name in packages:
        try:
            found.append(Software(name=name, version=version(name)))
        except PackageNotFoundError:
            continue
    return tuple(found)
