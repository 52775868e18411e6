"""Silence of the format libraries' own warnings while one of their calls runs.

pydicom warns about every value outside its type's rules. Instrument files are full of these and none changes a pixel; what
matters is checked here and told in notes or errors. `warnings.catch_warnings` is not made for overlapping threads, so
one counted filter is shared by all threads that are inside.
"""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_MODULES = r"(pydicom|openjpeg|libjpeg|pylibjpeg|rle|jpeg_ls|gdcm|nibabel)\b"


class _Shared:
    """One warnings filter for every thread that is inside a library call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught: warnings.catch_warnings[None] | None = None

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.filterwarnings("ignore", module=_MODULES)
                warnings.filterwarnings("ignore", message="The DICOM readers are highly experimental")  # nibabel, on import
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._caught is not None:
                self._caught.__exit__(None, None, None)
                self._caught = None


_shared = _Shared()


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings that the DICOM libraries raise inside the block; safe in several threads."""
    _shared.enter()
    try:
        yield
    finally:
        _shared.leave()
