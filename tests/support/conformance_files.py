"""Files for the conformance runs of the built-in adapters, written by other programs than emstore: small ones, and large ones
(about 48 MiB of values) for what is measured."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emstore.testing import Sample

LARGE = (24, 1024, 1024)
"""Shape of a large int16 volume, 48 MiB."""


def ramp(shape: tuple[int, ...], dtype: Any = np.int16) -> npt.NDArray[Any]:
    """Return values that differ from slice to slice and compress well."""
    values = np.arange(shape[-1], dtype=np.int64) % 120 + np.arange(shape[0]).reshape(-1, *(1,) * (len(shape) - 1))
    return np.broadcast_to(values, shape).astype(dtype)


def noise(shape: tuple[int, ...], dtype: Any = np.int16) -> npt.NDArray[Any]:
    """Return values that do not compress."""
    return np.random.default_rng(sum(shape)).integers(0, 200, shape).astype(dtype)


def nifti(folder: Path) -> list[Path | Sample]:
    """Write NIfTI-1 and -2, plain and gzip."""
    import nibabel

    def save(name: str, values: npt.NDArray[Any], kind: Any = nibabel.Nifti1Image) -> Path:
        image = kind(values, np.diag([0.5, 0.75, 2, 1]))
        image.header.set_xyzt_units("mm", "sec")
        nibabel.save(image, folder / name)
        return folder / name

    return [
        save("small.nii", noise((9, 7, 5))),
        save("small4d.nii", noise((9, 7, 5, 3), np.float32), nibabel.Nifti2Image),
        Sample((save("small.nii.gz", noise((9, 7, 5), np.uint8)),), random_access=False),
        save("large.nii", np.asfortranarray(ramp(LARGE[::-1]))),
        Sample((save("large.nii.gz", np.asfortranarray(ramp(LARGE[::-1]))),), random_access=False),
    ]


def mrc(folder: Path) -> list[Path | Sample]:
    """Write MRC maps and stacks, plain, gzip and bzip2."""
    import mrcfile

    def save(name: str, values: npt.NDArray[Any], **how: Any) -> Path:
        with mrcfile.new(folder / name, **how) as file:
            file.set_data(values)
            file.voxel_size = 4.2
        return folder / name

    return [
        save("small.mrc", noise((5, 7, 9))),
        save("one.mrc", noise((7, 9), np.float32)),
        Sample((save("small.mrc.gz", noise((5, 7, 9)), compression="gzip"),), random_access=False),
        Sample((save("small.mrc.bz2", noise((5, 7, 9)), compression="bzip2"),), random_access=False),
        save("large.mrc", ramp(LARGE)),
    ]


def tiff(folder: Path) -> list[Path | Sample]:
    """Write pages, tiles, BigTIFF, OME-TIFF, ImageJ and a folder of slices."""
    import tifffile

    slices = folder / "slices"
    slices.mkdir()
    for k in range(5):
        tifffile.imwrite(slices / f"slice_{k}.tif", noise((40, 50), np.uint8) + k)
    many = folder / "many"
    many.mkdir()
    for k in range(LARGE[0]):
        tifffile.imwrite(many / f"slice_{k}.tif", ramp(LARGE)[k])
    small = noise((4, 40, 50), np.uint16)
    tifffile.imwrite(folder / "pages.tif", small, photometric="minisblack", metadata=None)
    tifffile.imwrite(folder / "tiles.tif", noise((80, 96), np.uint8), tile=(32, 32), compression="zlib")
    tifffile.imwrite(folder / "rgb.tif", noise((30, 40, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(folder / "plain.ome.tif", small, metadata={"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"})
    tifffile.imwrite(folder / "imagej.tif", small, imagej=True, metadata={"axes": "ZYX", "spacing": 3.0, "unit": "um"})
    tifffile.imwrite(folder / "large.tif", ramp(LARGE), bigtiff=True, photometric="minisblack", metadata=None)
    names = ("pages.tif", "tiles.tif", "rgb.tif", "plain.ome.tif", "imagej.tif", "large.tif")
    return [slices, many, *(folder / name for name in names)]


def frames(folder: Path) -> list[Path | Sample]:
    """Write PNG and JPEG images and folders of them."""
    from PIL import Image

    found: list[Path | Sample] = []
    for name, shape, count in (("few", (30, 40), 4), ("many", (1024, 1024), 40)):
        (folder / name).mkdir()
        for k in range(count):
            Image.fromarray(ramp((count, *shape), np.uint8)[k]).save(folder / name / f"frame_{k}.png")
        found.append(folder / name)
    (folder / "noisy").mkdir()  # large files, not only large images
    for k in range(16):
        Image.fromarray(noise((512, 512), np.uint8) + k).save(folder / "noisy" / f"frame_{k}.png", compress_level=1)
    found.append(folder / "noisy")
    Image.fromarray(noise((30, 40, 3), np.uint8)).save(folder / "one.png")
    Image.fromarray(noise((30, 40), np.uint8)).save(folder / "one.jpg")
    return [*found, folder / "one.png", folder / "one.jpg"]


def video(folder: Path) -> list[Path | Sample]:
    """Write MP4 films."""
    import av

    def save(name: str, frames: npt.NDArray[np.uint8]) -> Sample:
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
            for values in frames:
                for packet in stream.encode(av.VideoFrame.from_ndarray(values, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        return Sample((folder / name,), random_access=False)

    return [save("small.mp4", noise((12, 48, 64, 3), np.uint8)), save("large.mp4", ramp((64, 480, 640, 3), np.uint8))]


def hdf5(folder: Path) -> list[Path | Sample]:
    """Write plain HDF5: contiguous, chunked and packed, several data sets."""
    import h5py

    with h5py.File(folder / "small.h5", "w") as file:
        file.create_dataset("images", data=noise((5, 7, 9), np.uint16), chunks=(1, 7, 9), compression="gzip")
        file.create_dataset("more/values", data=noise((6, 8), np.float32))
    with h5py.File(folder / "plain.h5", "w") as file:
        file.create_dataset("volume", data=ramp(LARGE))
    with h5py.File(folder / "packed.h5", "w") as file:
        file.create_dataset("volume", data=ramp(LARGE), chunks=(4, 256, 256), compression="lzf", shuffle=True)
    return [folder / "small.h5", folder / "plain.h5", folder / "packed.h5"]


def nion(folder: Path) -> list[Path | Sample]:
    """Write Nion Swift data items as its handlers lay them out."""
    import h5py

    def properties(shape: tuple[int, ...]) -> dict[str, Any]:
        calibrations = [{"offset": 0.0, "scale": 0.25, "units": "nm"} for _ in shape]
        return {
            "is_sequence": len(shape) == 3,
            "collection_dimension_count": 0,
            "datum_dimension_count": 2,
            "dimensional_calibrations": calibrations,
            "intensity_calibration": {"offset": 0.0, "scale": 1.0, "units": "counts"},
            "data_shape": list(shape),
        }

    def save(name: str, values: npt.NDArray[Any]) -> Path:
        with zipfile.ZipFile(folder / name, "w") as archive:
            with archive.open("data.npy", "w", force_zip64=True) as member:
                np.save(member, values, allow_pickle=False)
            archive.writestr("metadata.json", json.dumps(properties(values.shape)))
        return folder / name

    with h5py.File(folder / "item.h5", "w") as file:
        data = file.create_dataset("data", data=noise((40, 50), np.float32))
        data.attrs["properties"] = json.dumps(properties((40, 50)))
    return [save("small.ndata1", noise((40, 50), np.float32)), folder / "item.h5", save("large.ndata1", ramp(LARGE))]


def zarr(folder: Path) -> list[Path | Sample]:
    """Write Zarr arrays of both versions and an OME-Zarr image."""
    import zarr as library

    for version in (2, 3):
        array = library.create_array(
            folder / f"plain{version}.zarr", shape=(5, 40, 50), chunks=(2, 20, 20), dtype="u2", zarr_format=version
        )
        array[:] = noise((5, 40, 50), np.uint16)
    large = library.create_array(folder / "large.zarr", shape=LARGE, chunks=(8, 256, 256), dtype="i2", compressors=None)
    large[:] = ramp(LARGE)
    group = library.create_group(folder / "ome.zarr", zarr_format=3)
    array = group.create_array("s0", shape=(5, 40, 50), chunks=(5, 20, 20), dtype="u1", dimension_names=("z", "y", "x"))
    array[:] = noise((5, 40, 50), np.uint8)
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [10.0, 4.0, 4.0]}]
    multiscales = [{"name": "image", "axes": axes, "datasets": [{"path": "s0", "coordinateTransformations": scale}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    return [folder / f"{name}.zarr" for name in ("plain2", "plain3", "ome", "large")]


def em(folder: Path) -> list[Path | Sample]:
    """Write files of formats that HyperSpy's reader can also write."""
    from rsciio import blockfile, hspy

    def signal(values: npt.NDArray[Any]) -> dict[str, Any]:
        names = ("b", "a", "y", "x")[-values.ndim :]
        same = {"scale": 0.5, "offset": 0.0, "_type": "UniformDataAxis"}
        axes = []
        for k, (name, size) in enumerate(zip(names, values.shape, strict=True)):
            scan = k < values.ndim - 2
            axes.append({"name": name, "size": size, "navigate": scan, "units": "nm" if scan else "cm", **same})
        metadata = {"General": {"title": "conformance"}, "Signal": {"signal_type": ""}}
        rest: dict[str, Any] = {"original_metadata": {}, "tmp_parameters": {}, "learning_results": {}, "models": {}}
        return {"data": values, "axes": axes, "metadata": metadata, "attributes": {"_lazy": False}, "package_info": {}, **rest}

    found: list[Path | Sample] = []
    for name, shape in (("small", (3, 2, 16, 16)), ("large", (32, 32, 192, 192))):
        blockfile.file_writer(str(folder / f"{name}.blo"), signal(noise(shape, np.uint8)), show_progressbar=False)
        found.append(folder / f"{name}.blo")
    hspy.file_writer(str(folder / "small.hspy"), signal(noise((20, 30), np.float32)), show_progressbar=False)
    return [*found, folder / "small.hspy"]


