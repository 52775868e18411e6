"""References and storage at their edges: bad names, secrets in URLs, services that do not keep their word."""

from pathlib import Path
from typing import Any

import pytest

import emstore
from command_line import call, result
from emstore.errors import InvalidInput, Kind, NotFound, StorageFailed
from emstore.geometry import Axis
from emstore.store import Place, open_store, verify
from emstore.store.backend import Backend
from emstore.store.layout import check_name
from emstore.store.store import resolve
from emstore.store.url import open_backend
from range_server import serve
from sealed import ramp, seal, volume


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "-a",
        ".a",
        "a/b",
        "a b",
        "é",
        "a\n",
        "zarr.json",
        "c",
        "labels",
        "s0",
        "v12",
        "con",
        "nul.txt",
        "a..b",
        "a.",
        "a" * 65,
    ],
)
def test_names_that_would_not_work_everywhere_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as told:
        check_name(name, "array")
    assert told.value.kind is Kind.BAD_NAME


@pytest.mark.parametrize("url", [
    "s3://key:SECRET@bucket/lab", "https://user:SECRET@host/lab.zarr/d/a", "https://host/lab.zarr?X-Amz-Signature=SECRET",
    "s3://bucket/lab#SECRET", "https://:SECRET@host:99999/x", "s3://[SECRET/x",
])  # fmt: skip
@pytest.mark.parametrize("verb", ["ls", "verify", "init"])
def test_secrets_in_urls_are_refused_and_never_repeated(url: str, verb: str) -> None:
    assert result(verb, url, code=2)["kind"] == "bad_ref"
    said = call(verb, url)
    assert "SECRET" not in said.stdout + said.stderr


@pytest.mark.parametrize("url", ["ftp://host/lab", "s3:///lab", "s3://bucket/../lab", "s3://bucket/%2e%2e/lab", ""])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as told:
        resolve(url)
    assert told.value.kind is Kind.BAD_REF


@pytest.mark.parametrize("name", ["what?.zarr", "run#1.zarr", "a%20b.zarr", "[x].zarr", "caf\udce9.zarr"])
def test_a_path_may_be_called_anything(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    if "\udce9" in name:
        assert call("init", root).returncode in (0, 2, 8)
        return
    assert call("init", root).returncode == 0
    seal(volume("small", ramp((9, 8), "u1"), Axis("y", 9), Axis("x", 8)), f"{root}/d/a")
    assert result("verify", root, "--data")["ok"] is True


def test_references_do_not_lead_out(tmp_path: Path) -> None:
    emstore.create_store(str(tmp_path / "lab.zarr"))
    for ref in (
        "lab.zarr/../../etc",
        "lab.zarr/d/../../etc",
        "lab.zarr/d/a/v1/s0",
        "lab.zarr/d/a/x1",
        "~nobody-of-that-name/lab",
        "n" * 300,
    ):
        with pytest.raises((NotFound, InvalidInput)):
            emstore.open(str(tmp_path / ref) if not ref.startswith("~") else ref)


def test_storage_that_overwrites_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import obstore

    real = obstore.put

    def careless(store: Any, key: str, data: Any, *, mode: str = "overwrite", **options: Any) -> Any:
        return real(store, key, data, mode="overwrite", **options)

    monkeypatch.setattr("emstore.store.backend.obstore.put", careless)
    with pytest.raises(StorageFailed) as told:
        emstore.create_store(str(tmp_path / "lab.zarr"))
    assert told.value.kind is Kind.STORE_UNSAFE
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_store_over_plain_http(tmp_path: Path) -> None:
    emstore.create_store(str(tmp_path / "lab.zarr"))
    seal(volume("small", ramp((9, 8), "u1"), Axis("y", 9), Axis("x", 8)), f"{tmp_path}/lab.zarr/d/a")
    with serve(tmp_path) as served:
        version = emstore.open(f"{served.url}/lab.zarr/d/a/v1")
        assert (version.array()[:, :] == ramp((9, 8), "u1")).all()
        backend = open_backend(f"{served.url}/lab.zarr")
        with pytest.raises((StorageFailed, InvalidInput)):
            backend.put_new("new", b"x")
    [checked] = verify(open_store(str(tmp_path / "lab.zarr")), Place("d", "a", 1), data=True)
    assert checked.ok


@pytest.mark.parametrize("number", [13, 30])
def test_a_place_that_may_not_be_written_says_so(number: int) -> None:
    """As obstore words it where a folder cannot be made: a general failure, whatever the reason."""
    said = RuntimeError(f"Generic LocalFileSystem error: Unable to create dir /lab: Refused (os error {number})\n\nDebug ...")
    explained = Backend(None, "lab.zarr")._explain(said, "key")
    assert str(explained).startswith("lab.zarr/key: writing is not allowed there\n  -> check the file permissions")
