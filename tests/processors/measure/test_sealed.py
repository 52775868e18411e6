"""Measurements through the whole engine, over small shards: what is sealed is what NumPy and scikit-image say."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import structural_similarity

import emstore
from command_line import call, result
from emstore.blocks import layout
from emstore.processing import process
from emstore.store import Version, chunking, open_version
from emstore.table import Table
from measured import column, on_grid
from sealed import seal

RANDOM = np.random.default_rng(21)
TRUTH = ndimage.gaussian_filter(RANDOM.normal(size=(20, 90, 70)), (0, 3, 3))
TRUTH = ((TRUTH - TRUTH.min()) / np.ptp(TRUTH) * 60000).astype(np.uint16)
NOISY = (TRUTH + RANDOM.normal(0, 2500, TRUTH.shape)).clip(0, 65535).astype(np.uint16)
SSIM = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 65535}


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Version, Version]:
    """The noisy and the true volume, in chunks of 8^3 and shards of 16^3, measured in blocks of 16^3."""
    monkeypatch.setattr(chunking, "CHUNK_VOXELS", 8**3)
    monkeypatch.setattr(chunking, "SHARD_VOXELS", 16**3)
    monkeypatch.setattr(layout, "TABLE_BLOCK", 16)
    emstore.create_store(str(tmp_path / "lab.zarr"))
    return tuple(
        seal(on_grid(values, name=name), f"{tmp_path}/lab.zarr/lab/{name}")
        for name, values in (("noisy", NOISY), ("truth", TRUTH))
    )  # type: ignore[return-value]


def table(versions: tuple[Version, ...], name: str, target: str = "table", **params: Any) -> Table:
    made = process(name, [one.ref for one in versions], f"{versions[0].store.url}/lab/{target}", params=params)
    return open_version(made.version.ref).table()


def test_statistics(versions: tuple[Version, Version]) -> None:
    found = table(versions[:1], "measure.statistics")
    np.testing.assert_allclose(column(found, "mean"), NOISY.mean(axis=(1, 2), dtype="f8"), rtol=1e-13)
    np.testing.assert_allclose(column(found, "p99"), np.percentile(NOISY, 99, axis=(1, 2)), rtol=1e-13)
    assert found.summary["std"] == pytest.approx(NOISY.std(dtype="f8"), rel=1e-13)
    assert found.summary["p50"] == np.median(NOISY)


def test_similarity(versions: tuple[Version, Version]) -> None:
    found = table(versions, "measure.ssim", data_range="dtype")
    truth = [structural_similarity(a, b, **SSIM) for a, b in zip(NOISY, TRUTH, strict=True)]
    np.testing.assert_allclose(column(found, "ssim"), truth, rtol=1e-9)
    assert found.summary["ssim"] == pytest.approx(np.mean(truth), rel=1e-9)


def test_the_record_says_what_was_compared(versions: tuple[Version, Version]) -> None:
    made = process(
        "measure.psnr", [one.ref for one in versions], f"{versions[0].store.url}/lab/psnr", params={"data_range": "dtype"}
    )
    record = made.version.record
    assert [(one.role, one.id) for one in record.inputs] == [("image", versions[0].id), ("reference", versions[1].id)]
    assert (record.activity.type, record.activity.name) == ("process", "measure.psnr")
    assert record.params["params"]["data_range"] == "dtype"
    again = process(
        "measure.psnr", [one.ref for one in versions], f"{versions[0].store.url}/lab/psnr", params={"data_range": "dtype"}
    )
    assert not again.created
    assert again.version.id == made.version.id


def test_from_the_command_line_to_a_spreadsheet(versions: tuple[Version, Version], tmp_path: Path) -> None:
    lab = f"{versions[0].store.url}/lab"
    assert call("process", "measure.mse", f"{lab}/noisy", f"{lab}/truth", f"{lab}/errors").returncode == 0
    assert call("export", f"{lab}/errors", tmp_path / "errors.csv").returncode == 0
    with (tmp_path / "errors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    truth = ((NOISY.astype("f8") - TRUTH) ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose([float(row["mse"]) for row in rows], truth, rtol=1e-12)
    assert [float(row["position [nanometer]"]) for row in rows] == [2.0 * i for i in range(20)]
    assert result("verify", f"{lab}/errors", "--data")["ok"] is True
    assert result("process", "measure.mse", f"{lab}/noisy", f"{lab}/errors", f"{lab}/nothing", code=2)["kind"] == "invalid_input"


def test_other_grids_are_refused_before_anything_is_written(versions: tuple[Version, Version]) -> None:
    lab = f"{versions[0].store.url}/lab"
    process("transform.crop", [f"{lab}/truth"], f"{lab}/part", params={"index": {"z": [2, None]}})
    error = result("process", "measure.mse", f"{lab}/noisy", f"{lab}/part", f"{lab}/errors", code=2)
    assert "same grid" in error["what"]
    assert "z:20" in error["what"]
    assert not [one for one in result("status", lab)["versions"] if "errors" in one["ref"]]
