"""Folders of photographs: which files belong to which split, and their classes.

Two layouts are known, in any case of letters:

    flat     training|validation|evaluation/{class}_{anything}.jpg, as in Food-11
    folders  train|val|test/<class>/**/*.jpg, as torchvision's ImageFolder reads them

Only names are read here, and the beginnings of files whose names do not say what they are.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from space.errors import InputError
from trainers.data.walk import LeftOut, Photograph, as_first, in_words, normal, printable, walk

DIGITS = "digits"  # the built-in set, where a folder could be named
DIGIT_NAMES = tuple("0123456789")
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing", "eval", "evaluation"),
}
CLASSES_FILE = "classes.txt"
FLAT_STEM = re.compile(r"([0-9]+)_.+")
KNOWN = "train/<class>/*.jpg or training/{class}_{number}.jpg"


@dataclass(frozen=True, slots=True)
class Listing:
    """The photographs of one split, sorted by name, with their labels."""

    folder: Path  # of the split
    photographs: tuple[Photograph, ...]
    labels: tuple[int, ...]
    left_out: tuple[LeftOut, ...] = ()  # by path within the data folder

    def path(self, index: int) -> Path:
        return self.folder / self.photographs[index].path

    def shown(self, index: int) -> str:
        """A photograph's path as messages show it, e.g. `training/3_17.jpg`."""
        return printable(f"{self.folder.name}/{self.photographs[index].name}")


@dataclass(frozen=True, slots=True)
class Layout:
    """What a folder holds; a split that it lacks is None."""

    name: str
    classes: tuple[str, ...]
    train: Listing
    validation: Listing | None
    test: Listing | None
    others: tuple[str, ...] = ()  # folders beside the splits, of which nothing is read

    @property
    def splits(self) -> dict[str, Listing]:
        """The splits that there are, by name."""
        known = {"training": self.train, "validation": self.validation, "test": self.test}
        return {name: listing for name, listing in known.items() if listing is not None}


class Rules(NamedTuple):
    """How a folder is read: the names, and which files are photographs."""

    name: Callable[[str], str]
    photographs: Callable[[tuple[Photograph, ...]], tuple[Photograph, ...]]


RULES = Rules(normal, lambda photographs: photographs)
FIRST_RULES = Rules(str, as_first)  # of version 0.1


def read_layout(root: Path, rules: Rules = RULES) -> Layout:
    """List a data folder.

    Raises:
        InputError: no such folder, no training split or an empty split, fewer than two classes,
            a class without a photograph, a label outside the range, a name that does not parse.
    """
    try:
        return _read_layout(root, rules)
    except OSError as error:
        raise InputError(
            f"a data folder must be readable, but {error.filename or root}: {error.strerror}"
        ) from None


def class_names(source: str) -> tuple[str, ...]:
    """Names of the data's classes, in the order of the labels; raises what `read_layout` does."""
    return DIGIT_NAMES if source == DIGITS else read_layout(Path(source)).classes


def _read_layout(root: Path, rules: Rules) -> Layout:
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing there"
        raise InputError(f"data must be 'digits' or a folder, but {root} is {found}")
    names = _folders(root)
    folders = _split_folders(root, names)
    files = {split: _photographs(folder, rules) for split, folder in folders.items()}
    train, _ = files["train"]
    flat = any("/" not in photograph.name for photograph in train)
    classes = _flat_classes(root, train, rules) if flat else _class_names(folders["train"], rules)
    if len(classes) < 2:
        raise InputError(f"data must hold at least 2 classes, but {folders['train']} holds 1")
    listings = {
        split: _listing(folders[split], *found, classes, flat) for split, found in files.items()
    }
    _check_train(listings["train"], classes)
    return Layout(
        root.resolve().name,
        classes,
        listings["train"],
        listings.get("validation"),
        listings.get("test"),
        tuple(name for name in names if root / name not in folders.values()),
    )


