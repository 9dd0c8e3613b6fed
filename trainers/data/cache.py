"""Decoded photographs on disk: decoded once, opened as a memory map ever after.

Three kinds of files lie in the cache folder:

    listing-*.json  names, sizes and times of a split's files -> digest of their content, and the
                    first decoder that gave them the pixels that they get now
    *.npy           the photographs of one content digest at one size, uint8 (N, C, H, W)
    *.json          written after it: how large it is, and which photographs are left out

An unchanged folder is recognised without being read; a copy of it elsewhere is read but not
decoded again. Every file is renamed into place, so processes that decode the same folder at the
same time overwrite each other with equal files.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

from space.errors import InputError
from space.fingerprint import ALL_DIGITS, fingerprint
from space.schema import read
from trainers.data.layouts import Listing
from trainers.data.photographs import (
    FIRST,
    UnreadableError,
    decode_unguarded,
    pillow_warnings,
    since,
)
from trainers.data.walk import printable
from trainers.files import cache_errors, write_atomically
from trainers.machine import cores

CHANNELS = 3  # photographs are RGB
UNREADABLE_MAX = 0.01  # share of a split's files
KEY_DIGITS = 24

T = TypeVar("T")


class Content(NamedTuple):
    """What the pixels of a split depend on, and so its place in the cache and its fingerprint."""

    digest: str  # of the names and bytes, hexadecimal
    decoder: int  # the first that gave all these photographs the pixels that they get now


@dataclass(frozen=True, slots=True, kw_only=True)
class _About:
    """What is kept beside decoded photographs."""

    bytes: int  # of the file
    skipped: list[int]  # places of photographs that could not be read


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What is kept of a folder's listing: while `seen` is the same, so is the content."""

    seen: str  # fingerprint of names, sizes and times
    content: str
    decoder: int


Kept = TypeVar("Kept", _About, _Seen)


@dataclass(frozen=True, slots=True)
class Decoded:
    """The readable photographs of one split."""

    images_NCHW: npt.NDArray[np.uint8]  # memory-mapped
    kept: tuple[int, ...]  # their places in the listing
    skipped: tuple[str, ...]  # unreadable files, as messages show them
    content: Content


def decoded(listing: Listing, size: int, *, cache: Path, progress: bool) -> Decoded:
    """Open the cache, decoding the photographs first where they are not in it.

    Raises:
        InputError: a file cannot be opened or changes meanwhile, more than 1 % of the files are
            no readable images, the cache cannot be written.
    """
    # Photographs that are read raise InputError themselves: what arrives here is the cache's own.
    with cache_errors(cache):
        cache.mkdir(parents=True, exist_ok=True)
        content = _content(listing, cache, progress)
        key = f"{content.digest} {size} {CHANNELS} {content.decoder}"
        path = cache / f"{fingerprint(key, digits=KEY_DIGITS)}.npy"
        opened = _open(path, listing, size)
        if opened is None:
            _decode(listing, size, path, progress)
            opened = _open(path, listing, size)
    if opened is None:
        raise InputError(
            f"the cache folder {cache} must keep what is written, but {path.name} has changed; "
            "choose another cache folder"
        )
    images_NCHW, skipped = opened
    left_out = set(skipped)
    kept = tuple(i for i in range(len(listing.photographs)) if i not in left_out)
    return Decoded(images_NCHW, kept, tuple(listing.shown(i) for i in skipped), content)


def _open(
    path: Path, listing: Listing, size: int
) -> tuple[npt.NDArray[np.uint8], list[int]] | None:
    """The cached images and the places left out; None where they are missing or damaged."""
    about = _read_json(_About, path.with_suffix(".json"))
    if about is None or not path.is_file() or path.stat().st_size != about.bytes:
        return None
    skipped = about.skipped
    try:
        # Copy on write: torch wants writable memory, and the file must never change.
        images_NCHW = np.load(path, mmap_mode="c")
    except (ValueError, EOFError):
        return None
    shape = (len(listing.photographs) - len(skipped), CHANNELS, size, size)
    if images_NCHW.shape != shape or images_NCHW.dtype != np.uint8:
        return None
    return images_NCHW, skipped


def _decode(listing: Listing, size: int, path: Path, progress: bool) -> None:
    skipped: list[int] = []

    def write(file: BinaryIO) -> None:
        # In the order of the listing and as they come: memory stays small, and a full disk is
        # an error here, not a crash on a memory-mapped page.
        _write_header(file, len(listing.photographs), size)
        with closing(_pixels(listing, size, progress)) as results:
            for index, pixels in enumerate(results):
                if isinstance(pixels, UnreadableError):
                    skipped.append(index)
                    _check_unreadable(listing, skipped, pixels)
                else:
                    file.write(pixels.tobytes())
        file.seek(0)
        _write_header(file, len(listing.photographs) - len(skipped), size)

    write_atomically(path, write)
    _write_json(path.with_suffix(".json"), _About(bytes=path.stat().st_size, skipped=skipped))


