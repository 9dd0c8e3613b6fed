"""Photographs without labels: a folder of them, and data that has them beside its own.

A student learns from them what a teacher says of them (`trainers.engine.learner`). They are no part
of a class or of a split: however deep in the folder they lie, all of them are trained on.
"""

from dataclasses import replace
from pathlib import Path

import torch

from space.errors import InputError
from space.fingerprint import fingerprint
from trainers.data.cache import CHANNELS, decoded
from trainers.data.datasets import FINGERPRINT_DIGITS, Data, Split, tell_left_out, tell_skipped
from trainers.data.layouts import Listing
from trainers.data.walk import LeftOut, in_words, walk
from trainers.losses import NO_LABEL


def with_unlabelled(data: Data, folder: str, *, cache: Path, progress: bool = True) -> Data:
    """The data, with a folder's photographs to learn from without labels, at all its sizes.

    Args:
        cache: folder for decoded photographs; made where it is missing.
        progress: as of `load`.

    Raises:
        InputError: there is no such folder, it holds no photograph, or the data's images have
            other channels than photographs.
    """
    if data.channels != CHANNELS:
        raise InputError(
            f"photographs without labels need data of photographs, but {data.name!r} has images "
            "of one channel; choose --data FOLDER, or leave --unlabelled out"
        )
    listing = unlabelled_listing(folder)
    joined = _joined(data, listing, cache, progress)
    if progress:
        tell_left_out(listing)
    return joined


def unlabelled_listing(folder: str) -> Listing:
    """The photographs of a folder, in any depth, none of them labelled.

    Raises:
        InputError: there is no such folder, or it holds no photograph.
    """
    root = Path(folder)
    if not folder or not root.is_dir():
        found = "a file" if folder and root.exists() else "nothing there"
        raise InputError(
            f"unlabelled must be a folder of photographs, but {folder or repr(folder)} is {found}"
        )
    try:
        photographs, left_out = walk(root)
    except OSError as error:
        raise InputError(
            f"a folder of photographs must be readable, but {error.filename or root}: "
            f"{error.strerror}"
        ) from None
    if not photographs:
        useless = f" ({in_words(left_out, len(left_out))})" if left_out else ""
        raise InputError(
            f"unlabelled must be a folder of photographs, but {root} holds none{useless}; "
            "put some there, or leave --unlabelled out"
        )
    within = tuple(LeftOut(f"{root.name}/{file.name}", file.reason) for file in left_out)
    return Listing(root, photographs, (NO_LABEL,) * len(photographs), within)


def _joined(data: Data, listing: Listing, cache: Path, progress: bool) -> Data:
    """One size after the other; what is skipped is told once."""
    opened = decoded(listing, data.size, cache=cache, progress=progress)
    if progress:
        tell_skipped(opened.skipped, len(listing.photographs))
    others = {size: _joined(its, listing, cache, False) for size, its in data.others.items()}
    for size, its in others.items():
        if its.unlabelled is None or len(its.unlabelled) != len(opened.kept):
            raise InputError(
                f"{listing.folder} must hold the same photographs at every size, but differs at "
                f"{data.size} and {size} pixels; remove photographs that are damaged"
            )
    labels_N = torch.full((len(opened.kept),), NO_LABEL)
    content = [opened.content.digest, opened.content.decoder]
    return replace(
        data,
        unlabelled=Split(torch.from_numpy(opened.images_NCHW), labels_N),
        unlabelled_fingerprint=fingerprint(content, digits=FINGERPRINT_DIGITS),
        others=others,
    )
