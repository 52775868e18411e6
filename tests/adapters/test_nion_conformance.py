"""The Nion adapter keeps the adapter contract."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from emstore.testing import AdapterConformance, Sample
from emstore_adapters.nion import NionAdapter


def properties(scan: int, datum: int, *, sequence: bool = False) -> dict[str, Any]:
    ndim = scan + datum + sequence
    return {
        "collection_dimension_count": scan,
        "datum_dimension_count": datum,
        "is_sequence": sequence,
        "dimensional_calibrations": [{"offset": 1.0, "scale": 0.5, "units": "nm"}] * ndim,
        "metadata": {"instrument": {"high_tension": 60000.0}},
    }


def write_zip(
    path: Path, values: npt.NDArray[Any], about: dict[str, Any], *, packed: bool = False, first: str = "data.npy"
) -> Path:
    buffer = io.BytesIO()
    np.save(buffer, values)
    members = {"data.npy": buffer.getvalue(), "metadata.json": json.dumps(about).encode()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name in sorted(members, key=lambda member: member != first):
            archive.writestr(name, members[name])
    return path


class TestNion(AdapterConformance):
    adapter = NionAdapter
    raw_verbatim = True

    @staticmethod
    def files(folder: Path) -> list[Sample]:
        rng = np.random.default_rng(3)
        small = rng.random((3, 4, 5, 6)).astype(np.float32)
        large = rng.integers(0, 60000, (12, 1024, 1024), dtype=np.uint16)
        with h5py.File(folder / "item.h5", "w") as file:
            file["data"] = small
            file["data"].attrs["properties"] = json.dumps(properties(2, 2))
        return [
            Sample((write_zip(folder / "small.ndata", small, properties(2, 2)),)),
            Sample((write_zip(folder / "export.ndata1", small[0], properties(0, 2, sequence=True), first="metadata.json"),)),
            Sample((write_zip(folder / "large.ndata", large, properties(0, 2, sequence=True)),)),
            Sample(
                (write_zip(folder / "packed.ndata1", np.asfortranarray(small), properties(2, 2), packed=True),),
                random_access=False,
                raw_verbatim=False,
            ),
            Sample((folder / "item.h5",), raw_verbatim=False),
        ]

    def reference(self, sample: Sample) -> dict[str, npt.NDArray[Any]]:
        path = sample.paths[0]
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                return {path.stem: file["data"][()]}
        with zipfile.ZipFile(path) as archive:
            return {path.stem: np.load(io.BytesIO(archive.read("data.npy")))}