def _write_header(file: BinaryIO, count: int, size: int) -> None:
    """NumPy's header; its length does not depend on the count, so it can be written again."""
    shape = (count, CHANNELS, size, size)
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )


def _check_unreadable(listing: Listing, skipped: list[int], last: UnreadableError) -> None:
    count = len(listing.photographs)
    if len(skipped) > UNREADABLE_MAX * count:
        others = f" and {len(skipped) - 1} before it" if len(skipped) > 1 else ""
        raise InputError(
            f"at most 1 % of {count} photographs may be unreadable, but "
            f"{printable(str(listing.path(skipped[-1])))}{others} cannot be read "
            f"({last}); replace or remove them"
        )


def _pixels(
    listing: Listing, size: int, progress: bool
) -> Generator[npt.NDArray[np.uint8] | UnreadableError]:
    def work(index: int) -> npt.NDArray[np.uint8] | UnreadableError:
        try:
            return decode_unguarded(io.BytesIO(_read(listing, index)), size, CHANNELS)
        except UnreadableError as error:
            return error

    with pillow_warnings():
        yield from _in_parallel(work, listing, "Decoding", progress)


def _content(listing: Listing, cache: Path, progress: bool) -> Content:
    """A split's content; the files are read again only where they changed."""
    folder = fingerprint(os.fsencode(listing.folder.resolve()), digits=KEY_DIGITS)
    path = cache / f"listing-{folder}.json"
    facts = (
        b"%s\0%d\0%d\0" % (os.fsencode(p.name), p.bytes, p.modified) for p in listing.photographs
    )
    seen = fingerprint(*facts, digits=ALL_DIGITS)
    # A file of an earlier version has no decoder: it counts as damaged, and all is read again.
    known = _read_json(_Seen, path)
    if known is not None and known.seen == seen:
        return Content(known.content, known.decoder)
    parts: list[bytes] = []
    decoder = FIRST

    def work(index: int) -> tuple[bytes, int]:
        data = _read(listing, index)
        return hashlib.sha256(data).digest(), since(io.BytesIO(data))

    with pillow_warnings(), closing(_in_parallel(work, listing, "Reading", progress)) as results:
        for photograph, (digest, first) in zip(listing.photographs, results, strict=True):
            parts += (os.fsencode(photograph.name), b"\0", digest)
            decoder = max(decoder, first)
    found = Content(fingerprint(*parts, digits=ALL_DIGITS), decoder)
    _write_json(path, _Seen(seen=seen, content=found.digest, decoder=found.decoder))
    return found


def _read(listing: Listing, index: int) -> bytes:
    photograph, path = listing.photographs[index], listing.path(index)
    try:
        with path.open("rb") as file:
            data = file.read()
            status = os.fstat(file.fileno())
    except OSError as error:
        raise InputError(
            f"photographs must be readable, but {printable(str(path))}: {error.strerror}"
        ) from None
    if (status.st_size, status.st_mtime_ns) != (photograph.bytes, photograph.modified):
        raise InputError(
            f"photographs must not change while they are read, but {path} has; start again"
        )
    return data


def _in_parallel(
    work: Callable[[int], T], listing: Listing, title: str, progress: bool
) -> Generator[T]:
    """`work` of every place in the listing, in its order, with a progress bar.

    Threads: Pillow decodes without the interpreter's lock, so that on photographs of 512 pixels
    they are as fast as processes, and they need no copy of the program.
    """
    console = Console(stderr=True)
    count = len(listing.photographs)
    pool = ThreadPoolExecutor(cores(), "photographs")
    bar = Progress(console=console, transient=True, disable=not (progress and console.is_terminal))
    try:
        with bar:
            task = bar.add_task(f"{title} {listing.folder.name}", total=count)
            for result in pool.map(work, range(count)):
                yield result
                bar.advance(task)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for the rest


def _read_json(kind: type[Kept], path: Path) -> Kept | None:
    """None where the file is missing or damaged."""
    try:
        return read(kind, json.loads(path.read_bytes()), path.name)
    except (FileNotFoundError, ValueError):
        return None


def _write_json(path: Path, data: _About | _Seen) -> None:
    text = json.dumps(asdict(data), separators=(",", ":")).encode()

    def write(file: BinaryIO) -> None:
        file.write(text)

    write_atomically(path, write)
