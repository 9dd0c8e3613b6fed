"""What a study is about: all that two runs of one study must agree on."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from space.choices import SIZES
from space.errors import InputError
from space.file_format import StudentMetadata, normalisation
from space.fingerprint import fingerprint
from space.schema import Table, read
from space.solver import Budget, Solution, solve
from space.spaces import Params, SearchSpace, search_space
from trainers.data.layouts import DIGITS
from trainers.ranges import FORMAT, Ranges, with_values
from trainers.recipe import Recipe

if TYPE_CHECKING:
    from trainers.data.datasets import Data

SCHEMA = 1
UNLABELLED = ("unlabelled", "unlabelled_source")  # settings of photographs without labels
OWN_TEACHER = "teacher"  # name of a search's one teacher


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySpec(ABC):
    """Settings that searches and ablations share."""

    source: str  # of the data: "digits" or a folder; may move
    data: str  # fingerprint
    classes: tuple[str, ...]
    channels: int
    size: int  # pixels; of several input sizes the largest
    version: str  # of DistilNAS
    unlabelled: str = ""  # fingerprint of photographs without labels; empty: there are none
    unlabelled_source: str = ""  # their folder; may move

    def metadata_for(self, recipe: Recipe, size: int | None = None) -> StudentMetadata:
        """What a student's file says beside its weights.

        Args:
            size: pixels of its input; the study's by default.
        """
        mean, std = normalisation(self.channels)
        return StudentMetadata(
            classes=self.classes,
            size=self.size if size is None else size,
            mean=mean,
            std=std,
            recipe=recipe.fingerprint,
        )

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, ...]:
        """Pixels of the inputs that its students may have, the smallest first."""

    def size_if_varied(self, size: int) -> int | None:
        """The size for a row, which states it only where the study has several."""
        return size if len(self.sizes) > 1 else None

    @property
    @abstractmethod
    def teachers(self) -> Mapping[str, str]:
        """Name of each teacher (also of its file) -> hash of its weights."""

    @abstractmethod
    def to_dict(self) -> dict[str, object]:
        """JSON data, whole: `from_dict` reads it back."""

    def comparable(self) -> dict[str, object]:
        """Nested tables of the settings that are compared."""
        return self.to_dict()

    @abstractmethod
    def taught_like(self, other: "StudySpec") -> "StudySpec":
        """This spec with the other's teachers, to compare the rest before teachers are trained."""

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of everything that results depend on."""
        return fingerprint(dict(self.compared()))

    def compared(self) -> Iterator[tuple[str, object]]:
        """Settings that must stay the same within a study, flat: `recipe.epochs` and so on."""
        for name, value in _flat(json.loads(json.dumps(self.comparable()))):
            if name not in ("source", "unlabelled_source", "version"):
                yield name, value

    def differences(self, other: "StudySpec") -> list[str]:
        """`setting: this study has A, but got B` for each setting that differs."""
        mine, others = dict(self.compared()), dict(other.compared())
        return [
            f"{name}: the study has {mine.get(name)!r}, but got {others.get(name)!r}"
            for name in sorted(mine.keys() | others.keys())
            if mine.get(name) != others.get(name)
        ]


def kept_source(data: str) -> str:
    """The data's path as a study stores it: absolute, to be found from any working folder."""
    return data if data == DIGITS else str(Path(data).resolve())


def kept_unlabelled(data: "Data", folder: str | None) -> dict[str, str]:
    """What a study stores of photographs without labels, to stand among its settings."""
    kept = (data.unlabelled_fingerprint, "" if folder is None else str(Path(folder).resolve()))
    return dict(zip(UNLABELLED, kept, strict=True))


def without_empty(data: dict[str, object], *names: str) -> dict[str, object]:
    """The data without those of the names that say nothing: earlier versions did not know them."""
    return {name: value for name, value in data.items() if value or name not in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpec(StudySpec):
    """A search's settings, stored with its study."""

    space: str  # name of the space
    compressed_stem: bool
    budget: Budget
    multiple: int  # of every width
    recipe: Recipe
    sampler: str
    pruner: str
    seed: int  # of the sampler
    teacher: str  # hash of its weights; empty without a teacher
    own_space: Table | None = None  # the table of a space of one's own
    ranges: Ranges = field(default_factory=Ranges)  # what trials draw of the recipe

    @property
    def search_space(self) -> SearchSpace:
        stated = self.own_space or self.space
        return search_space(stated, size=self.size, compressed_stem=self.compressed_stem)

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.search_space.sizes

    @property
    def teachers(self) -> Mapping[str, str]:
        return {OWN_TEACHER: self.teacher} if self.teacher else {}

    def taught_like(self, other: StudySpec) -> "SearchSpec":
        return replace(self, teacher=other.teachers.get(OWN_TEACHER, ""))

    @property
    def taught_by(self) -> str | None:
        """Name of the teacher; None without one."""
        return OWN_TEACHER if self.teacher else None

    @property
    def metadata(self) -> StudentMetadata:
        """Metadata of the students' files; seeds differ, and what trials draw of the rest."""
        return self.metadata_for(self.recipe)

    def recipe_of(self, searched: Table | None) -> Recipe:
        """A trial's recipe.

        Args:
            searched: the values that it drew, as its row has them; None: nothing is searched.
        """
        return with_values(self.recipe, searched) if searched else self.recipe

    def budget_of(self, searched: Table | None) -> Budget:
        """A trial's budget: in its own storage format."""
        return replace(self.budget, format=str((searched or {}).get(FORMAT, self.budget.format)))

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budget in each storage format that trials may draw."""
        formats = self.ranges.formats or (self.budget.format,)
        return tuple(replace(self.budget, format=format) for format in formats)

    def to_dict(self) -> dict[str, object]:
        told = {"budget": self.budget.to_dict(), "recipe": self.recipe.to_dict()}
        data = asdict(self) | {"schema": SCHEMA, **told, "ranges": self.ranges.to_dict()}
        return without_empty(data, "own_space", "ranges", *UNLABELLED)

    @classmethod
    def from_dict(cls, data: Table) -> "SearchSpec":
        """Read `to_dict`'s data back; InputError where another version wrote it."""
        given = dict(data)
        if given.pop("schema", None) != SCHEMA:
            raise InputError("this study was made by another version of DistilNAS; use that one")
        return read(cls, given, "the study's settings")


class Student(NamedTuple):
    """A student of a space at the widths that fill the budget, and its input."""

    solution: Solution
    size: int  # pixels


def solved(spec: SearchSpec, params: Params, budget: Budget) -> Student:
    """The student that the values of a search's space mean.

    Args:
        budget: the study's, in one of its storage formats.

    Raises:
        InfeasibleError: there is none within the budget.
    """
    space = spec.search_space
    size = space.size_of(params)
    shape = space.shape(params, classes=len(spec.classes), channels=spec.channels, size=size)
    metadata = spec.metadata_for(spec.recipe, size)
    return Student(solve(shape, budget, metadata, multiple=spec.multiple), size)


def stated_sizes(spec: Table) -> tuple[int, ...]:
    """Pixels of the inputs that a stored search's students may have, the smallest first."""
    own = spec.get("own_space")
    sizes = own.get(SIZES) if isinstance(own, Mapping) else None
    return tuple(sorted(sizes)) if isinstance(sizes, list) and sizes else (spec["size"],)  # type: ignore[return-value]


def _flat(data: Table, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
