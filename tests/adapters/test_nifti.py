"""NIfTI: values and places equal nibabel's, gzip streams are read once, and nothing is made up."""

import gzip
import importlib.resources
import os
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emstore.errors import Kind, SourceIncomplete, SourceUnreadable
from emstore.source import Source
from emstore.testing import AdapterConformance, Sample
from emstore.volume import Volume, VolumeKind
from emstore_adapters.gzip_stream import GzipBytes
from emstore_adapters.nifti import NiftiAdapter
from whole import everything

DTYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "c8", "c16"]


def open_one(path: Path, **kwargs: Any) -> Volume:
    source = Source.of([path], **kwargs)
    assert all(NiftiAdapter().sniff(item) > 0 for item in source.items)
    [volume] = NiftiAdapter().open(source)
    return volume


def in_our_order(stored: np.ndarray) -> np.ndarray:
    """Turn nibabel's (i, j, k, t, u, v) into (v, t, u, k, j, i)."""
    turned = stored.T
    return np.swapaxes(turned, -4, -5) if turned.ndim >= 5 else turned


def real_files(data_dir: Path) -> list[Path]:
    own = importlib.resources.files("nibabel") / "tests" / "data"
    return sorted((data_dir / "mri_nifti").glob("*.nii*")) + sorted(Path(str(own)).glob("*.nii*"))


def test_real_files_equal_nibabel(data_dir: Path) -> None:
    files = real_files(data_dir)
    assert len(files) > 20
    for path in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nibabel warns about odd headers of its own samples
            # Connectivity matrices (CIFTI) are NIfTI-2 underneath; nibabel's own class for them drops the empty axes.
            image: Any = nib.Nifti2Image.load(path) if ".dconn." in path.name else nib.load(path)
        volume, header = open_one(path), image.header
        stored = in_our_order(np.asarray(image.dataobj.get_unscaled()))
        assert volume.dtype.isnative, path
        assert np.array_equal(everything(volume), stored, equal_nan=stored.dtype.kind in "fc"), path
        if header["sform_code"] or header["qform_code"]:
            assert volume.grid.affine is not None, path
            np.testing.assert_allclose(volume.grid.affine.xyz, image.affine, rtol=0, atol=1e-6, err_msg=str(path))
            assert volume.grid.affine.space == "RAS"
        else:
            assert volume.grid.affine is None, path
        units = {"mm": "millimeter", "micron": "micrometer", "meter": "meter", "unknown": None}
        times = {"sec": "second", "msec": "millisecond", "usec": "microsecond", "unknown": None}
        space, time = header.get_xyzt_units()
        for axis, zoom in zip("xyzt", header.get_zooms(), strict=False):
            found = volume.grid.axis(axis)
            unit = times[time] if axis == "t" else units[space]
            if zoom == 1 and unit is None:
                assert found.spacing is None, path
            else:
                assert found.spacing == pytest.approx(float(zoom), rel=1e-6), path
                assert found.unit == unit, path
        slope, intercept = image.dataobj.slope, image.dataobj.inter
        expected = (1.0, 0.0) if volume.scale is None else (volume.scale.slope, volume.scale.intercept)
        assert expected == (slope, intercept), path


def test_raw_header_is_the_files_own_bytes(data_dir: Path) -> None:
    for path in real_files(data_dir):
        packed = path.read_bytes()
        content = gzip.decompress(packed) if path.suffix == ".gz" else packed
        volume = open_one(path)
        [raw] = volume.header.raw
        assert raw.read() == content[: volume.data.offset], path  # type: ignore[attr-defined]
        assert volume.header.tree["header"]["sizeof_hdr"] in (348, 540)


