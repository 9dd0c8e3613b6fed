"""Labelled images as uint8 tensors: scikit-learn's digits, or a folder of photographs.

The layouts of folders are in `trainers.data.layouts`, what is kept on disk in
`trainers.data.cache`.

Shape suffixes: N images, C channels, H x W pixels.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from space.errors import InputError
from space.fingerprint import fingerprint
from space.pyramid import INPUT_SIZES
from trainers.data.cache import CHANNELS, Decoded, decoded
from trainers.data.digits import DIGITS_SIZE, digits
from trainers.data.layouts import DIGIT_NAMES, DIGITS, FIRST_RULES, Layout, Listing, read_layout
from trainers.data.photographs import FIRST, decode
from trainers.data.random import order
from trainers.data.walk import in_words, normal

__all__ = ["DIGITS", "Data", "Split", "decode", "load", "load_test"]

DEFAULT_SIZE = 64  # pixels, of photographs
VALIDATION_SHARE = 0.2  # cut from training where there is no validation split
TEST_SHARE = 0.2  # of the digits
TEST_SEED = 0  # the test split is the same for every seed: nothing else may ever train on it
CUT_LANE, TEST_LANE = 32, 33  # of `trainers.data.random`
FINGERPRINT_DIGITS = 12
SHOWN = 3  # skipped files that are named on standard error


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images and their labels, on the CPU."""

    images_NCHW: torch.Tensor  # uint8; may be memory-mapped from the cache
    labels_N: torch.Tensor  # int64, places in the data's classes

    def __len__(self) -> int:
        return len(self.labels_N)


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """What a network learns from and is chosen by; the test split is not part of it."""

    name: str  # "digits", or the folder's name
    classes: tuple[str, ...]  # names, in the order of the labels
    channels: int  # of the images
    size: int  # pixels; images are size x size
    train: Split
    validation: Split
    fingerprint: str  # of the content, twelve hexadecimal digits; a copy elsewhere has the same
    skipped: tuple[str, ...] = ()  # unreadable files, e.g. "training/3_17.jpg"
    others: "Mapping[int, Data]" = field(default_factory=dict)  # the same images, by their size
    unlabelled: Split | None = None  # further images to train on (`trainers.data.unlabelled`)
    unlabelled_fingerprint: str = ""  # of their files, twelve hexadecimal digits

    def at(self, size: int) -> "Data":
        """The same images in the same order at another of the sizes that they were loaded at."""
        return self if size == self.size else self.others[size]

    @property
    def labelled(self) -> "Data":
        """The same without the images that have no labels."""
        others = {size: its.labelled for size, its in self.others.items()}
        return replace(self, unlabelled=None, unlabelled_fingerprint="", others=others)

    @property
    def words(self) -> str:
        """`photos: 3,000 images to train on, 750 to validate on, 10 classes, 64 pixels`."""
        sizes = ", ".join(map(str, sorted({self.size, *self.others})))
        more = "" if self.unlabelled is None else f"{len(self.unlabelled):,} without labels, "
        return (
            f"{self.name}: {len(self.train):,} images to train on, {more}{len(self.validation):,} "
            f"to validate on, {len(self.classes)} classes, {sizes} pixels"
        )


def load(
    source: str,
    size: int | None = None,
    *,
    others: Iterable[int] = (),
    cache: Path,
    seed: int = 0,
    progress: bool = True,
    fingerprint: str | None = None,
) -> Data:
    """Load the training and the validation split.

    Args:
        source: "digits", or a folder of photographs.
        size: pixels, 4 to 1024; 64 by default, 8 for the digits.
        others: further sizes to load the same images at (`Data.at`).
        cache: folder for decoded photographs; made where it is missing.
        seed: of the validation split where it is cut from training (20 % of each class).
        progress: a progress bar where standard error is a terminal, and lines on it where files
            are left out.
        fingerprint: of the data that a study was made with. Where the folder has it by the rules
            of version 0.1 alone, it is read by these.

    Raises:
        InputError: the folder holds no data that can be used, or the cache cannot be written.
    """
    if source == DIGITS:
        data = _load_digits(_checked(size, DIGITS_SIZE), seed)
        return _with_others(data, others, lambda pixels: _load_digits(pixels, seed))
    layout, pixels = read_layout(Path(source)), _checked(size, DEFAULT_SIZE)
    data = _load_folder(layout, pixels, cache, seed, progress)
    if fingerprint not in (None, data.fingerprint):
        first = _as_first(Path(source), pixels, cache, seed, progress)
        if first is not None and first.fingerprint == fingerprint:
            if progress:
                _tell_first(source, first, data)
            return first
    if progress:
        tell_left_out(layout.train, layout.validation)
    return _with_others(
        data,
        others,
        lambda pixels: _load_folder(layout, pixels, cache, seed, progress, tell=False),
    )