def dicom(folder: Path) -> list[Path | Sample]:
    """Write a CT series of single slices and a multi-frame capture."""
    series = folder / "series"
    series.mkdir()
    uid = "1.2.826.0.1.3680043.8.498.1"
    for k in range(6):
        _dicom(series / f"{9 - k}.dcm", noise((40, 50)) + k, f"{uid}.{k + 1}", position=[0.0, 0.0, 2.5 * k], series=uid)
    _dicom(folder / "few.dcm", noise((3, 40, 50), np.uint8), f"{uid}.30")
    _dicom(folder / "large.dcm", ramp((48, 1024, 1024), np.uint8), f"{uid}.40")
    return [series, folder / "few.dcm", folder / "large.dcm"]


def _dicom(
    path: Path, values: npt.NDArray[Any], uid: str, position: list[float] | None = None, series: str | None = None
) -> None:
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MultiFrameGrayscaleByteSecondaryCaptureImageStorage

    meta = FileMetaDataset()
    kind = CTImageStorage if position else MultiFrameGrayscaleByteSecondaryCaptureImageStorage
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = kind, uid, ExplicitVRLittleEndian
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = kind, uid, "CT" if position else "OT"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.PatientID = "1.2.3", series or f"{uid}.1", "phantom"
    data.Rows, data.Columns = values.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = values.dtype.itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(values.dtype.kind == "i")
    if position:
        data.PixelSpacing, data.ImageOrientationPatient, data.ImagePositionPatient = [0.5, 0.5], [1, 0, 0, 0, 1, 0], position
        data.InstanceNumber, data.FrameOfReferenceUID, data.SliceThickness = 1, "1.2.3.4", 2.5
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
    else:
        data.NumberOfFrames, data.ConversionType = values.shape[0], "SYN"
    data.PixelData = values.tobytes()
    pydicom.dcmwrite(path, data, enforce_file_format=True)
