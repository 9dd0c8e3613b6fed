"""What every arm of `throughput.py` is given: photographs, student, recipe, teacher, device."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from space.architecture import Architecture
from space.build import build
from space.errors import InputError
from space.file_format import StudentMetadata, normalisation
from space.references import reference
from trainers.data.datasets import Data, load
from trainers.data.layouts import Listing, read_layout
from trainers.engine.result import Report
from trainers.engine.steps import steps_per_epoch
from trainers.machine import cores
from trainers.model import Model
from trainers.recipe import Recipe
from trainers.recipe import recipe as named_recipe
from trainers.teachers import description
from trainers.teachers import teacher as teachers
from trainers.teachers.networks import names
from trainers.teachers.teach import teach, teacher_key
from trainers.teachers.teacher import Teacher


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """A split as a folder data set sees it: files to be decoded, and their labels."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One training, however it is done."""

    source: str  # folder of photographs
    data: Data  # decoded, for our engine
    train: Files  # the same photographs, for the peers
    validation: Files
    architecture: Architecture
    recipe: Recipe
    teacher: Teacher
    device: torch.device
    cores: int

    @property
    def images(self) -> int:
        """Training images that a trial sees."""
        return self.recipe.epochs * len(self.data.train)

    @property
    def steps(self) -> int:
        return self.recipe.epochs * steps_per_epoch(self.data, self.recipe)

    @property
    def share(self) -> float:
        """Of the soft loss, all the time."""
        return self.recipe.phases[0][1]

    @property
    def metadata(self) -> StudentMetadata:
        mean, std = normalisation(self.data.channels)
        return StudentMetadata(classes=self.data.classes, size=self.data.size, mean=mean, std=std)

    def student(self, seed: int) -> Model:
        """The untrained student; it normalises its input itself, as the teacher does."""
        network, metadata = build(self.architecture, seed=seed), self.metadata
        return Model(network, size=metadata.size, mean=metadata.mean, std=metadata.std)

    def seeded(self, seed: int, epochs: int | None = None) -> Recipe:
        return replace(self.recipe, seed=seed, epochs=epochs or self.recipe.epochs)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """PyTorch's threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Asked(NamedTuple):
    """What the flags say."""

    source: str  # folder of photographs
    size: int  # pixels
    architecture: str
    recipe: Recipe
    teacher: str  # a file, or a network's name
    teacher_epochs: int
    cache: Path  # where a teacher that is trained now is kept for the next run
    device: torch.device


def make_task(asked: Asked, photographs: Path, report: Report) -> Task:
    """Decode the photographs into the cache `photographs`, find or train the teacher.

    Raises:
        InputError: data without a validation split, an unknown architecture or teacher.
    """
    layout = read_layout(Path(asked.source))
    if layout.validation is None:
        raise InputError(f"{asked.source} must hold a validation split, for all arms to share")
    data = load(asked.source, asked.size, cache=photographs)
    return Task(
        source=asked.source,
        data=data,
        train=_files(layout.train, data.skipped),
        validation=_files(layout.validation, data.skipped),
        architecture=reference(asked.architecture, classes=len(data.classes)),
        recipe=asked.recipe,
        teacher=_teacher(asked, data, report),
        device=asked.device,
        cores=cores(),
    )


def require_teacher(name: str) -> None:
    """Before anything is decoded: raise InputError unless it is a network or a file."""
    if name not in names() and not Path(name).is_file():
        raise InputError(f"teacher must be a file or a network's name, but got {name!r}")


def _files(listing: Listing, skipped: tuple[str, ...]) -> Files:
    """What our cache keeps: files that cannot be read would stop a peer."""
    left_out = set(skipped)
    kept = [i for i in range(len(listing.photographs)) if listing.shown(i) not in left_out]
    return Files(
        tuple(listing.path(i) for i in kept),
        tuple(listing.labels[i] for i in kept),
    )


def _teacher(asked: Asked, data: Data, report: Report) -> Teacher:
    """From a file; or a network from the cache or trained now: how good it is costs no time."""
    name = asked.teacher
    if name not in names():
        teacher = teachers.load(Path(name))
        description.require_classes(teacher.info, data.classes)
        return teacher
    recipe = named_recipe("teacher-scratch").with_settings({"epochs": asked.teacher_epochs})
    path = asked.cache / "teachers" / f"{name}-{teacher_key(name, data, recipe)}.pt"
    if path.exists() and path.with_suffix(".json").exists():
        return teachers.load(path)
    return teach(name, data, recipe, path, device=asked.device, report=report)