@st.composite
def images(draw: st.DrawFn) -> tuple[Any, str, str]:
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=3, max_size=6)))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    order = draw(st.sampled_from("<>"))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = rng.integers(0, 255, (*shape, dtype.itemsize), dtype=np.uint8).view(dtype).reshape(shape)
    kind: Any = draw(st.sampled_from([nib.Nifti1Image, nib.Nifti2Image, nib.Nifti1Pair]))
    header = kind.header_class(endianness=order)
    header.set_data_dtype(dtype.newbyteorder(order))
    linear = np.diag(rng.uniform(0.5, 3, 3)) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, rng.normal(size=3) * 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = kind(values, affine, header)
    image.header.set_xyzt_units(
        draw(st.sampled_from(["mm", "micron", "meter"])), draw(st.sampled_from(["sec", "msec", "unknown"]))
    )
    suffix = ".img" if kind is nib.Nifti1Pair else ".nii"
    return image, suffix + draw(st.sampled_from(["", ".gz"])), order


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(images(), st.data())
def test_any_region_of_any_image(tmp_path: Path, made: tuple[Any, str, str], data: st.DataObject) -> None:
    image, suffix, _ = made
    path = tmp_path / f"a{suffix}"
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # NaN patterns are cast while nibabel looks for a scale
        image.header.set_slope_inter(1, 0)
        nib.save(image, path)
        stored = in_our_order(np.asarray(nib.load(path).dataobj.get_unscaled()))
    volume = open_one(path)
    assert volume.shape == stored.shape
    for _ in range(3):
        region = []
        for n in stored.shape:
            start = data.draw(st.integers(0, n - 1))
            region.append(slice(start, data.draw(st.integers(start + 1, n))))
        got = volume.data[tuple(region)]
        assert got.dtype == stored.dtype.newbyteorder("=")
        assert got.tobytes() == np.ascontiguousarray(stored[tuple(region)]).astype(got.dtype).tobytes()
    assert volume.grid.affine is not None
    np.testing.assert_allclose(volume.grid.affine.xyz, nib.load(path).affine, atol=1e-5)


def save(path: Path, values: np.ndarray, **fields: Any) -> Path:
    image = nib.Nifti1Image(values, np.eye(4))
    image.header.set_slope_inter(1, 0)
    for key, value in fields.items():
        image.header[key] = value
    nib.save(image, path)
    return path


def patch(path: Path, **fields: Any) -> None:
    """Change header fields of a plain file behind nibabel's back."""
    content = path.read_bytes()
    header = nib.Nifti1Header(content[:348], check=False)
    for key, value in fields.items():
        header[key] = value
    path.write_bytes(header.binaryblock + content[348:])


def test_no_codes_means_no_place(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros((3, 4, 5), "i2"))
    patch(path, sform_code=0, qform_code=0, pixdim=[1, 2, 3, 4, 1, 1, 1, 1], xyzt_units=2)
    volume = open_one(path)
    assert volume.grid.affine is None
    assert [(a.name, a.spacing, a.unit) for a in volume.grid.axes] == [
        ("z", 4.0, "millimeter"), ("y", 3.0, "millimeter"), ("x", 2.0, "millimeter"),
    ]  # fmt: skip
    assert volume.attributes["nifti"]["grid"] is None


def test_both_matrices_are_kept_and_the_sform_wins(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros((3, 4, 5), "i2"))
    image = nib.load(path)
    image.set_sform(np.diag([2, 2, 2, 1]), code=4)
    image.set_qform(np.diag([-3, 3, 3, 1]), code=1)
    nib.save(image, tmp_path / "b.nii")
    volume = open_one(tmp_path / "b.nii")
    facts = volume.attributes["nifti"]
    assert (facts["grid"], facts["sform_code"], facts["qform_code"], facts["qfac"]) == ("sform", 4, 1, -1.0)
    np.testing.assert_allclose(facts["sform"], np.diag([2, 2, 2, 1]))
    np.testing.assert_allclose(facts["qform"], np.diag([-3, 3, 3, 1]), atol=1e-6)
    # pixdim follows the qform; the chosen matrix wins.
    assert [a.spacing for a in volume.grid.axes] == [2.0, 2.0, 2.0]
    assert any("pixdim" in note for note in volume.notes)
    assert any("differ" in note for note in volume.notes)


@pytest.mark.parametrize(
    ("units", "step", "expected"),
    [
        (2 | 8, 2.5, (2.5, "second")), (2 | 16, 1.0, (1.0, "millisecond")), (2, 2.5, (2.5, None)), (2, 1.0, (None, None)),
        (2 | 8, 0.0, (None, None)),
    ],
)  # fmt: skip
def test_repetition_time(tmp_path: Path, units: int, step: float, expected: tuple[float | None, str | None]) -> None:
    path = save(tmp_path / "a.nii", np.zeros((3, 4, 5, 6), "i2"))
    patch(path, xyzt_units=units, pixdim=[1, 1, 1, 1, step, 1, 1, 1])
    axis = open_one(path).grid.axis("t")
    assert (axis.spacing, axis.unit) == expected


