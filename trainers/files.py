"""Files that are whole or absent: written beside their place, flushed to the disk, renamed."""

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from space.errors import InputError

DIGEST_BYTES = 32


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Put at `path` what `write` writes to the open file it is given.

    Readers see the old file or the whole new one. Whatever goes wrong (a full disk, Ctrl-C, an
    exception of `write`'s own), the temporary file is removed and what was at `path` stays.

    Raises:
        OSError: the folder is missing or cannot be written, or the disk is full.
    """
    # The same folder, because a rename is atomic within one file system only; a random name,
    # because several processes may write the same file at the same time.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def cache_errors(folder: Path) -> Iterator[None]:
    """Turn a system error about the cache folder, or about a file in it, into one line."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:  # of the terminal, not of the disk
            raise
        raise InputError(
            f"the cache folder must have room and be writable, but {error.filename or folder}: "
            f"{error.strerror}; free some space or choose another cache folder: --cache FOLDER"
        ) from None


def sealed(payload: bytes) -> list[bytes]:
    """The payload with its SHA-256 in front, as the parts of a file."""
    return [hashlib.sha256(payload).digest(), payload]


def unsealed(path: Path) -> bytes | None:
    """The payload of a sealed file; None where it is missing or any bit of it has changed."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    payload = content[DIGEST_BYTES:]
    return payload if hashlib.sha256(payload).digest() == content[:DIGEST_BYTES] else None


def copy_atomically(source: Path, path: Path) -> int:
    """Put a copy of `source` at `path`, as `write_atomically` does; returns its bytes."""
    content = source.read_bytes()
    write_atomically(path, lambda file: file.write(content))
    return len(content)


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
