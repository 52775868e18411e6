"""Bytes under keys, on disk or on an object store: the one door to obstore.

Everything a store does to storage is one of the few verbs here. Keys are ``/``-separated, relative to the store's root.
`Backend.put_new` is the verb that commits rest on: exactly one writer of a key wins, and one whose answer was lost can tell
by reading back. obstore's local backend creates ``key#n`` beside the key and links it into place, so a killed writer
leaves only such a temporary, which `Backend.leftovers` finds.
"""

import contextlib
import os
import random
import re
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import obstore
from blake3 import blake3
from obstore import exceptions as obx

from emstore.errors import Capacity, Conflict, EmstoreError, InvalidInput, Kind, NotFound, StorageFailed

Buffer = bytes | bytearray | memoryview

_ATTEMPTS: Final = 5
_PIECE: Final = 1 << 20
_NO_SPACE: Final = re.compile(r"os error (28|122)\b|No space left|QuotaExceeded|InsufficientStorage", re.IGNORECASE)
_NO_RANGE: Final = re.compile(r"status code: 416\b|Requested range was invalid|start is larger than length", re.IGNORECASE)
_NO_BUCKET: Final = re.compile(r"NoSuchBucket|ContainerNotFound|specified bucket does not exist", re.IGNORECASE)
_NO_CREDENTIALS: Final = re.compile(r"//(169\.254\.169\.254|169\.254\.170\.2|metadata\.google\.internal|metadata)/")
"""What obstore says when it found no credentials and asked the cloud's own machines for some, which are not there."""
_NO_ANSWER: Final = re.compile(r"error sending request|kind: (Connect|Timeout)|dns error|operation timed out", re.IGNORECASE)
_SERVER: Final = re.compile(r"(https?://)(?:[^/\s@]*@)?([^/\s?]+)")
_TEMPORARY: Final = re.compile(r"#\d+$")


@dataclass(frozen=True)
class Entry:
    """One stored object."""

    key: str
    size: int


