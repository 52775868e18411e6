"""The HDF5 adapter keeps the adapter contract, on files written by h5py and on real instrument files."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from emstore.testing import AdapterConformance, Sample
from emstore_adapters.hdf5 import Hdf5Adapter

RNG = np.random.default_rng(7)


def plain(folder: Path) -> Path:
    with h5py.File(folder / "plain.h5", "w") as file:
        file["stack"] = RNG.integers(0, 255, (6, 20, 30), dtype=np.uint8)
        file["volumes/labels/cells"] = RNG.integers(0, 9, (6, 20, 30), dtype=np.uint64)
        file["flags"] = RNG.integers(0, 2, (12, 14)).astype(bool)
        file["wave"] = (RNG.random((8, 9)) + 1j).astype(np.complex64)
        file["big"] = RNG.integers(0, 9999, (12, 14)).astype(">i2")
        file["notes"] = "written by hand"
    return folder / "plain.h5"


def large(folder: Path) -> Path:
    with h5py.File(folder / "large.h5", "w") as file:
        values = RNG.integers(0, 60000, (40, 512, 1024), dtype=np.uint16)
        file.create_dataset("packed", data=values, chunks=(8, 128, 128), compression="gzip", compression_opts=1)
        file["contiguous"] = values[:20]
    return folder / "large.h5"


class TestWritten(AdapterConformance):
    adapter = Hdf5Adapter
    raw_verbatim = False

    @staticmethod
    def files(folder: Path) -> list[Path]:
        return [plain(folder), large(folder)]

    def reference(self, sample: Sample) -> dict[str, npt.NDArray[Any]]:
        with h5py.File(sample.paths[0]) as file:
            names: list[str] = []
            file.visit(names.append)
            return {name: file[name][()] for name in names if isinstance(file[name], h5py.Dataset) and file[name].shape}


class TestReal(AdapterConformance):
    adapter = Hdf5Adapter
    raw_verbatim = False

    @pytest.fixture(scope="class")
    @classmethod
    def files(cls, data_dir: Path) -> list[Path]:
        found = [*sorted((data_dir / "stem" / "nionswift_dmio").glob("*.dm5")), data_dir / "stem" / "py4DSTEM_size2x3x4x5.h5"]
        found = [path for path in (*found, data_dir / "fibsem" / "train-image.h5") if path.exists()]
        if not found:
            pytest.skip(f"no HDF5 instrument file in {data_dir}")
        return found

    def reference(self, sample: Sample) -> dict[str, npt.NDArray[Any]]:
        where = {".dm5": "ImageList/[0]/ImageData/Data"}.get(sample.paths[0].suffix)
        name = where or ("stack" if "train" in sample.name else "datacube_root/datacube/data")
        with h5py.File(sample.paths[0]) as file:
            return {name: file[name][()]}