def _with_others(data: Data, others: Iterable[int], at_size: Callable[[int], Data]) -> Data:
    """The data with the same images at other sizes: views are drawn by an image's place."""
    found = {size: at_size(size) for size in sorted({*others} - {data.size})}
    for other in found.values():
        for mine, its in ((data.train, other.train), (data.validation, other.validation)):
            if not torch.equal(mine.labels_N, its.labels_N):
                raise InputError(
                    f"{data.name} must hold the same photographs at every size, but differs at "
                    f"{data.size} and {other.size} pixels; remove photographs that are damaged"
                )
    return replace(data, others=found) if found else data


def _as_first(root: Path, size: int, cache: Path, seed: int, progress: bool) -> Data | None:
    """A folder as version 0.1 read it, where it could."""
    try:
        return _load_folder(read_layout(root, FIRST_RULES), size, cache, seed, progress)
    except InputError:
        return None


def _tell_first(source: str, first: Data, now: Data) -> None:
    counts = [len(data.train) + len(data.validation) for data in (first, now)]
    print(
        f"the study goes on with the {counts[0]} photographs that version 0.1 read of {source}; "
        f"a new study reads {counts[1]}",
        file=sys.stderr,
    )


def tell_left_out(*listings: Listing | None) -> None:
    """Name on standard error what is left out of splits, if anything is."""
    held = [listing for listing in listings if listing is not None]
    left_out = [file for listing in held for file in listing.left_out]
    if left_out:
        count = len(left_out) + sum(len(listing.photographs) for listing in held)
        print(in_words(left_out, count), file=sys.stderr)


def load_test(
    source: str, size: int | None = None, *, cache: Path, progress: bool = True
) -> tuple[Split, tuple[str, ...]]:
    """Load the test split and the names of its classes: for the final figure, never to choose by.

    Takes and raises what `load` does; InputError too where there is no test split.
    """
    if source == DIGITS:
        images_NCHW, labels_N = digits(_checked(size, DIGITS_SIZE))
        return _select(images_NCHW, labels_N, _digits_test(labels_N)), DIGIT_NAMES
    layout = read_layout(Path(source))
    if layout.test is None:
        raise InputError(
            f"testing needs a test split (test/<class>/*.jpg or evaluation/{{class}}_{{number}}"
            f".jpg), but {source} holds none; put photographs there that training has not seen"
        )
    opened = decoded(layout.test, _checked(size, DEFAULT_SIZE), cache=cache, progress=progress)
    if progress:
        tell_skipped(opened.skipped, len(layout.test.photographs))
        tell_left_out(layout.test)
    return _split(layout.test, opened), layout.classes


def relabelled(split: Split, classes: tuple[str, ...], wanted: tuple[str, ...]) -> Split | None:
    """The split with its labels as places in `wanted`; None where these are other classes."""
    if classes == wanted:
        return split
    places = {normal(name): place for place, name in enumerate(wanted)}
    names = [normal(name) for name in classes]
    if sorted(names) != sorted(map(normal, wanted)) or len(places) < len(wanted):
        return None
    return Split(split.images_NCHW, torch.tensor([places[name] for name in names])[split.labels_N])


def _checked(size: int | None, default: int) -> int:
    low, high = INPUT_SIZES
    if size is not None and not low <= size <= high:
        raise InputError(f"size must be from {low} to {high} pixels, but got {size}")
    return default if size is None else size