class Backend:
    """Storage below one root.

    Parameters
    ----------
    store : obstore store
        Where the bytes are.
    url : str
        What to call it in messages; holds no credentials.
    root : Path, optional
        The folder, when the storage is a local disk.
    """

    def __init__(self, store: Any, url: str, root: Path | None = None) -> None:
        self._store = store
        self.url = url
        self.root = root

    # -- reading ---------------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises
        ------
        NotFound
            There is no such object.
        """
        with self._errors(key):
            return bytes(obstore.get(self._store, key).bytes())

    def digest(self, key: str) -> tuple[int, str]:
        """Return an object's size, bytes, and its ``blake3:hex``; of one on disk only a piece is held at a time.

        Raises
        ------
        NotFound
            There is no such object.
        """
        size, hasher = 0, blake3()
        for piece in self._pieces(key):
            size += len(piece)
            hasher.update(piece)
        return size, f"blake3:{hasher.hexdigest()}"

    def find(self, key: str) -> bytes | None:
        """Return an object's bytes, or ``None`` when there is no such object; that there is no bucket is an error."""
        with self._errors(key):
            try:
                return bytes(obstore.get(self._store, key).bytes())
            except FileNotFoundError as error:
                if self._no_bucket(error):
                    raise
                return None

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`; fewer where the object ends."""
        with self._errors(key):
            if self.root is not None:
                with self._opened(key) as file:
                    return os.pread(file, length, start)
            with _nothing_there() as got:
                got.append(bytes(obstore.get_range(self._store, key, start=start, length=length)))
            return got[0]

    def get_ranges(self, key: str, starts: list[int], lengths: list[int]) -> list[bytes]:
        """Return several ranges of one object, near ones fetched together."""
        with self._errors(key):
            return [bytes(part) for part in obstore.get_ranges(self._store, key, starts=starts, lengths=lengths)]

    def get_suffix(self, key: str, length: int) -> bytes:
        """Return the last `length` bytes, or all of a shorter object."""
        with self._errors(key):
            if self.root is not None:
                with self._opened(key) as file:
                    size = os.fstat(file).st_size
                    return os.pread(file, length, max(0, size - length))
            with _nothing_there() as got:
                got.append(bytes(obstore.get(self._store, key, options={"range": {"suffix": length}}).bytes()))
            return got[0]

    def size(self, key: str) -> int:
        """Return an object's size, bytes."""
        with self._errors(key):
            return int(obstore.head(self._store, key)["size"])

    def stamp(self, key: str) -> str:
        """Return what differs when an object is replaced: its entity tag, or else its size and time."""
        with self._errors(key):
            found = obstore.head(self._store, key)
            return str(found["e_tag"] or f"{found['size']} {found['last_modified'].isoformat()}")

    def path(self, key: str) -> Path | None:
        """Return an object's local path, or ``None`` on an object store."""
        return None if self.root is None else self.root / key

    def entries(self, prefix: str) -> Iterator[Entry]:
        """List every object below `prefix`, in no stated order."""
        with self._errors(prefix):
            for page in obstore.list(self._store, prefix=prefix.rstrip("/") or None):
                for item in page:
                    if not prefix or item["path"].startswith(prefix):
                        yield Entry(item["path"], int(item["size"]))

    def children(self, prefix: str) -> list[str]:
        """Return the names of the folders right below `prefix`, sorted."""
        with self._errors(prefix):
            listing = obstore.list_with_delimiter(self._store, prefix.rstrip("/") or None)
        return sorted(str(p).rstrip("/").rsplit("/", 1)[-1] for p in listing["common_prefixes"])

    # -- writing ---------------------------------------------------------------------------------------------------

    def put_new(self, key: str, data: Buffer) -> bool:
        """Create an object that must not exist yet.

        Returns
        -------
        bool
            ``True`` when the object now holds exactly `data`, written by us or, after an answer that got lost, found so;
            ``False`` when it was there already with other bytes.
        """
        for attempt in range(_ATTEMPTS):
            try:
                obstore.put(self._store, key, data, mode="create", use_multipart=False)
            except obx.AlreadyExistsError:
                return self.find(key) == bytes(data)
            except (obx.PreconditionError, obx.GenericError) as error:
                # Applied-but-failed, a conflict between two conditional writers, or a passing fault: only a read tells.
                if self._permanent(error) or attempt == _ATTEMPTS - 1:
                    raise self._explain(error, key) from error
                there = self.find(key)
                if there is not None:
                    return there == bytes(data)
                time.sleep(random.uniform(0, 0.1 * 2**attempt))
            except Exception as error:
                raise self._explain(error, key) from error
            else:
                return True
        raise AssertionError("unreachable")

    def put_over(self, key: str, data: bytes) -> None:
        """Write an object whether it exists or not. Only for leases: nothing else is ever changed."""
        with self._errors(key):
            obstore.put(self._store, key, data, use_multipart=False)

    def delete(self, keys: list[str]) -> None:
        """Delete objects; missing ones are fine. On disk, folders left empty go too."""
        if not keys:
            return
        with self._errors(keys[0]):
            if self.root is None:
                obstore.delete(self._store, keys)
                return
        for key in keys:
            path = self.root / key
            path.unlink(missing_ok=True)
            parent = path.parent
            while parent != self.root:
                try:
                    parent.rmdir()
                except OSError:
                    break
                parent = parent.parent

    def flush(self, key: str) -> None:
        """Make one object's bytes durable, though not yet the folder that names it. Object stores do so on their own."""
        if self.root is not None:
            with self._errors(key):
                _fsync(self.root / key)

    def sync(self, keys: list[str], *, flushed: Collection[str] = frozenset()) -> None:
        """Make objects and the folders that name them durable; the bytes of those in `flushed` are so already."""
        if self.root is None:
            return
        folders: set[Path] = set()
        for key in keys:
            path = self.root / key
            if key not in flushed:
                self.flush(key)
            parent = path.parent
            while parent not in folders:
                folders.add(parent)
                if parent == self.root:
                    break
                parent = parent.parent
        for folder in sorted(folders, key=lambda p: len(p.parts), reverse=True):
            with self._errors(folder.relative_to(self.root).as_posix()):
                _fsync(folder)

    def free_bytes(self) -> int | None:
        """Return the free space, bytes; ``None`` where the question makes no sense."""
        if self.root is None:
            return None
        at = self.root
        while not at.exists():
            at = at.parent
        return shutil.disk_usage(at).free

    def leftovers(self, prefix: str) -> list[str]:
        """Return keys that obstore's listing hides: temporaries of killed writers, and links (disk only)."""
        if self.root is None:
            return []
        found = []
        for folder, folders, files in os.walk(self.root / prefix):
            here = Path(folder)
            for name in [*files, *folders]:
                path = here / name
                if path.is_symlink() or (name in files and _TEMPORARY.search(name)):
                    found.append(path.relative_to(self.root).as_posix())
        return sorted(found)

    def probe(self) -> None:
        """Check that create-only puts are honoured here, before anything rests on them.

        Raises
        ------
        StorageFailed
            Kind ``store_unsafe``: a second create of the same key succeeded.
        """
        key = f".emstore-probe/{time.time_ns():x}-{random.getrandbits(64):x}"
        try:
            if not self.put_new(key, b"1"):
                raise StorageFailed("a fresh key held other bytes", where=self.url, kind=Kind.STORE_UNSAFE)
            try:
                obstore.put(self._store, key, b"2", mode="create", use_multipart=False)
            except (obx.AlreadyExistsError, obx.PreconditionError):
                return
            except Exception as error:
                raise self._explain(error, key) from error
            raise StorageFailed(
                "this storage does not honour create-only writes (If-None-Match), so versions could be overwritten",
                where=self.url,
                fix="use a service that does; reading from here is still possible",
                kind=Kind.STORE_UNSAFE,
            )
        finally:
            with contextlib.suppress(EmstoreError):
                self.delete([key])

    def _pieces(self, key: str) -> Iterator[memoryview]:
        """Yield an object's bytes from front to back, each piece in the place of the one before."""
        if self.root is None:
            yield memoryview(self.get(key))
            return
        with self._errors(key), self._opened(key) as file:
            room = memoryview(bytearray(_PIECE))  # fresh memory for every object would take longer than reading it
            while count := os.readv(file, [room]):
                yield room[:count]

    @contextlib.contextmanager
    def _opened(self, key: str) -> Iterator[int]:
        """Open a local object for reading; a link in its place is not followed."""
        assert self.root is not None
        file = os.open(f"{self.root}/{key}", os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        try:
            yield file
        finally:
            os.close(file)

    # -- errors ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except EmstoreError:
            raise
        except Exception as error:
            raise self._explain(error, key) from error

    @staticmethod
    def _permanent(error: Exception) -> bool:
        # obstore has asked an unreachable server often enough before it says so.
        text = str(error)
        return "os error" in text or any(words.search(text) for words in (_NO_SPACE, _NO_ANSWER, _NO_CREDENTIALS))

    def _no_bucket(self, error: Exception) -> bool:
        return self.root is None and bool(_NO_BUCKET.search(str(error)))

    def _explain(self, error: Exception, key: str) -> EmstoreError:
        """Turn a storage library's exception into one of ours, without its debug dump or any query string."""
        text = re.sub(r"\?\S+", "?...", str(error).split("\n", 1)[0])[:300]
        where = f"{self.url}/{key}"
        if self.root is None and (known := self._explain_service(str(error))) is not None:
            return known
        match error:
            case FileNotFoundError():
                return NotFound("there is no such object", where=where)
            case obx.PermissionDeniedError() | obx.UnauthenticatedError() | PermissionError():
                return StorageFailed("access was refused", where=where, fix="check the credentials or the file permissions")
            case obx.AlreadyExistsError():
                return Conflict("it already exists", where=where)
            case ValueError():
                return InvalidInput(f"not a usable key: {text}", where=where, kind=Kind.BAD_NAME)
        # obstore reports a folder that may not be created as a general failure, with the system's words in it.
        if "os error 13)" in text or "os error 30)" in text:
            return StorageFailed(
                "writing is not allowed there", where=where, fix="check the file permissions, or use another place"
            )
        if _NO_SPACE.search(str(error)) or getattr(error, "errno", None) in (28, 122):
            return Capacity(
                "the disk is full",
                where=self.url,
                fix="free some space and run the same command again: it resumes",
                kind=Kind.DISK_FULL,
            )
        return StorageFailed(
            text, where=where, fix="try again later; if it stays so, show this to whoever runs the storage or the disk"
        )

    def _explain_service(self, said: str) -> EmstoreError | None:
        """Return what is wrong with an object store as a whole, if that is what was said."""
        if _NO_BUCKET.search(said):
            return NotFound("there is no such bucket", where=self.url, fix="check its name and the endpoint, or create it")
        if _NO_CREDENTIALS.search(said):
            return StorageFailed(
                "there are no credentials for this storage",
                where=self.url,
                fix="set them in the environment, for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )
        if not _NO_ANSWER.search(said):
            return None
        server = _SERVER.search(said)
        return StorageFailed(
            f"the storage service{f' at {server[1]}{server[2]}' if server else ''} does not answer",
            where=self.url,
            fix="check the network, and that AWS_ENDPOINT_URL, if set, names a service that runs; then try again",
        )


@contextlib.contextmanager
def _nothing_there() -> Iterator[list[bytes]]:
    """Take a server's refusal of a range beyond the end (RFC 9110, 15.5.17) for what it says: no bytes."""
    got: list[bytes] = []
    try:
        yield got
    except obx.GenericError as error:
        if not _NO_RANGE.search(str(error)):
            raise
        got.append(b"")


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
