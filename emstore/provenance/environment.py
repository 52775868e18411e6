"""What the results may depend on beyond the inputs and settings."""

import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, version

from blake3 import blake3

from emstore.provenance.record import Environment, Software


@cache
def current(device: str = "cpu") -> Environment:
    """Return the environment of this process; holds no host or user name."""
    installed = sorted({f"{d.name.lower()}=={d.version}" for d in distributions() if d.name})
    return Environment(
        python=platform.python_version(),
        platform=f"{sys.platform} {platform.machine()}",
        device=device,
        lock=f"blake3:{blake3(chr(10).join(installed).encode()).hexdigest()}",
    )


def software(*packages: str) -> tuple[Software, ...]:
    """Return name and version of some installed packages; those not installed are left out."""
    found = []
    for name in packages:
        try:
            found.append(Software(name=name, version=version(name)))
        except PackageNotFoundError:
            continue
    return tuple(found)
