"""What is kept under version control speaks of the project alone."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()

# A folder of somebody's machine.
TOPS = "|".join(("home", "root", "Users", "work", "tmp", "opt", "mnt"))
MACHINE_PATH = re.compile(rf"(?<![\w.:/~$}}])/({TOPS})/[A-Za-z0-9_.]")
EXAMPLES = {"tests/architecture/test_words.py", "tests/support/hostile_files.py"}  # paths that are the point of the file


def tracked() -> list[str]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=30)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def text_of(name: str) -> str | None:
    data = (ROOT / name).read_bytes()
    return None if b"\0" in data else data.decode("utf-8")


def test_no_file_names_a_folder_of_one_machine() -> None:
    found = []
    for name in tracked():
        if name in EXAMPLES or (text := text_of(name)) is None:
            continue
        found += [f"{name}:{n}: {line.strip()}" for n, line in enumerate(text.splitlines(), 1) if MACHINE_PATH.search(line)]
    assert found == []


@pytest.mark.parametrize("line", ["data = '/home/ann/scan.tif'", 'open("/tmp/x")', "cd /mnt/data/x"])
def test_the_search_finds_what_it_looks_for(line: str) -> None:
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize("line", ["s3://bucket/tmp/raw", "file:///home/x", "$HOME/tmp/x", "a/tmp/b", "https://x.org/home/y"])
def test_the_search_leaves_urls_and_relative_paths_alone(line: str) -> None:
    assert not MACHINE_PATH.search(line)


def test_no_file_is_large() -> None:
    assert [name for name in tracked() if (ROOT / name).stat().st_size > 500_000] == []


@pytest.mark.parametrize("path", re.findall(r"`((?:emstore|adapters|schemas|tests|examples)(?:/[\w/.]*)?)`(?= \||,)", README))
def test_the_rooms_the_readme_names_exist(path: str) -> None:
    assert (ROOT / path).exists()
