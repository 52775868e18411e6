"""Named arrays and one JSON document in one file, as ``numpy.load`` opens it (``.npz``); never anything that is run.

A file is a zip archive of ``.npy`` members and one ``facts.json``. The same content gives the same bytes. What is read is taken
for hostile: sizes are checked before anything is unpacked, and no member is a pickle.
"""

import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from emstore.errors import InvalidInput, SourceUnreadable

FACTS: Final = "facts.json"
MOST_FACTS: Final = 4 << 20
"""Largest JSON document, bytes."""
MOST_ARRAYS: Final = 4096
LARGEST: Final = 1 << 30
"""Largest file, and most that all its members may hold unpacked, bytes."""
_HEADER: Final = 4096
"""Longest header of an array, bytes."""
_PART: Final = r"(?!__)[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_NAME: Final = re.compile(rf"(?=.{{1,512}}\Z){_PART}(/{_PART})*")
"""Of an array; the names that a store takes too, none of which leaves a folder."""
_BEGINNING: Final = (1980, 1, 1, 0, 0, 0)
_DAMAGE: Final = (
    ValueError,
    KeyError,
    EOFError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    SyntaxError,
)


def write(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a file whole: beside its place first, then renamed.

    Parameters
    ----------
    path : Path
    facts : mapping
        JSON-safe.
    arrays : mapping of str to ndarray
        Numbers, by names such as ``encoder_1/kernel``; their order is kept.

    Raises
    ------
    InvalidInput
        `read` would refuse it: facts that are not JSON, a name that is none, values that are no numbers, too much of all.
    """
    where = path.name
    try:
        text = json.dumps(facts, sort_keys=True, allow_nan=False, indent=1)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"its facts are not plain finite values ({error})", where=where, fix="say None for what is not known"
        ) from None
    for name, values in arrays.items():
        if not _NAME.fullmatch(name) or values.dtype.kind not in "biuf":
            raise InvalidInput(f"array {name[:80]!r} of {values.dtype} cannot be written to a file", where=where)
    total = sum(values.nbytes + _HEADER for values in arrays.values())
    if len(text) > MOST_FACTS or len(arrays) > MOST_ARRAYS or total > LARGEST - MOST_FACTS:
        raise InvalidInput(f"{len(arrays)} arrays of {total} bytes are more than a file may hold", where=where)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo(FACTS, _BEGINNING), text, zipfile.ZIP_DEFLATED)
            for name, values in arrays.items():
                buffer = io.BytesIO()
                plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
                npy.write_array(buffer, plain.reshape(values.shape), version=(1, 0), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy", _BEGINNING), buffer.getvalue(), zipfile.ZIP_DEFLATED)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Read a file that `write` wrote, trusting nothing of it.

    Returns
    -------
    facts : dict
    arrays : dict of str to ndarray
        In the file's order, native byte order.

    Raises
    ------
    SourceUnreadable
        It is no such file, damaged, or larger than the caps of this module.
    """
    where = path.name
    try:
        if path.stat().st_size > LARGEST:
            raise _refused(f"has {path.stat().st_size} bytes; at most {LARGEST} are read", where)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check(members, where)
            facts = _facts(_content(archive, members[0]), where)
            arrays = {each.filename.removesuffix(".npy"): _array(_content(archive, each), each.filename) for each in members[1:]}
    except SourceUnreadable:
        raise
    except OSError as error:
        raise _refused(f"cannot be read: {error.strerror or 'the file failed'}", where) from error
    except _DAMAGE as error:
        raise _refused(f"is no weights file, or damaged ({error})", where) from error
    return facts, arrays


def _check(members: list[zipfile.ZipInfo], where: str) -> None:
    if not members or members[0].filename != FACTS:
        raise _refused(f"does not begin with {FACTS}", where)
    if len(members) > MOST_ARRAYS + 1:
        raise _refused(f"holds {len(members)} members; at most {MOST_ARRAYS + 1} are read", where)
    names = [each.filename for each in members]
    if len(set(names)) != len(names):
        raise _refused("names a member twice", where)
    for each in members[1:]:
        if not each.filename.endswith(".npy") or not _NAME.fullmatch(each.filename.removesuffix(".npy")):
            raise _refused(f"has a member {each.filename[:80]!r}, which is no array's name", where)
    if any(each.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or each.flag_bits & 1 for each in members):
        raise _refused("is packed by an unknown method or encrypted", where)
    if members[0].file_size > MOST_FACTS or sum(each.file_size for each in members) > LARGEST:
        raise _refused(f"unpacks to more than {LARGEST} bytes, or its facts to more than {MOST_FACTS}", where)


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as stream:
        data = stream.read(member.file_size + 1)
    if len(data) != member.file_size:
        raise ValueError(f"{member.filename} is not as long as it says")
    return data


def _facts(data: bytes, where: str) -> dict[str, Any]:
    def constant(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        found = json.loads(data, parse_constant=constant)
    except RecursionError as error:
        raise _refused("nests its facts too deeply", where) from error
    if not isinstance(found, dict):
        raise _refused("holds facts that are no object", where)
    return found


def _array(data: bytes, name: str) -> npt.NDArray[Any]:
    stream = io.BytesIO(data)
    if npy.read_magic(stream) != (1, 0):
        raise ValueError(f"{name} is of another version than 1.0")
    shape, fortran, dtype = npy.read_array_header_1_0(stream, max_header_size=_HEADER)
    if dtype.kind not in "biuf" or dtype.hasobject:
        raise ValueError(f"{name} holds {dtype}, not plain numbers")
    size = dtype.itemsize
    for n in shape:
        size *= n
    if min(shape, default=0) < 0 or len(shape) > 8 or size != len(data) - stream.tell():
        raise ValueError(f"{name} has other bytes than its shape {shape[:8]} says")
    values = np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")
    return values.astype(dtype.newbyteorder("="))


def _refused(what: str, where: str) -> SourceUnreadable:
    return SourceUnreadable(what, where=where, fix="get the file again from where it came")
