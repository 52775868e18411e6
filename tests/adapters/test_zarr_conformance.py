"""The Zarr adapter keeps the adapter contract, on stores written by zarr-python."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from emstore.testing import AdapterConformance, Sample
from emstore_adapters.zarr import ZarrAdapter


def ome(folder: Path, values: npt.NDArray[Any], *, version: str) -> Path:
    path = folder / f"image-{version}.ome.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("0", data=values, chunks=(16, 32, 32), shards=(32, 64, 64) if version == "0.5" else None)
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    levels = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [4.0, 2.0, 2.0]}]}]
    scales = [{"version": version, "name": "cells", "axes": axes, "datasets": levels}]
    group.attrs.update({"ome": {"version": version, "multiscales": scales}} if version == "0.5" else {"multiscales": scales})
    return path


class TestZarr(AdapterConformance):
    adapter = ZarrAdapter

    @staticmethod
    def files(folder: Path) -> list[Path]:
        rng = np.random.default_rng(5)
        zarr.create_array(
            folder / "large.zarr", data=rng.integers(0, 60000, (24, 1024, 768), dtype=np.uint16), chunks=(8, 128, 128)
        )
        zarr.create_array(folder / "wave.zarr", data=(rng.random((9, 7)) + 1j).astype(np.complex64), zarr_format=2)
        small = rng.integers(0, 255, (40, 64, 70), dtype=np.uint8)
        stores = [ome(folder, small, version="0.4"), ome(folder, small, version="0.5")]
        return [*stores, folder / "large.zarr", folder / "wave.zarr"]

    def reference(self, sample: Sample) -> dict[str, npt.NDArray[Any]]:
        path = sample.paths[0]
        if "ome" in path.name:
            return {"cells": zarr.open_group(path, mode="r")["0"][:]}  # type: ignore[index]
        return {path.stem: zarr.open_array(path, mode="r")[:]}  # type: ignore[dict-item]
