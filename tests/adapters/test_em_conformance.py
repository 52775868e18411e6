"""The electron microscopy adapter keeps the adapter contract, on real files and on large made ones."""

import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from emstore.testing import AdapterConformance
from emstore_adapters.em import EmAdapter

SMALL = [
    "EELS_SI.dm4",
    "test-23.dm4",
    "test-14.dm4",
    "test_fft_packed_complex8.dm4",
    "fei_example_dpc_titles.emd",
    "fei_example_complex_fft.emd",
    "Si100_4D.emd",
    "example_signal.emd",
    "tia/16x16x5_STEM_BF_DF_preview.emi",
    "tia/more_ser_then_emi_metadata.emi",
    "tia/64x64x5_TEM_preview_1.ser",
    "tvips/test_tvips_2345_split_000.tvips",
    "test1.blo",
    "none_metadata.hdf5",
    "example2_v3.1.hspy",
    "signal1d_10x10-ZipStore.zspy",
    "signal1d_10x10-NestedDirectoryStore.zspy",
]


def axes(shape: tuple[int, ...], navigated: int) -> list[dict[str, Any]]:
    return [
        {"size": n, "index_in_array": i, "name": "", "scale": 1.0, "offset": 0.0, "units": "nm", "navigate": i < navigated}
        for i, n in enumerate(shape)
    ]


def signal(values: np.ndarray[Any, Any], navigated: int) -> dict[str, Any]:
    return {
        "data": values,
        "axes": axes(values.shape, navigated),
        "metadata": {"General": {"title": "made"}, "Signal": {"signal_type": ""}},
        "original_metadata": {},
        "attributes": {"_lazy": False},
    }


class TestEmAdapter(AdapterConformance):
    adapter = EmAdapter
    # Headers surround the pixels, or are spread over an HDF5 file.
    raw_verbatim = False
    examples: ClassVar[int] = 6

    @pytest.fixture(scope="class")
    @classmethod
    def files(cls, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
        pytest.importorskip("rsciio")
        from rsciio.emd import file_writer as write_emd
        from rsciio.tvips import file_writer as write_tvips

        folder = tmp_path_factory.mktemp("large")
        random = np.random.default_rng(5)
        frames = random.integers(0, 60000, (40, 1024, 1024), np.uint16)
        write_tvips(str(folder / "large_000.tvips"), signal(frames, 1), show_progressbar=False)
        write_emd(str(folder / "large.emd"), signal(frames[:, :512].astype(np.float32), 1), chunks=(1, 512, 1024))
        archive = data_dir / "stem" / "velox_emd_version11.zip"
        if archive.exists():
            with zipfile.ZipFile(archive) as packed:
                packed.extract("Test SI 16x16 215 kx.emd", folder)
        real = [data_dir / "stem" / name for name in SMALL]
        return [path for path in (*real, *sorted(folder.iterdir())) if path.exists()]
