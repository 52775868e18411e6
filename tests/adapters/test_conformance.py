"""Every built-in adapter keeps the contract: on files written by other programs, and on files from real instruments."""

from pathlib import Path
from typing import Any

import pytest

import conformance_files as made
from emstore.testing import AdapterConformance, Sample
from emstore_adapters.dicom import DicomAdapter
from emstore_adapters.em import EmAdapter
from emstore_adapters.frames import FramesAdapter
from emstore_adapters.hdf5 import Hdf5Adapter
from emstore_adapters.mrc import MrcAdapter
from emstore_adapters.nifti import NiftiAdapter
from emstore_adapters.nion import NionAdapter
from emstore_adapters.tiff import TiffAdapter
from emstore_adapters.video import VideoAdapter
from emstore_adapters.zarr import ZarrAdapter


class TestNifti(AdapterConformance):
    adapter = NiftiAdapter
    files = made.nifti


class TestMrc(AdapterConformance):
    adapter = MrcAdapter
    files = made.mrc


class TestHdf5(AdapterConformance):
    adapter = Hdf5Adapter
    files = made.hdf5
    raw_verbatim = False  # the header is spread over the whole file


class TestNion(AdapterConformance):
    adapter = NionAdapter
    files = made.nion
    raw_verbatim = False  # packed in a zip, or an attribute in HDF5


class TestEm(AdapterConformance):
    adapter = EmAdapter
    files = made.em
    raw_verbatim = False


class TestDicom(AdapterConformance):
    adapter = DicomAdapter
    files = made.dicom


class TestTiff(AdapterConformance):
    adapter = TiffAdapter
    raw_verbatim = False  # directories lie all over the file
    files = made.tiff


class TestFrames(AdapterConformance):
    adapter = FramesAdapter
    files = made.frames
    raw_verbatim = False  # one header of many files


class TestVideo(AdapterConformance):
    adapter = VideoAdapter
    files = made.video
    test_slices_read_what_they_need = None  # a film can only be read from its last key frame on
    raw_verbatim = False


class TestZarr(AdapterConformance):
    adapter = ZarrAdapter
    files = made.zarr


class OnRealFiles(AdapterConformance):
    """Files of real instruments; skipped by name where they are not there. Fewer random examples, since there are many."""

    examples = 5
    # Real files are small; what can only be told on large ones is measured on those above.
    test_open_reads_headers_only = None
    test_slices_hold_little = None
    test_slices_read_what_they_need = None
    names: tuple[Any, ...] = ()

    @pytest.fixture(scope="class")
    @classmethod
    def files(cls, data_dir: Path) -> list[Sample]:
        found = []
        for name in cls.names:
            parts = (name,) if isinstance(name, str) else name
            paths = tuple(data_dir / part for part in parts)
            missing = [part for part, path in zip(parts, paths, strict=True) if not path.exists()]
            if missing:
                pytest.skip(f"instrument file {missing[0]} is not there")
            found.append(Sample(paths, random_access=not parts[0].endswith((".gz", ".mp4"))))
        return found


class TestRealNifti(OnRealFiles):
    adapter = NiftiAdapter
    names = (
        "mri_nifti/anatomical.nii",
        "mri_nifti/functional.nii",
        "mri_nifti/example4d.nii.gz",
        "mri_nifti/example_nifti2.nii.gz",
        "mri_nifti/27_asl_2d_tra.nii",
        "mri_nifti/EPI_PE=AP_3.nii",
    )


class TestRealMrc(OnRealFiles):
    adapter = MrcAdapter
    names = ("stem/mrc_de/HAADFscan.mrc", "stem/mrc_de/Custom_movie.mrc", "stem/mrc_de/20241021_00405_movie.mrc")


class TestRealDicom(OnRealFiles):
    adapter = DicomAdapter
    names = (
        "ct/siemens_gantry_tilt",
        "ct/ct_ts_matrix/CTImage.dcm_RLELosslessTransferSyntax_1.2.840.10008.1.2.5.dcm",
        "ct/ct_ts_matrix/CTImage.dcm_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm",
        "mr_dicom/enhanced/IM-0001-0001-0001.dcm",
        "mr_dicom/emri_small/emri_small_jpeg_ls_lossless.dcm",
        "mr_dicom/siemens_mosaic/epi_pe_ap-00001.dcm",
        "xa_cine/0002.DCM",
        "xa_cine/wg04_xa/XA1_J2KR",
        "xa_cine/us_cine/US-PAL-8-10x-echo.dcm",
    )


class TestRealTiff(OnRealFiles):
    adapter = TiffAdapter
    raw_verbatim = False  # directories lie all over the file
    names = (
        "fibsem/rife3dtom_input",
        "fibsem/TVIPS_bin4.zip",
        "fibsem/test_image.tif",
        "fibsem/test_loading_image_saved_with_DM_stack.tif",
        "fibsem/test_loading_image_saved_with_imageJ_stack.tif",
        "fibsem/test_rgba16.zip",
    )


class TestRealVideo(OnRealFiles):
    adapter = VideoAdapter
    raw_verbatim = False
    names = ("video/bikes.mp4",)


def test_every_built_in_adapter_is_tested() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    built_in = set(project["project"]["entry-points"]["emstore.adapters"])
    generated = {case.adapter.name for case in AdapterConformance.__subclasses__() if hasattr(case, "adapter")}
    assert generated == built_in
