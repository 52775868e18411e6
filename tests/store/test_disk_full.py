"""A full disk: refused before where it can be foreseen, one clear error where not, and the same command finishes later."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

import emstore
from command_line import emstore as command
from command_line import lines, result
from emstore.errors import Capacity, Kind
from emstore.store.backend import Backend

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, check=False)
    if os.geteuid() != 0 or mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 MiB of which the corner, which the estimate looks at, compresses well and the rest does not."""
    path = tmp_path_factory.mktemp("slices") / "noise.tif"
    values = np.random.default_rng(0).integers(0, 255, (64, 512, 512), dtype=np.uint8)
    values[:, :128, :128] = 0
    tifffile.imwrite(path, values, photometric="minisblack", metadata=None)
    return path


def arrays(root: Path) -> dict[str, str]:
    version = emstore.open(f"{root}/d/a")
    return {e.key: e.digest for e in version.manifest.objects if not e.key.startswith(".emstore/")}


def test_a_disk_that_fills_on_the_way(small_disk: Path, slices: Path, tmp_path: Path) -> None:
    emstore.create_store(str(tmp_path / "whole.zarr"))
    emstore.ingest([slices], f"{tmp_path}/whole.zarr/d/a")
    store = small_disk / "lab.zarr"
    emstore.create_store(str(store))
    ballast = small_disk / "ballast"
    ballast.write_bytes(os.urandom(16 * MIB))
    ingest = ("ingest", slices, store / "d/a", "--json")
    failed = command(*ingest)
    assert failed.returncode == 7, failed.stdout + failed.stderr
    assert failed.stderr == ""
    error = lines(failed)[-1]
    assert error["kind"] == "disk_full"
    assert "same command" in error["fix"]
    assert result("ls", store)["versions"] == []
    assert [v["state"] for v in result("status", store)["versions"]] == ["unfinished"]
    assert result("verify", store)["ok"] is True
    written = sum(p.stat().st_size for p in store.rglob("*") if p.is_file())
    assert written > MIB, "the disk filled before anything was written"
    # The program that was told of it may go on itself, in the same process.
    with pytest.raises(Capacity) as told:
        emstore.ingest([slices], f"{store}/d/a")
    assert told.value.kind is Kind.DISK_FULL
    ballast.unlink()
    [made] = emstore.ingest([slices], f"{store}/d/a")
    assert made.version.place.version == 1
    assert arrays(store) == arrays(tmp_path / "whole.zarr")
    assert result("verify", store, "--data")["ok"] is True
    assert [v["state"] for v in result("status", store)["versions"]] == ["sealed"]


def test_what_will_not_fit_is_refused_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = tmp_path / "noise.tif"
    values = np.random.default_rng(0).integers(0, 255, (64, 256, 256), dtype=np.uint8)
    tifffile.imwrite(noise, values, photometric="minisblack", metadata=None)
    store = tmp_path / "lab.zarr"
    emstore.create_store(str(store))
    monkeypatch.setattr(Backend, "free_bytes", lambda self: MIB)
    error = result("ingest", noise, store / "d/a", code=7)
    assert error["kind"] == "disk_full"
    assert "0.00 GB are free" in error["what"]
    assert not list(store.glob("d/a/v1/s0"))
    monkeypatch.undo()
    assert result("ingest", noise, store / "d/a")["versions"][0]["created"] is True
