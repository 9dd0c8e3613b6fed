"""An ablation's plan: its arms (a student and how it is trained) and their trials."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from search.study.spec import UNLABELLED, StudySpec, without_empty
from space.architecture import Architecture
from space.errors import InputError, shown
from space.schema import Table, read
from trainers.recipe import Recipe

SCHEMA = 1
KIND = "ablation"
ONE_FACTOR, FACTORIAL, STATED = "one-factor", "factorial", "arms"  # designs


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One of the variants that are compared, each over several seeds."""

    name: str
    levels: Mapping[str, str]  # factor -> label of its level; empty for stated arms
    architecture: Architecture
    recipe: Recipe  # its seed is that of the first training
    format: str  # of the file that is scored
    teacher: str | None  # its name in the plan; None learns from the labels alone
    budget_share: float | None  # None where the widths were not solved for a budget
    size: int | None = None  # pixels of its input, where they are not the plan's
    labelled_only: bool = False  # whether it leaves out the plan's photographs without labels

    def recipe_of(self, seed: int, *, shared_views: bool) -> Recipe:
        """The recipe of one training."""
        moved = self.recipe.view_seed + (0 if shared_views else seed)
        return replace(self.recipe, seed=self.recipe.seed + seed, view_seed=moved)

    def to_dict(self) -> dict[str, object]:
        data = {f.name: getattr(self, f.name) for f in fields(self)} | {
            "levels": dict(self.levels),
            "architecture": self.architecture.to_dict(),
            "recipe": self.recipe.to_dict(),
        }
        return without_empty(data, "size", "labelled_only")

    @classmethod
    def from_dict(cls, data: Table) -> "Arm":
        return read(cls, data, f"arm {shown(data.get('name'))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationSpec(StudySpec):
    """An ablation's settings, stored with its study.

    Trial number n trains arm n mod A over seed n div A, A arms in all. So a trial's number says
    what it is, arms are compared on the same seeds at any moment, and further seeds come after
    those that were trained.
    """

    question: str
    design: str  # one-factor, factorial or arms
    size_matched: bool  # else widths are those that were written
    budget: str  # in words; empty at fixed widths
    shared_views: bool  # whether all seeds see the same views, and so share the bank of logits
    factors: Mapping[str, tuple[str, ...]]  # name -> labels of its levels
    arms: tuple[Arm, ...]
    baseline: str  # name of an arm
    validation: int  # images; accuracies are multiples of 1 / validation
    taught: Mapping[str, str]  # name of a teacher -> hash of its weights
    described: Mapping[str, Table]  # name of a teacher -> what is known of it
    published: Mapping[str, Any]  # what others measured: "source", "accuracy" by arm (0 to 1)

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(sorted({self.size, *map(self.size_of, self.arms)}))

    def size_of(self, arm: Arm) -> int:
        """Pixels of an arm's input."""
        return self.size if arm.size is None else arm.size

    @property
    def teachers(self) -> Mapping[str, str]:
        return self.taught

    def taught_like(self, other: StudySpec) -> "AblationSpec":
        described = other.described if isinstance(other, AblationSpec) else {}
        return replace(self, taught=dict(other.teachers), described=described)

    def with_teachers(
        self, hashes: Mapping[str, str], described: Mapping[str, Table]
    ) -> "AblationSpec":
        """The same, its teachers being trained.

        Args:
            hashes: of their weights, by name.
            described: what is known of them, by name.
        """
        return replace(self, taught=hashes, described=described)

    def comparable(self) -> dict[str, object]:
        """The same with arms by name, so that a difference names the arm."""
        return self.to_dict() | {"arms": {arm.name: arm.to_dict() for arm in self.arms}}

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)

    def trial(self, number: int) -> tuple[Arm, int]:
        """The arm and the seed of a trial."""
        seed, index = divmod(number, len(self.arms))
        return self.arms[index], seed

    def to_dict(self) -> dict[str, object]:
        told = {f.name: getattr(self, f.name) for f in fields(self)} | {
            "schema": SCHEMA,
            "kind": KIND,
            "factors": {name: list(labels) for name, labels in self.factors.items()},
            "arms": [arm.to_dict() for arm in self.arms],
            "taught": dict(self.taught),
            "described": {name: dict(facts) for name, facts in self.described.items()},
            "published": dict(self.published),
        }
        return without_empty(told, *UNLABELLED)

    @classmethod
    def from_dict(cls, data: Table) -> "AblationSpec":
        """Read `to_dict`'s data back; InputError where another version wrote it."""
        given = dict(data)
        kind, schema = given.pop("kind", None), given.pop("schema", None)
        if (kind, schema) != (KIND, SCHEMA):
            raise InputError(
                f"the ablation was made by another version of DistilNAS (schema {schema}, "
                f"this one has {SCHEMA}); use that one"
            )
        return read(cls, given, "the ablation's settings")


def training_key(arm: Arm) -> tuple[str, str, str, int | None, bool]:
    """Equal for arms whose networks are the same when trained over the same seed."""
    learned = str(arm.teacher), arm.size, arm.labelled_only
    return arm.architecture.fingerprint, arm.recipe.fingerprint, *learned


def is_plan(spec: Table) -> bool:
    """Whether a study's spec is that of an ablation."""
    return spec.get("kind") == KIND
