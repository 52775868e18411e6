"""Files for the toy SLAB adapter of ``tests/packaging/thirdparty_adapter``."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

_TYPES = {"uint8": "u8", "uint16": "u16", "float32": "f32"}


def write_slab(path: Path, values: npt.NDArray[np.generic], **more: object) -> Path:
    """Write a SLAB file of values of shape (slices, rows, columns)."""
    slices, rows, columns = values.shape
    lines = {"slices": slices, "rows": rows, "columns": columns, "type": _TYPES[values.dtype.name], **more}
    text = "".join(f"{key} {value}\n" for key, value in lines.items())
    path.write_bytes(b"SLAB 1\n" + text.encode() + b"\n" + values.tobytes())
    return path


def slabs(folder: Path) -> list[Path]:
    """Make a small and a large SLAB file."""
    small = np.random.default_rng(0).integers(0, 255, (5, 7, 9), dtype=np.uint8)
    large = np.random.default_rng(1).integers(0, 9999, (40, 640, 1024), dtype=np.uint16)
    return [write_slab(folder / "small.slab", small, step=4, unit="nm"), write_slab(folder / "large.slab", large)]
