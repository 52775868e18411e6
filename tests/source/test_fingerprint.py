"""Source files are cited by the digests anybody can check, and read close behind the ingest."""

import os
import time
from pathlib import Path

import pytest
from blake3 import blake3

from emstore import fingerprint
from emstore.errors import Kind, SourceUnreadable


def test_digests_are_those_of_the_bytes(tmp_path: Path) -> None:
    one, folder = tmp_path / "one", tmp_path / "folder"
    one.write_bytes(os.urandom(9 << 20))
    (folder / "inner").mkdir(parents=True)
    (folder / "b").write_bytes(b"b")
    (folder / "inner" / "a").write_bytes(b"a")
    hasher = fingerprint.Hasher([one, folder], 100)
    file, whole = hasher.result()
    hasher.close()
    assert file == f"blake3:{blake3(one.read_bytes()).hexdigest()}"
    listing = "".join(f"{name}\0{blake3(data).hexdigest()}\n" for name, data in [("b", b"b"), ("inner/a", b"a")])
    assert whole == f"blake3:{blake3(listing.encode()).hexdigest()}"


def test_the_hasher_follows_the_ingest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "SLACK", 1 << 20)
    monkeypatch.setattr(fingerprint, "BLOCK", 1 << 18)
    path = tmp_path / "big"
    path.write_bytes(bytes(16 << 20))
    hasher = fingerprint.Hasher([path], 1000)

    def settled() -> int:
        before = -1
        while before != hasher._read:
            before = hasher._read
            time.sleep(0.2)
        return before

    assert 0 < settled() <= (1 << 20) + (1 << 18)
    hasher.advance(500)
    assert 8 << 20 <= settled() <= (9 << 20) + (1 << 18)
    hasher.close()
    assert hasher._read < 16 << 20


def test_a_file_that_goes_away_or_changes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    path.write_bytes(b"1")
    mark = fingerprint.Fingerprint.of(path)
    mark.check_unchanged()
    path.write_bytes(b"12")
    with pytest.raises(SourceUnreadable) as caught:
        mark.check_unchanged()
    assert caught.value.kind is Kind.SOURCE_CHANGED
    hasher = fingerprint.Hasher([path], 1)
    hasher.close()
    path.unlink()
    with pytest.raises(SourceUnreadable, match="went away"):
        mark.check_unchanged()
