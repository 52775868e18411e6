"""Every built-in adapter keeps the contract: on files written by other programs, and on files from real instruments."""

from pathlib import Path
from typing import Any

import pytest

import conformance_files as made
from emstore.testing import AdapterConformance, Sample
from emstore_adapters.dicom import DicomAdapter
from emstore_adapters.em import EmAdapter
from emstore_adapters.hdf5 import Hdf5Adapter
from emstore_adapters.mrc import MrcAdapter
from emstore_adapters.nifti import NiftiAdapter
from emstore_adapters.nion import NionAdapter


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


class TestRealHdf5(OnRealFiles):
    adapter = Hdf5Adapter
    raw_verbatim = False
    names = ("fibsem/train-image.h5", "stem/nionswift_dmio/ref_T_0_1.dm5", "stem/py4DSTEM_size2x3x4x5.h5")


class TestRealEm(OnRealFiles):
    adapter = EmAdapter
    raw_verbatim = False
    names = (
        "stem/example_Se_implanted_MoS2.dm3",
        "stem/test_STEM_image.dm3",
        "stem/test-14.dm4",
        "stem/EELS_SI.dm4",
        "stem/multi_signal.dm3",
        "stem/tia/64x64x5_TEM_preview.emi",
        "stem/tia/16x16x5_STEM_BF_DF_preview_1.ser",
        "stem/fei_example_tem_stack.emd",
        "stem/EDS-STO.emd",
        "stem/example_signal.emd",
        "stem/Si100_4D.emd",
        "stem/test1.blo",
        "stem/tvips/test_tvips_2233_000.tvips",
        "stem/example2_v3.1.hspy",
        "stem/stem_abf_data_imagestack.hspy",
        "stem/signal1d_10x10-ZipStore.zspy",
        "stem/signal1d_10x10-NestedDirectoryStore.zspy",
    )


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


def test_every_built_in_adapter_is_tested() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    built_in = set(project["project"]["entry-points"]["emstore.adapters"])
    generated = {case.adapter.name for case in AdapterConformance.__subclasses__() if hasattr(case, "adapter")}
    assert generated == built_in
