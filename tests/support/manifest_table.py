"""Every instrument file against its reference reader, through the whole of ingest.

    python tests/support/manifest_table.py [--markdown]

prints one line per row of the test data's MANIFEST.csv and exits 1 if any row is not as it must be. Each file is ingested
alone with all its signals into a fresh store; what the sealed versions hold is compared, value for value and axis for axis, with
what the reference reader returns for the same file.
"""

import argparse
import csv
import os
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import emstore
from emstore.errors import EmstoreError, InvalidInput, Kind
from emstore.geometry import Axis, AxisKind, Grid
from emstore.geometry.units import canonical

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Reference:
    """One signal as the reference reader gives it: values in our axis order, and ``(spacing, unit)`` per axis if it says."""

    values: np.ndarray[Any, Any]
    axes: tuple[tuple[float | None, str | None] | None, ...] | None = None
    any_frame_order: bool = False
    """Whether frames may have been sorted by position."""


@dataclass(frozen=True)
class Row:
    """The outcome for one file."""

    path: str
    format: str
    ok: bool
    result: str


def data_folder() -> Path:
    """Return where the instrument files are."""
    return Path(os.environ.get("EMSTORE_TEST_DATA", ROOT.parent / "shared" / "data"))


def manifest(folder: Path) -> list[dict[str, str]]:
    """Return the rows of MANIFEST.csv."""
    with (folder / "MANIFEST.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def check(folder: Path, row: dict[str, str]) -> Row:
    """Ingest one file alone and compare it with its reference."""
    path = folder / row["path"]
    name, said = row["path"], row["reader_result"]

    def out(ok: bool, result: str) -> Row:
        return Row(name, row["format"], ok, result)

    must_read = said.startswith("ok")
    with tempfile.TemporaryDirectory(prefix="emstore-manifest-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = f"{scratch}/lab.zarr"
        emstore.create_store(store)
        try:
            made = emstore.ingest([path], f"{store}/lab/raw", take_all=True)
        except EmstoreError as error:
            refused = f"refused ({error.kind}): {error.what}"[:140]
            if "object" in row["dtype"] and must_read:
                return out(error.kind == Kind.SOURCE_UNSUPPORTED, refused)
            if not must_read:
                return out(True, refused)
            return out(False, refused)
        versions = [item.version for item in made]
        if not must_read:
            kinds = ", ".join(f"{v.info.volume.name} {v.info.volume.shape}" for v in versions)
            return out(True, f"read although the reference reader fails: {kinds}"[:140])
        found = [(v.info.volume.name, v.grid(), np.asarray(v.xarray()["image"].values)) for v in versions]
        try:
            references = list(reference(path, row))
        except NoReference as reason:
            return out(False, str(reason))
        problems = []
        for k, expected in enumerate(references):
            reasons = [difference(expected, grid, values) for _, grid, values in found]
            if all(reasons):
                problems.append(f"signal {k} {expected.values.shape}: {min((r for r in reasons if r), key=len)}")
        if len(found) < len(references):
            problems.append(f"{len(found)} of {len(references)} signals")
        if problems:
            return out(False, "; ".join(problems)[:300])
        shapes = " | ".join("x".join(map(str, values.shape)) for _, _, values in found[:4])
        geometry = ", ".join(spacing(axis) for axis in found[0][1].axes)
        return out(True, f"equal: {shapes} [{geometry}]")


class NoReference(Exception):
    """No reference reader is known for a file: the table has a hole."""


def difference(expected: Reference, grid: Grid, values: np.ndarray[Any, Any]) -> str | None:
    """Return how a version differs from the reference, ``None`` if it does not."""
    theirs = expected.values
    ours = values
    if expected.axes is None:
        theirs, ours = theirs.squeeze(), ours.squeeze()
    if theirs.shape != ours.shape:
        return f"shape {ours.shape} instead of {theirs.shape}"
    if theirs.dtype.newbyteorder("=") != ours.dtype.newbyteorder("="):
        return f"type {ours.dtype} instead of {theirs.dtype}"
    if expected.any_frame_order:
        equal = sorted(f.tobytes() for f in theirs) == sorted(f.tobytes() for f in ours)
    else:
        equal = np.array_equal(theirs, ours, equal_nan=theirs.dtype.kind in "fc")
    if not equal:
        return "values differ"
    if expected.axes is not None:
        for axis, said in zip(grid.axes, expected.axes, strict=True):
            if said is not None and (wrong := axis_difference(axis, *said)):
                return wrong
    return None


def axis_difference(axis: Axis, scale: float | None, unit: str | None) -> str | None:
    """Compare spacing and unit; a reader's placeholder (1 without unit, not positive) must have become unknown."""
    name = canonical(unit) or (unit or "").strip() or None
    placeholder = scale is None or not np.isfinite(scale) or scale <= 0 or (scale == 1 and name is None)
    if placeholder:
        return f"{axis.name}: spacing {axis.spacing} although unknown" if axis.known and axis.kind is AxisKind.SPACE else None
    step = axis.median_step()
    # rosettasciio subtracts times since 1970 as floats, which leaves it four digits of a millisecond.
    tolerance = 1e-4 if axis.kind is AxisKind.TIME else 1e-5
    if step is None or abs(step - scale) > tolerance * abs(scale):
        try:
            converted = None if step is None or axis.unit is None or name is None else step * _factor(axis.unit, name)
        except InvalidInput:
            converted = None
        if converted is None or abs(converted - scale) > 1e-5 * abs(scale):
            return f"{axis.name}: spacing {step} {axis.unit} instead of {scale} {name}"
        return None
    return None if axis.unit == name else f"{axis.name}: unit {axis.unit} instead of {name}"


def _factor(source: str, target: str) -> float:
    from emstore.geometry.units import factor

    return factor(source, target)


def spacing(axis: Axis) -> str:
    """Show an axis's spacing."""
    step = axis.median_step()
    return f"{axis.name} ?" if step is None else f"{axis.name} {step:.5g} {axis.unit or ''}".strip()


# -- reference readers -------------------------------------------------------------------------------------------------


def reference(path: Path, row: dict[str, str]) -> Iterator[Reference]:
    """Read a file with the reader that the field trusts for it."""
    with unzipped(path, row["reader_result"]) as file:
        yield from _reader(file, row)(file)


def _reader(path: Path, row: dict[str, str]) -> Callable[[Path], Iterator[Reference]]:
    form = row["format"].removeprefix("ZIP of ").split(" ")[0]
    if path.name == "GREYSCALE_CINE.dcm" or form == "DICOM" or (form == "ZIP" and path.suffix.lower() == ".dcm"):
        return _pydicom
    table: dict[str, Callable[[Path], Iterator[Reference]]] = {
        "Nifti1Image": _nibabel,
        "Nifti2Image": _nibabel,
        "TIFF": _tifffile,
        "video": _video,
    }
    if form in table:
        return table[form]
    if form == "HDF5" and "signal" not in row["format"]:
        return lambda file: _h5py(file, row["pixel_size_metadata"].split("dataset=")[1].split(" ")[0])
    if form == "ZSPY" or path.suffix == ".zspy":
        return _zspy
    if form in ("DM3", "DM4", "EMI", "SER", "EMD", "HSPY", "HDF5", "MRC", "BLO", "TVIPS"):
        return _rosettasciio
    raise NoReference(f"no reference reader for {row['format']!r}")


@contextmanager
def unzipped(path: Path, said: str) -> Iterator[Path]:
    """Give the member of a zip that the manifest's reference was read from (``ok (inner NAME)``), or the file itself."""
    if path.suffix != ".zip":
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(path) as archive:
        members = [m for m in archive.infolist() if not m.is_dir() and "__MACOSX" not in m.filename]
        [member] = [m for m in members if len(members) == 1 or f"(inner {m.filename})" in said]
        yield Path(archive.extract(member, scratch))


def _rosettasciio(path: Path) -> Iterator[Reference]:
    import importlib

    from rsciio import IO_PLUGINS

    suffix = {"emd": "EMD", "hspy": "HSPY", "hdf5": "HSPY", "mrc": "MRC", "blo": "Blockfile", "tvips": "TVIPS"}.get(
        path.suffix.lower().lstrip("."), ""
    )
    names = {"dm3": "DigitalMicrograph", "dm4": "DigitalMicrograph", "emi": "TIA", "ser": "TIA"}
    name = names.get(path.suffix.lower().lstrip("."), suffix)
    [plugin] = [p for p in IO_PLUGINS if p["name"] == name]
    for signal in importlib.import_module(plugin["api"]).file_reader(str(path)):
        values = np.asarray(signal["data"])
        axes = sorted(signal["axes"], key=lambda a: a.get("index_in_array", 0))
        said = [(_number(a.get("scale")), _word(a.get("units"))) for a in axes if a.get("size", 1) and "scale" in a]
        if path.name.endswith("_movie.mrc") and values.ndim == 4:
            said = _direct_electron(path)
        if values.dtype.names:
            values = np.stack([values[n] for n in values.dtype.names])
            yield Reference(values, (None, *said[: values.ndim - 1]))
        elif len(said) == values.ndim:
            yield Reference(values, tuple(said))
        else:
            yield Reference(values)


def _direct_electron(movie: Path) -> list[tuple[float | None, str | None]]:
    """Read the scales of a 4D-STEM movie from its sidecar: rosettasciio 0.15 replaces every scale that is known by 1."""
    sidecar = movie.with_name(movie.name.removesuffix("_movie.mrc") + "_info.txt")
    lines = dict(line.split("=", 1) for line in sidecar.read_text().splitlines() if "=" in line)
    facts = {key.strip(): value.strip() for key, value in lines.items()}
    specimen = [(float(facts[f"Specimen Pixel Size {a} (nanometers)"]), "nm") for a in "YX"]
    return [*specimen, *((float(facts[f"Diffraction Pixel Size {a}"]), "1/nm") for a in "YX")]


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value not in ("<undefined>", "None", "[]") else None


def _zspy(path: Path) -> Iterator[Reference]:
    import zarr

    if path.is_dir():
        group = zarr.open_group(path, mode="r")
    else:
        group = zarr.open_group(zarr.storage.ZipStore(path, mode="r"), mode="r")
    for _, experiment in group["Experiments"].groups():
        yield Reference(np.asarray(experiment["data"][...]))


def _h5py(path: Path, dataset: str) -> Iterator[Reference]:
    import h5py

    with h5py.File(path) as file:
        yield Reference(np.asarray(file[dataset][()]))


def _nibabel(path: Path) -> Iterator[Reference]:
    import nibabel

    image = nibabel.load(path)
    values = np.asarray(image.dataobj.get_unscaled())
    unit, time = image.header.get_xyzt_units()
    names = {"mm": "mm", "meter": "m", "micron": "um", "sec": "s", "msec": "ms", "usec": "us"}
    zooms = image.header.get_zooms()
    said = [(float(z), names.get(unit)) for z in zooms[:3]] + [(float(z), names.get(time)) for z in zooms[3:]]
    yield Reference(values.transpose(), tuple(said[::-1]))


def _tifffile(path: Path) -> Iterator[Reference]:
    import tifffile

    values = tifffile.imread(path)
    if values.ndim > 2 and values.shape[-1] in (3, 4):
        values = np.moveaxis(values, -1, 0)
    yield Reference(values)


def _video(path: Path) -> Iterator[Reference]:
    import av

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    yield Reference(np.moveaxis(np.stack(frames), -1, 1))


def _pydicom(path: Path) -> Iterator[Reference]:
    import pydicom

    dataset = pydicom.dcmread(path, force=True)
    values = dataset.pixel_array
    if int(dataset.get("SamplesPerPixel", 1)) == 3:
        values = np.moveaxis(values, -1, -3)
    if "MOSAIC" in dataset.get("ImageType", []):
        values = _mosaic(dataset, values)
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    yield Reference(values, any_frame_order=frames > 1 and "SharedFunctionalGroupsSequence" in dataset)


def _mosaic(dataset: Any, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Cut a Siemens mosaic into its tiles: rows and columns of one tile are in AcquisitionMatrix (PS3.3 C.8.3.1)."""
    matrix = [n for n in dataset.AcquisitionMatrix if n]
    rows, columns = matrix[0], matrix[-1]
    tiles = [
        values[r : r + rows, c : c + columns] for r in range(0, values.shape[0], rows) for c in range(0, values.shape[1], columns)
    ]
    while not tiles[-1].any():
        tiles.pop()
    return np.stack(tiles)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("only", nargs="*", help="only rows whose path contains one of these")
    options = parser.parse_args()
    folder = data_folder()
    wrong = 0
    if options.markdown:
        print("| file | format | | result |\n|---|---|---|---|")
    for row in manifest(folder):
        if options.only and not any(word in row["path"] for word in options.only):
            continue
        result = check(folder, row)
        wrong += not result.ok
        mark = "ok" if result.ok else "WRONG"
        if options.markdown:
            print(f"| {result.path} | {result.format} | {mark} | {result.result} |", flush=True)
        else:
            print(f"{mark:6}{result.path:75}{result.format:18}{result.result}", flush=True)
    print(f"{wrong} of {len(manifest(folder))} files are not as they must be", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