@pytest.mark.parametrize(("fields", "samples"), [(["R", "G", "B"], 3), (["R", "G", "B", "A"], 4)])
def test_colour_is_a_channel_axis(tmp_path: Path, fields: list[str], samples: int) -> None:
    plain = np.random.default_rng(1).integers(0, 255, (3, 4, 5, samples), dtype=np.uint8)
    nib.save(nib.Nifti1Image(plain.view([(f, "u1") for f in fields])[..., 0], np.eye(4)), tmp_path / "a.nii")
    volume = open_one(tmp_path / "a.nii")
    assert volume.grid.dims == ("c", "z", "y", "x")
    assert np.array_equal(everything(volume), plain.transpose(3, 2, 1, 0))
    assert np.array_equal(volume.data[1:2, 0:5, 1:3, 0:3], plain.transpose(3, 2, 1, 0)[1:2, :, 1:3])


def test_scale_window_and_labels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros((3, 4, 5), "i2"))
    patch(path, scl_slope=2, scl_inter=-10, cal_min=0, cal_max=100)
    volume = open_one(path)
    assert volume.scale is not None
    assert (volume.scale.slope, volume.scale.intercept, volume.window) == (2.0, -10.0, (5.0, 55.0))
    assert volume.kind is VolumeKind.IMAGE
    patch(path, scl_slope=0, intent_code=1002)
    assert open_one(path).kind is VolumeKind.LABELS


def test_extensions_are_listed(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((3, 4, 5), "i2"), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"hello"))
    nib.save(image, tmp_path / "a.nii.gz")
    volume = open_one(tmp_path / "a.nii.gz")
    assert [(e["code"], e["content"]) for e in volume.header.tree["extensions"]] == [(6, "hello")]
    assert b"hello" in volume.header.raw[0].read()


def test_pair_from_either_file_or_both(tmp_path: Path) -> None:
    values = np.arange(60, dtype="i2").reshape(3, 4, 5)
    nib.save(nib.Nifti1Pair(values, np.eye(4)), tmp_path / "a.img")
    for start in (tmp_path / "a.img", tmp_path / "a.hdr", tmp_path):
        volume = open_one(start)
        assert np.array_equal(everything(volume), values.T)
        assert {path.name for path in volume.files} == {"a.hdr", "a.img"}
    (tmp_path / "a.img").unlink()
    with pytest.raises(SourceIncomplete, match="not beside"):
        open_one(tmp_path / "a.hdr")


def test_cut_plain_file_says_how_much_is_good(tmp_path: Path) -> None:
    values = np.arange(3 * 4 * 5, dtype="i2").reshape(3, 4, 5)
    path = save(tmp_path / "a.nii", values)
    path.write_bytes(path.read_bytes()[: 352 + 3 * 24 + 5])
    with pytest.raises(SourceIncomplete, match="3 of 5 slices are good"):
        open_one(path)
    volume = open_one(path, allow_partial=True)
    assert np.array_equal(everything(volume), values.T[:3])


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_cut_gzip_file_says_how_much_is_good(tmp_path: Path, share: float) -> None:
    values = np.random.default_rng(1).integers(0, 999, (16, 16, 8, 5), dtype="i2")
    packed = save(tmp_path / "a.nii.gz", values).read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(packed[: int(len(packed) * share)])
    with pytest.raises(SourceIncomplete, match=r"of 5 volumes are good") as caught:
        open_one(path)
    good = int(caught.value.what.split(": ")[1].split()[0])
    assert 0 < good < 5 or share < 0.5
    if good:
        assert np.array_equal(everything(open_one(path, allow_partial=True)), values.T[:good])


def test_damaged_gzip_file_is_told_when_its_end_is_read(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 9, (16, 16, 40), dtype="i2")
    packed = bytearray(save(tmp_path / "a.nii.gz", values).read_bytes())
    packed[-8] ^= 1  # the CRC-32
    (tmp_path / "b.nii.gz").write_bytes(packed)
    volume = open_one(tmp_path / "b.nii.gz")
    with pytest.raises(SourceUnreadable, match="damaged"):
        everything(volume)


