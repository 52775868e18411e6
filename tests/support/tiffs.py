"""Volumes of TIFF files, and stacks written one file a slice."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from emstore.source import Source
from emstore.volume import Volume
from emstore_adapters.tiff import TiffAdapter


def open_all(*paths: Path, **kwargs: Any) -> list[Volume]:
    source = Source.of(paths, **kwargs)
    assert all(TiffAdapter().sniff(item) > 0 for item in source.items)
    return list(TiffAdapter().open(source))


def open_one(*paths: Path, **kwargs: Any) -> Volume:
    [volume] = open_all(*paths, **kwargs)
    return volume


def write_slices(folder: Path, values: np.ndarray, **options: Any) -> list[Path]:
    folder.mkdir(exist_ok=True, parents=True)
    paths = [folder / f"slice_{i}.tif" for i in range(len(values))]
    for path, one in zip(paths, values, strict=True):
        tifffile.imwrite(path, one, **options)
    return paths