def _split_folders(root: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """Folders of the splits; the training split is among them."""
    folders = {}
    for split, known in SPLIT_FOLDERS.items():
        matches = [name for name in names if name.lower() in known]
        if len(matches) > 1:
            raise InputError(
                f"a data folder must hold one {split} split, but {root} holds "
                f"{' and '.join(matches)}; move one away"
            )
        if matches:
            folders[split] = root / matches[0]
    if "train" not in folders:
        held = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise InputError(
            f"a data folder must hold a training split ({KNOWN}), but {root} holds "
            f"{f'the folders {held}' if names else 'no folders'}; sort the photographs into one"
        )
    return folders


def _photographs(folder: Path, rules: Rules) -> tuple[tuple[Photograph, ...], tuple[LeftOut, ...]]:
    """Photographs of a split, and what is left out."""
    photographs, left_out = walk(folder)
    photographs = rules.photographs(photographs)
    tops = {photograph.name.partition("/")[0] for photograph in photographs}
    in_folders = ["/" in photograph.name for photograph in photographs]
    if any(in_folders) and not all(in_folders):
        raise InputError(
            f"a split must hold either photographs or class folders, but {folder} holds both; "
            "move one kind away"
        )
    empty = [name for name in _folders(folder) if rules.name(name) not in tops]
    if empty and (all(in_folders) or not photographs):
        inside = [file for file in left_out if file.name.startswith(f"{empty[0]}/")]
        raise InputError(
            f"every class must hold a photograph, but {folder / empty[0]} is empty"
            f"{_of_no_use(inside)}; fill it or remove it"
        )
    if not photographs:
        raise InputError(
            f"a split must hold photographs ({KNOWN}), but {folder} is empty{_of_no_use(left_out)}"
        )
    return photographs, left_out


def _of_no_use(left_out: Sequence[LeftOut]) -> str:
    return f" ({in_words(left_out, len(left_out))})" if left_out else ""


def _folders(folder: Path) -> tuple[str, ...]:
    with os.scandir(folder) as entries:
        return tuple(
            sorted(
                entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
            )
        )


def _class_names(folder: Path, rules: Rules) -> tuple[str, ...]:
    names = tuple(sorted({rules.name(name) for name in _folders(folder)}))
    for name in names:
        if any("\ud800" <= sign <= "\udfff" for sign in name):  # of bytes that are no UTF-8
            raise InputError(
                f"class names must be UTF-8 text, but {folder} holds {printable(name)!r}; "
                "rename that folder"
            )
    return names


def _flat_classes(root: Path, photographs: tuple[Photograph, ...], rules: Rules) -> tuple[str, ...]:
    """Lines of classes.txt where there is one, else "0", "1", ... up to the largest label."""
    path = root / CLASSES_FILE
    labels = {_flat_label(photograph.name) for photograph in photographs}
    if not path.is_file():
        missing = next(label for label in range(len(labels) + 1) if label not in labels)
        if missing < len(labels):
            raise InputError(
                f"classes must be numbered from 0 without a gap, but class {missing} has no "
                f"training photograph; name one {missing}_0.jpg, or number the classes again"
            )
        return tuple(str(label) for label in range(len(labels)))
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise InputError(f"{path} must be UTF-8 text, one class name a line") from None
    names = tuple(rules.name(line.strip()) for line in lines if line.strip())
    if len(set(names)) != len(names):
        raise InputError(f"class names must differ, but {path} names one twice")
    return names


def _flat_label(name: str) -> int:
    match = FLAT_STEM.fullmatch(name.rpartition(".")[0] or name)
    if not match:
        raise InputError(
            f"a photograph's name must be {{class}}_{{number}}.jpg, but got {printable(name)!r}; "
            "rename it, or sort the photographs into a folder a class"
        )
    return int(match[1])


def _listing(
    folder: Path,
    photographs: tuple[Photograph, ...],
    left_out: tuple[LeftOut, ...],
    classes: tuple[str, ...],
    flat: bool,
) -> Listing:
    """Give every photograph its label."""
    known = {name: label for label, name in enumerate(classes)}
    labels = []
    for photograph in photographs:
        class_name, separator, _ = photograph.name.partition("/")
        if flat == bool(separator):
            raise InputError(
                f"every split must have the layout of the training split, but {folder} has another"
            )
        label = _flat_label(photograph.name) if flat else known.get(class_name, -1)
        if not 0 <= label < len(classes):
            raise InputError(
                f"label outside the range: {folder / photograph.name} is of class "
                f"{label if flat else class_name!r}, but training has {_range(classes, flat)}"
            )
        labels.append(label)
    within = (LeftOut(f"{folder.name}/{file.name}", file.reason) for file in left_out)
    return Listing(folder, photographs, tuple(labels), tuple(within))


def _range(classes: tuple[str, ...], flat: bool) -> str:
    if flat:
        return f"the classes 0 to {len(classes) - 1}"
    return ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")


def _check_train(train: Listing, classes: tuple[str, ...]) -> None:
    """Every class has photographs to learn from; a smaller split may lack some."""
    held = set(train.labels)
    for label, name in enumerate(classes):
        if label not in held:
            raise InputError(
                f"every class must hold a photograph, but {train.folder} holds none of class "
                f"{label} ({name!r})"
            )