def _load_folder(
    layout: Layout, size: int, cache: Path, seed: int, progress: bool, *, tell: bool = True
) -> Data:
    opened = decoded(layout.train, size, cache=cache, progress=progress)
    train = _split(layout.train, opened)
    skipped, count = opened.skipped, len(layout.train.photographs)
    if layout.validation is None:
        chosen_N = cut_validation(train.labels_N, seed)
        if not chosen_N.any():
            raise InputError(
                f"a validation split is cut from classes of two photographs or more, but every "
                f"class of {layout.train.folder} holds 1; add photographs, there or as a "
                "validation split (val/<class>/*.jpg)"
            )
        content, decoder = [opened.content.digest.encode(), chosen_N.numpy().tobytes()], 0
        validation = _select(train.images_NCHW, train.labels_N, chosen_N)
        train = _select(train.images_NCHW, train.labels_N, ~chosen_N)
    else:
        second = decoded(layout.validation, size, cache=cache, progress=progress)
        content = [opened.content.digest.encode(), second.content.digest.encode()]
        decoder = second.content.decoder
        validation = _split(layout.validation, second)
        skipped, count = skipped + second.skipped, count + len(layout.validation.photographs)
    if progress and tell:
        tell_skipped(skipped, count)
    _check_classes(train, layout)
    decoder = max(decoder, opened.content.decoder)
    fingerprint = _fingerprint(layout.classes, size, [train, validation], content, decoder)
    return Data(
        layout.name, layout.classes, CHANNELS, size, train, validation, fingerprint, skipped
    )


def _split(listing: Listing, opened: Decoded) -> Split:
    labels_N = torch.tensor(listing.labels, dtype=torch.int64)
    kept_N = torch.tensor(opened.kept, dtype=torch.int64)
    return Split(torch.from_numpy(opened.images_NCHW), labels_N[kept_N])


def _select(images_NCHW: torch.Tensor, labels_N: torch.Tensor, chosen_N: torch.Tensor) -> Split:
    return Split(images_NCHW[chosen_N], labels_N[chosen_N])


def cut_validation(labels_N: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Which training photographs become the validation split where there is none: bool (N,)."""
    return _cut(labels_N, VALIDATION_SHARE, seed, CUT_LANE)


def _cut(labels_N: torch.Tensor, share: float, seed: int, lane: int) -> torch.Tensor:
    """Choose a share of each class: bool (N,). A class of two images or more has
    at least one chosen and one not."""
    chosen_N = torch.zeros_like(labels_N, dtype=torch.bool)
    for label in range(int(labels_N.max()) + 1):
        (members,) = torch.where(labels_N == label)
        count = min(max(1, round(share * len(members))), len(members) - 1)
        shuffled = order(len(members), seed=seed, epoch=label, lane=lane)
        chosen_N[members[shuffled[: max(0, count)]]] = True
    return chosen_N


def _check_classes(train: Split, layout: Layout) -> None:
    """Skipped files may have emptied a class."""
    counts = torch.bincount(train.labels_N, minlength=len(layout.classes))
    for name, count in zip(layout.classes, counts.tolist(), strict=True):
        if count == 0:
            raise InputError(
                f"every class must hold a readable training photograph, but class {name!r} of "
                f"{layout.train.folder} holds none; replace its files"
            )


def tell_skipped(skipped: tuple[str, ...], count: int) -> None:
    if skipped:
        names = ", ".join(skipped[:SHOWN]) + (", ..." if len(skipped) > SHOWN else "")
        text = f"{len(skipped)} of {count} photographs cannot be read and are skipped: {names}"
        print(text, file=sys.stderr)


def _load_digits(size: int, seed: int) -> Data:
    images_NCHW, labels_N = digits(size)
    (others,) = torch.where(~_digits_test(labels_N))
    images_NCHW, labels_N = images_NCHW[others], labels_N[others]
    # A fifth of all the digits, counted within what the test split leaves.
    chosen_N = _cut(labels_N, VALIDATION_SHARE / (1 - TEST_SHARE), seed, CUT_LANE)
    train = _select(images_NCHW, labels_N, ~chosen_N)
    validation = _select(images_NCHW, labels_N, chosen_N)
    content = [split.images_NCHW.numpy().tobytes() for split in (train, validation)]
    fingerprint = _fingerprint(DIGIT_NAMES, size, [train, validation], content)
    return Data(DIGITS, DIGIT_NAMES, 1, size, train, validation, fingerprint)


def _digits_test(labels_N: torch.Tensor) -> torch.Tensor:
    return _cut(labels_N, TEST_SHARE, TEST_SEED, TEST_LANE)


def _fingerprint(
    classes: tuple[str, ...],
    size: int,
    splits: list[Split],
    content: list[bytes],
    decoder: int = FIRST,
) -> str:
    """Digest of everything that an image or a label depends on, wherever the folder lies."""
    parts = (*content, *(split.labels_N.numpy().tobytes() for split in splits))
    told_apart = (len(part).to_bytes(8, "little") + part for part in parts)
    return fingerprint([classes, size, decoder], *told_apart, digits=FINGERPRINT_DIGITS)