def test_gzip_is_inflated_once_forward_and_little_backward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).integers(0, 255, (64, 64, 400), dtype=np.uint8)
    monkeypatch.setattr("emstore_adapters.gzip_stream.CHECKPOINT_BYTES", 1 << 16)
    inflated = 0
    step = GzipBytes._step

    def counted(self: GzipBytes, file: Any, most: int) -> bytes:
        nonlocal inflated
        data = step(self, file, most)
        inflated += len(data)
        return data

    path = save(tmp_path / "a.nii.gz", values)
    volume = open_one(path)
    monkeypatch.setattr(GzipBytes, "_step", counted)
    for z in range(0, 400, 50):
        assert np.array_equal(volume.data[z : z + 50, 0:64, 0:64], values.T[z : z + 50])
    assert inflated <= values.nbytes + 352
    for z in (390, 10, 200, 399, 0):
        inflated = 0
        assert np.array_equal(volume.data[z : z + 1, 0:64, 0:64], values.T[z : z + 1])
        assert inflated <= 2 * (1 << 16) + (1 << 20)
    assert volume.data.block == (1, 64, 64)


def test_members_that_follow_each_other_are_one_stream(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 255, (16, 16, 8), dtype=np.uint8)
    content = save(tmp_path / "a.nii", values).read_bytes()
    parts = [content[i : i + 1000] for i in range(0, len(content), 1000)]
    (tmp_path / "b.nii.gz").write_bytes(b"".join(gzip.compress(part) for part in parts))
    assert np.array_equal(everything(open_one(tmp_path / "b.nii.gz")), values.T)


def test_hostile_headers_end_in_one_clear_error(tmp_path: Path) -> None:
    values = np.zeros((3, 4, 5), "i2")
    for fields in (
        {"dim": [7, 32767, 32767, 32767, 32767, 32767, 32767, 32767]},
        {"dim": [3, -5, 4, 5, 1, 1, 1, 1]},
        {"dim": [3, 0, 4, 5, 1, 1, 1, 1]},
        {"vox_offset": np.nan},
        {"vox_offset": 1e30},
        {"vox_offset": -352},
        {"datatype": 1536},
        {"datatype": 1},
    ):
        path = save(tmp_path / "a.nii", values)
        patch(path, **fields)
        for target in (path, tmp_path / "b.nii.gz"):
            if target.suffix == ".gz":
                target.write_bytes(gzip.compress(path.read_bytes()))
            with pytest.raises((SourceUnreadable, MemoryError)) as caught:
                open_one(target)
            assert target.name in str(caught.value), fields


def test_long_double_is_refused_by_kind(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros((3, 4, 5), "f4"))
    patch(path, datatype=1536)
    with pytest.raises(SourceUnreadable) as caught:
        open_one(path)
    assert caught.value.kind is Kind.SOURCE_UNSUPPORTED


def test_other_gzip_files_are_not_claimed(tmp_path: Path) -> None:
    for name, content in (("a.mrc.gz", bytes(208) + b"MAP " + bytes(812)), ("b.nii.gz", os.urandom(2000))):
        (tmp_path / name).write_bytes(gzip.compress(content))
        [item] = Source.of([tmp_path / name]).items
        assert NiftiAdapter().sniff(item) == 0


class TestConformance(AdapterConformance):
    adapter = NiftiAdapter

    @staticmethod
    def files(folder: Path) -> list[Sample]:
        rng = np.random.default_rng(3)
        small = save(folder / "small.nii", rng.integers(0, 99, (20, 21, 22), dtype=np.int16))
        large = save(folder / "large.nii", rng.integers(0, 99, (256, 256, 400), dtype=np.int16))
        packed = save(folder / "packed.nii.gz", rng.integers(0, 9, (64, 64, 30, 4), dtype=np.int16))
        return [Sample.of(small), Sample.of(large), Sample((packed,), random_access=False)]

    def reference(self, sample: Sample) -> dict[str, np.ndarray]:
        path = sample.paths[0]
        return {path.name.split(".")[0]: np.asarray(nib.load(path).dataobj.get_unscaled()).T}
