"""No host, user, path or secret reaches what is sealed, shown or given away, though all of them are planted."""

import getpass
import os
import platform
import socket
from pathlib import Path

import numpy as np
import pytest
import tifffile

import emstore
from command_line import call
from descent import cite, make
from emstore.errors import InvalidInput
from emstore.lineage import Index, find, lineage
from emstore.store import create_store

SECRET = "planted-s3cr3t"
USER = "planteduser"
HOST = "plantedhost"


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home folder whose path, like the environment, gives things away."""
    home = tmp_path / "home" / USER
    home.mkdir(parents=True)
    for name in ("USER", "LOGNAME", "USERNAME", "LNAME"):
        monkeypatch.setenv(name, USER)
    monkeypatch.setenv("HOME", str(home))
    for name in ("HOSTNAME", "COMPUTERNAME", "HOST"):
        monkeypatch.setenv(name, HOST)
    monkeypatch.setattr(socket, "gethostname", lambda: HOST)
    monkeypatch.setattr(platform, "node", lambda: HOST)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{USER}:{SECRET}@127.0.0.1:9")
    assert getpass.getuser() == USER
    return home


def leaks(text: str, *more: str) -> list[str]:
    hidden = [SECRET, USER, HOST, socket.gethostname(), os.uname().nodename, str(Path(__file__).parents[2]), *more]
    return [each for each in hidden if each and each in text]


def test_nothing_planted_comes_out(planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(planted / "scan.tif", np.arange(64, dtype=np.uint8).reshape(8, 8))
    lab, other = str(planted / "lab.zarr"), str(planted / "other.zarr")
    create_store(lab)
    create_store(other)
    (one,) = emstore.ingest([str(planted / "scan.tif")], f"{lab}/em/raw")
    raw = one.version
    smooth = make(f"{other}/em/smooth", [cite(raw, store=raw.store.id)], params={"sigma": 1.0})
    last = make(f"{lab}/em/last", [cite(smooth, store=smooth.store.id)], name="measure.statistics")
    find("", lab, other)
    found = lineage(last.ref, down=True)
    found.crate(tmp_path / "crate")
    texts = {
        "tree": found.tree(),
        "json": str(found.to_json()),
        "svg": found.svg(),
        "prov": found.prov(),
        "repr": repr(found),
        **{str(file): file.read_text() for file in (tmp_path / "crate").rglob("*") if file.is_file()},
        **{str(seal): seal.read_text() for seal in planted.rglob("zarr.json")},
    }
    assert len(texts) > 15
    assert "scan.tif" in texts["tree"]
    for name, text in texts.items():
        assert leaks(text, str(planted), str(tmp_path)) == [], name


def test_notes_name_no_path(planted: Path) -> None:
    lab, other = planted / "lab.zarr", planted / "other.zarr"
    create_store(str(lab))
    create_store(str(other))
    raw = make(f"{lab}/em/raw")
    make(f"{other}/em/smooth", [cite(raw, store=raw.store.id)])
    find("", str(lab), str(other))
    other.rename(planted / "unplugged")
    done = call("lineage", raw.ref, "--down", "--json")
    assert "other.zarr" in done.stderr
    assert leaks(done.stdout + done.stderr, str(planted)) == []


def test_a_url_with_credentials_is_refused_and_never_kept(planted: Path, cache: Path) -> None:
    for verb in (("find", ""), ("lineage",)):
        done = call(*verb, f"s3://{USER}:{SECRET}@bucket/lab/a/b?token={SECRET}")
        assert done.returncode == 2
        assert leaks(done.stdout + done.stderr) == []
    with pytest.raises(InvalidInput) as refusal:
        lineage(f"https://{USER}:{SECRET}@127.0.0.1/lab/a/b")
    assert leaks(str(refusal.value)) == []
    create_store(str(planted / "lab.zarr"))
    find("", str(planted / "lab.zarr"))
    kept = b"".join(file.read_bytes() for file in cache.iterdir())
    assert SECRET.encode() not in kept
    with Index() as index:
        assert [store.url for store in index.stores()] == [str(planted / "lab.zarr")]


@pytest.mark.parametrize("word", [SECRET, USER, HOST])
def test_the_search_finds_what_is_planted(word: str) -> None:
    assert leaks(f"before {word} after") == [word]
