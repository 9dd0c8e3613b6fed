"""What data looks like before anything is trained: photographs by class, and what looks wrong."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import torch

from space.errors import InputError
from space.fingerprint import file_fingerprint
from trainers.data.cache import decoded
from trainers.data.datasets import Data, cut_validation, load_test
from trainers.data.layouts import DIGITS, Layout, Listing, read_layout
from trainers.data.unlabelled import unlabelled_listing
from trainers.data.walk import LeftOut, printable

TRAINING, VALIDATION, TEST = "training", "validation", "test"
UNLABELLED = "unlabelled"  # no split: photographs without labels
UNEVEN = 4  # times as many photographs in one class as in another
FEW = 10  # photographs of a class to learn from
HANDFUL = 100  # photographs to judge by: of fewer, one is worth more than 1 % of the accuracy
SHOWN = 3  # names in a remark


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is known of data."""

    counts: Mapping[str, Mapping[str, int]]  # split -> class -> photographs
    unlabelled: int = 0  # photographs without labels
    left_out: tuple[LeftOut, ...] = ()
    unreadable: tuple[str, ...] = ()
    remarks: tuple[str, ...]  # what looks wrong, each in a line


class File(NamedTuple):
    """A photograph in the split that it is used in."""

    split: str
    label: int
    path: Path
    bytes: int
    shown: str  # its path, as messages show it


def survey(source: str, data: Data, cache: Path, unlabelled: str | None = None) -> Survey:
    """Look at data that `load` has loaded; of the test split no pixels are decoded.

    Args:
        unlabelled: folder of the data's photographs without labels.

    Raises:
        InputError: a file cannot be read.
    """
    counts = {
        TRAINING: _by_class(data.classes, data.train.labels_N),
        VALIDATION: _by_class(data.classes, data.validation.labels_N),
    }
    if source == DIGITS:
        held_out, _ = load_test(source, data.size, cache=cache)
        counts[TEST] = _by_class(data.classes, held_out.labels_N)
        return Survey(counts=counts, remarks=tuple(_uneven(counts)))
    layout = read_layout(Path(source))
    if layout.test is not None:
        counts[TEST] = _by_class(data.classes, torch.tensor(layout.test.labels))
    others = (
        f"{source} holds {name!r}, which is no split's name: nothing in it is read"
        for name in map(printable, layout.others)
        if unlabelled is None or (Path(source) / name).resolve() != Path(unlabelled).resolve()
    )
    splits, files = [*layout.splits.values()], _files(layout, data, cache)
    if unlabelled is not None:
        splits.append(unlabelled_listing(unlabelled))
        files += _listed(UNLABELLED, splits[-1])
    twins = _twins(files)
    return Survey(
        counts=counts,
        unlabelled=0 if data.unlabelled is None else len(data.unlabelled),
        left_out=tuple(file for part in splits for file in part.left_out),
        unreadable=data.skipped,
        remarks=(*_uneven(counts), *twins, *others),
    )


def _by_class(classes: tuple[str, ...], labels_N: torch.Tensor) -> dict[str, int]:
    numbers = torch.bincount(labels_N, minlength=len(classes)).tolist()
    return dict(zip(classes, numbers, strict=True))


def _uneven(counts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Remarks on numbers of photographs."""
    train = counts[TRAINING]
    least, most = min(train, key=train.__getitem__), max(train, key=train.__getitem__)
    if train[most] >= UNEVEN * train[least]:
        yield (
            f"the classes are uneven: {train[most]:,} photographs of {printable(most)!r} to learn "
            f"from, and {train[least]:,} of {printable(least)!r}"
        )
    few = [f"{train[name]} of {printable(name)!r}" for name in train if train[name] < FEW]
    if few:
        yield f"few photographs to learn from: {_some(few)}"
    for split in (VALIDATION, TEST):
        held = counts.get(split, {})
        number = sum(held.values())
        if held and number < HANDFUL:
            yield (
                f"the {split} split holds {number} photographs: one more or less of them right is "
                f"{1 / number:.1%} of the accuracy"
            )
        missing = [repr(printable(name)) for name in held if held[name] == 0]
        if missing:
            yield f"the {split} split holds none of {_some(missing)}"


def _some(words: list[str]) -> str:
    more = len(words) - SHOWN
    return ", ".join(words[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _files(layout: Layout, data: Data, cache: Path) -> list[File]:
    """All photographs that are listed, with the split that each of them is used in."""
    found: list[File] = []
    for split, listing in layout.splits.items():
        found += _listed(split, listing)
    if layout.validation is None:
        opened = decoded(layout.train, data.size, cache=cache, progress=False)
        labels_N = torch.tensor([layout.train.labels[i] for i in opened.kept])
        for place in cut_validation(labels_N).nonzero().flatten().tolist():
            index = opened.kept[place]
            found[index] = found[index]._replace(split=VALIDATION)
    return found


def _listed(split: str, listing: Listing) -> Iterator[File]:
    for index, label in enumerate(listing.labels):
        size, shown = listing.photographs[index].bytes, listing.shown(index)
        yield File(split, label, listing.path(index), size, shown)


def _twins(files: list[File]) -> Iterator[str]:
    """Remarks on photographs that are there more than once: the same bytes."""
    groups = _same_content(files)
    pairs_of_splits = [*combinations((TRAINING, VALIDATION, TEST), 2)]
    pairs_of_splits += [(UNLABELLED, VALIDATION), (UNLABELLED, TEST)]
    for first, second in pairs_of_splits:
        pairs = []
        for group in groups:
            other = next((file for file in group if file.split == first), None)
            if other is not None:
                pairs += [f"{f.shown} is {other.shown}" for f in group if f.split == second]
        if pairs:
            where = "among those without labels" if first == UNLABELLED else f"in the {first} split"
            yield (
                f"{_photographs(len(pairs), f'of the {second} split')} also {where}: {_some(pairs)}"
            )
    both = []
    for group in groups:
        known = {file.label: file for file in group if file.split == TRAINING}
        if len(known) > 1:
            both.append(" and ".join(file.shown for file in known.values()))
    if both:
        yield f"{_photographs(len(both), 'to learn from')} in two classes: {_some(both)}"


def _photographs(number: int, which: str) -> str:
    return f"{number:,} photograph{f' {which} is' if number == 1 else f's {which} are'}"


def _same_content(files: list[File]) -> list[list[File]]:
    """Groups of two files or more that hold the same; only files of equal size are read."""
    by_size, by_content = defaultdict(list), defaultdict(list)
    for file in files:
        by_size[file.bytes].append(file)
    for group in by_size.values():
        for file in group if len(group) > 1 else ():
            by_content[_fingerprint(file)].append(file)
    return [group for group in by_content.values() if len(group) > 1]


def _fingerprint(file: File) -> str:
    try:
        return file_fingerprint(file.path)
    except OSError as error:
        raise InputError(
            f"photographs must be readable, but {printable(str(file.path))}: {error.strerror}"
        ) from None
