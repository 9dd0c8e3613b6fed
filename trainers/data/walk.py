"""Which files below a folder are photographs, and which are left out and why.

The folder is walked as torchvision's ImageFolder does it: folders within folders count, and links
are followed.
"""

import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from trainers.data.photographs import SUFFIXES, is_photograph, pillow_warnings

# What version 0.1 took for photographs, in a split's folder and in the folders in it.
FIRST_SUFFIXES, FIRST_DEPTH = (".jpg", ".jpeg", ".png", ".webp"), 1
SHOWN = 5  # files of a kind that are named on standard error

HIDDEN, EMPTY, NO_IMAGE = "hidden", "empty", "not an image that is read"
BROKEN, CIRCLE, NO_FILE = "a broken link", "a link to a folder above it", "not a file"

Device = tuple[int, int]  # a folder's device and number: links have those of what they lead to


@dataclass(frozen=True, slots=True)
class Photograph:
    """One file, with what tells whether it has changed."""

    name: str  # path within the split's folder, "/" between its parts, in Unicode's form NFC
    bytes: int
    modified: int  # nanoseconds since 1970
    path: str  # the name as it is on the disk


class LeftOut(NamedTuple):
    """A file, or a folder with all that is in it."""

    name: str  # path within the split's folder; a folder's ends in "/"
    reason: str


def normal(name: str) -> str:
    """A name in the form in which names are compared: a zip file from a Mac has another one."""
    return unicodedata.normalize("NFC", name)


def printable(name: str) -> str:
    """A name in one line, even where it holds line breaks or bytes that are no text."""
    odd = [c for c in name if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    return name.translate({ord(c): c.encode("unicode_escape").decode() for c in odd})


def walk(folder: Path) -> tuple[tuple[Photograph, ...], tuple[LeftOut, ...]]:
    """Photographs and what is left out, each sorted by name.

    Raises:
        OSError: a folder cannot be read.
    """
    with pillow_warnings():
        found = list(_below(folder, "", frozenset()))
    photographs = (file for file in found if isinstance(file, Photograph))
    left_out = (file for file in found if isinstance(file, LeftOut))
    return (
        tuple(sorted(photographs, key=lambda file: (file.name, file.path))),
        tuple(sorted(left_out)),
    )


def as_first(photographs: Iterable[Photograph]) -> tuple[Photograph, ...]:
    """Those that version 0.1 would have listed, in its order and under its names."""
    kept = (
        Photograph(file.path, file.bytes, file.modified, file.path)
        for file in photographs
        if file.path.lower().endswith(FIRST_SUFFIXES) and file.path.count("/") <= FIRST_DEPTH
    )
    return tuple(sorted(kept, key=lambda file: file.name))


def in_words(left_out: Iterable[LeftOut], count: int) -> str:
    """What is left out of `count` files, in one line."""
    kinds = [
        (reason, [printable(file.name) for file in files])
        for reason, files in groupby(sorted(left_out, key=_by_reason), key=_by_reason)
    ]
    parts = [
        f"{reason} ({len(names)}): {', '.join(names[:SHOWN])}{', ...' if names[SHOWN:] else ''}"
        for reason, names in kinds
    ]
    number = sum(len(names) for _, names in kinds)
    return (
        f"{number} of {count} files {'is' if number == 1 else 'are'} left out: {'; '.join(parts)}"
    )


def _by_reason(file: LeftOut) -> str:
    return file.reason


def _below(folder: Path, prefix: str, above: frozenset[Device]) -> Iterator[Photograph | LeftOut]:
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        yield LeftOut(prefix, CIRCLE)
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            try:
                status = entry.stat()
            except OSError as error:
                reason = BROKEN if entry.is_symlink() else str(error.strerror)
                yield LeftOut(path, reason)
                continue
            is_folder = stat.S_ISDIR(status.st_mode)
            if entry.name.startswith("."):
                yield LeftOut(f"{path}/" if is_folder else path, HIDDEN)
            elif is_folder:
                yield from _below(folder / entry.name, f"{path}/", above | {here})
            else:
                reason = _fault(entry, status)
                photograph = Photograph(normal(path), status.st_size, status.st_mtime_ns, path)
                yield LeftOut(path, reason) if reason else photograph


def _fault(entry: os.DirEntry[str], status: os.stat_result) -> str:
    """Why a file is no photograph; empty where it may be one."""
    if not stat.S_ISREG(status.st_mode):
        return NO_FILE
    if entry.name.lower().endswith(SUFFIXES):
        return ""  # whether it can be read shows when it is decoded
    if status.st_size == 0:
        return EMPTY
    try:
        return "" if is_photograph(Path(entry.path)) else NO_IMAGE
    except OSError as error:
        return str(error.strerror)
