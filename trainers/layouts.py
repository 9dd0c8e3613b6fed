"""Folders of photographs: which files belong to which split, and their classes.

Two layouts are known, in any case of letters:

    flat     training|validation|evaluation/{class}_{anything}.jpg, as in Food-11
    folders  train|val|test/<class>/*.jpg

Only names are read here, no pixels.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from space.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing", "eval", "evaluation"),
}
CLASSES_FILE = "classes.txt"
FLAT_STEM = re.compile(r"([0-9]+)_.+")
KNOWN = "train/<class>/*.jpg or training/{class}_{number}.jpg"


@dataclass(frozen=True, slots=True)
class Photograph:
    """One file, with what tells whether it has changed."""

    name: str  # path within the split's folder, "/" between its parts
    bytes: int
    modified: int  # nanoseconds since 1970


@dataclass(frozen=True, slots=True)
class Listing:
    """The photographs of one split, sorted by name, with their labels."""

    folder: Path  # of the split
    photographs: tuple[Photograph, ...]
    labels: tuple[int, ...]

    def shown(self, index: int) -> str:
        """A photograph's path as messages show it, e.g. `training/3_17.jpg`."""
        return f"{self.folder.name}/{self.photographs[index].name}"


@dataclass(frozen=True, slots=True)
class Layout:
    """What a folder holds; a split that it lacks is None."""

    name: str
    classes: tuple[str, ...]
    train: Listing
    validation: Listing | None
    test: Listing | None


def read_layout(root: Path) -> Layout:
    """List a data folder.

    Raises:
        InputError: no such folder, no training split or an empty split, fewer than two classes,
            a class without a photograph, a label outside the range, a name that does not parse.
    """
    try:
        return _read_layout(root)
    except OSError as error:
        raise InputError(
            f"a data folder must be readable, but {error.filename or root}: {error.strerror}"
        ) from None


def _read_layout(root: Path) -> Layout:
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing there"
        raise InputError(f"data must be 'digits' or a folder, but {root} is {found}")
    folders = _split_folders(root)
    found_files = {split: _photographs(folder) for split, folder in folders.items()}
    flat = any("/" not in photograph.name for photograph in found_files["train"])
    classes = _flat_classes(root, found_files["train"]) if flat else _folders(folders["train"])
    if len(classes) < 2:
        raise InputError(f"data must hold at least 2 classes, but {folders['train']} holds 1")
    listings = {
        split: _listing(folders[split], files, classes, flat)
        for split, files in found_files.items()
    }
    _check_train(listings["train"], classes)
    name = root.resolve().name
    return Layout(
        name, classes, listings["train"], listings.get("validation"), listings.get("test")
    )


def _split_folders(root: Path) -> dict[str, Path]:
    """Folders of the splits; the training split is among them."""
    names = _folders(root)
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


def _photographs(folder: Path) -> tuple[Photograph, ...]:
    """Photographs in a folder and in its folders, no deeper."""
    found = list(_images(folder, ""))
    for name in _folders(folder):
        inside = list(_images(folder / name, f"{name}/"))
        if not inside:
            raise InputError(
                f"every class must hold a photograph, but {folder / name} is empty; "
                "fill it or remove it"
            )
        found += inside
    if not found:
        raise InputError(f"a split must hold photographs ({KNOWN}), but {folder} is empty")
    depths = {"/" in photograph.name for photograph in found}
    if len(depths) > 1:
        raise InputError(
            f"a split must hold either photographs or class folders, but {folder} holds both; "
            "move one kind away"
        )
    return tuple(sorted(found, key=lambda photograph: photograph.name))


def _images(folder: Path, prefix: str) -> Iterator[Photograph]:
    """A folder's own image files; hidden ones (macOS leaves `._photo.jpg`) do not count."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or not entry.name.lower().endswith(SUFFIXES):
                continue
            status = entry.stat()
            yield Photograph(f"{prefix}{entry.name}", status.st_size, status.st_mtime_ns)


def _folders(folder: Path) -> tuple[str, ...]:
    with os.scandir(folder) as entries:
        return tuple(
            sorted(
                entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
            )
        )


def _flat_classes(root: Path, photographs: tuple[Photograph, ...]) -> tuple[str, ...]:
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
    names = tuple(line.strip() for line in lines if line.strip())
    if len(set(names)) != len(names):
        raise InputError(f"class names must differ, but {path} names one twice")
    return names


def _flat_label(name: str) -> int:
    match = FLAT_STEM.fullmatch(name.rpartition(".")[0])
    if not match:
        raise InputError(
            f"a photograph's name must be {{class}}_{{number}}.jpg, but got {name!r}; "
            "rename it, or sort the photographs into a folder a class"
        )
    return int(match[1])


def _listing(
    folder: Path, photographs: tuple[Photograph, ...], classes: tuple[str, ...], flat: bool
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
    return Listing(folder, photographs, tuple(labels))


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
