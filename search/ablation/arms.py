"""From settings to arms: architectures at their widths, recipes, teachers, storage formats."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from search.ablation.design import (
    RECIPE_SETTINGS,
    SIZE_MATCHED,
    Candidate,
    Design,
    Settings,
)
from search.study.plan import FACTORIAL, ONE_FACTOR, Arm, training_key
from search.study.settings import NO_TEACHER, training_recipe
from search.study.spec import StudySpec
from space.architecture import Architecture
from space.changes import change, is_change, relative
from space.errors import InputError, require, require_one_of
from space.file_format import StudentMetadata, check_format, stored_bytes
from space.references import read_architecture
from space.solver import Budget, solve
from space.spaces import REFERENCES, reference
from trainers.recipe import HARD_ONLY, LOSS_OWN, MIX, SWITCH, Recipe

OF_LOSS = ("temperature", "phases", MIX, *LOSS_OWN)  # settings that a loss brings
REST = "(baseline)"  # level of a factor whose levels do not hold the baseline's


class Impossible(NamedTuple):
    """An arm that cannot exist, and why."""

    name: str
    reason: str


class Resolved(NamedTuple):
    """What became of a design."""

    arms: tuple[Arm, ...]
    baseline: str  # name of an arm
    impossible: tuple[Impossible, ...]
    factors: dict[str, tuple[str, ...]]  # labels of levels that some arm has
    budget: str  # in words; empty at fixed widths


@dataclass(frozen=True)
class ArmBuilder:
    """Makes arms on one data set."""

    design: Design
    ground: StudySpec
    teachers: Collection[str]  # names
    precision: str  # for recipes that leave it open: arms must not differ in it by chance

    def arm(self, candidate: Candidate) -> Arm:
        """The arm; raises InputError where it cannot exist."""
        given = [*self.design.base.items(), *candidate.changes.items()]
        settings = dict(given)
        recipe, teacher = self.taught(candidate.changes)
        format = settings.get("format", self.design.format)
        require("format", format, isinstance(format, str), "a storage format's name")
        check_format(format)
        size = int(settings.get("size", self.ground.size))
        shape = self.shape(settings)
        for name, value in given:
            if is_change(name):
                shape = change(shape, name, value)
        metadata = self.ground.metadata_for(recipe, size)
        architecture, share = self.sized(shape.canonical(), metadata, settings, format)
        return Arm(
            name=candidate.name,
            levels=candidate.levels,
            architecture=architecture,
            recipe=recipe,
            format=format,
            teacher=teacher,
            budget_share=share,
            size=None if size == self.ground.size else size,
        )

    def taught(self, changes: Settings) -> tuple[Recipe, str | None]:
        """The recipe, and the name of the teacher where somebody listens to it."""
        design = self.design
        recipe = training_recipe(design.data, design.recipe, design.epochs)
        if "loss" in changes:  # it brings its settings, but not over those that are stated
            changes = {k: v for k, v in design.base.items() if k in OF_LOSS} | {**changes}
        for part in (design.base, changes):  # one over the other, tables within them too
            recipe = recipe.with_settings({k: v for k, v in part.items() if k in RECIPE_SETTINGS})
            recipe = recipe.with_phases(part.get(MIX), part.get(SWITCH))
        if recipe.precision == "auto":
            recipe = replace(recipe, precision=self.precision)
        settings = {**design.base, **changes}
        teacher = settings.get("teacher", next(iter(self.teachers), NO_TEACHER))
        require_one_of("teacher", teacher, (NO_TEACHER, *self.teachers))
        if teacher == NO_TEACHER:
            recipe = replace(recipe, phases=HARD_ONLY)
        return recipe, teacher if recipe.needs_teacher else None

    def shape(self, settings: dict[str, Any]) -> Architecture:
        given = settings.get("architecture")
        classes, channels = len(self.ground.classes), self.ground.channels
        if isinstance(given, Mapping):
            architecture = Architecture.from_dict(given)
        else:
            rule = "a reference's name, a JSON file, or one's content"
            require("architecture", given, isinstance(given, str), rule)
            if given in REFERENCES:
                return reference(str(given), classes=classes, channels=channels)
            architecture = read_architecture(Path(str(given)))
        return replace(architecture, classes=classes, channels=channels)

    def sized(
        self,
        shape: Architecture,
        metadata: StudentMetadata,
        settings: dict[str, Any],
        format: str,
    ) -> tuple[Architecture, float | None]:
        """The shape at its widths, and the share of the budget that it fills."""
        if self.design.widths != SIZE_MATCHED:
            shape.check()
            return shape, None
        budget = self.budget(settings, format) or self.own_size(metadata, format)
        solution = solve(relative(shape), budget, metadata, multiple=self.design.multiple)
        if solution.repairs:
            raise InputError(
                f"budget {budget} is too small for it: it would need {', '.join(solution.repairs)}"
            )
        return solution.architecture, solution.share

    def budget(self, settings: dict[str, Any], format: str) -> Budget | None:
        text = settings.get("budget", self.design.budget)
        if text is None:
            return None
        require("budget", text, isinstance(text, str), "text such as 300KB")
        return Budget.parse(str(text), format, self.design.macs, self.design.ram)

    def own_size(self, metadata: StudentMetadata, format: str) -> Budget:
        """What the baseline takes as it is written: the budget where none was given."""
        base = self.shape(dict(self.design.base))
        for name, value in self.design.base.items():
            if is_change(name):
                base = change(base, name, value)
        own = str(self.design.base.get("format", self.design.format))
        size = stored_bytes(base.canonical(), own, metadata)
        return Budget.parse(f"{size}B", format, self.design.macs, self.design.ram)


def resolve(builder: ArmBuilder) -> Resolved:
    """All arms of a design.

    Raises:
        InputError: the baseline cannot exist, or there is nothing to compare it with. Other arms
            that cannot exist are in the answer.
    """
    resolved = _resolved(builder)
    names = [arm.name for arm in resolved.arms] + [arm.name for arm in resolved.impossible]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise InputError(f"arms must have names of their own, but two are named {repeated!r}")
    require("number of arms", len(names), len(names) > 1, "at least 2, the baseline included")
    names += [candidate.name for candidate in builder.design.single_changes()]  # the baseline's too
    for name in (builder.design.published or {}).get("accuracy", {}):
        require_one_of("arm of the published accuracies", name, names)
    return resolved


def _resolved(builder: ArmBuilder) -> Resolved:
    design = builder.design
    try:
        baseline = builder.arm(Candidate(design.baseline_name, {}, {}))
    except InputError as error:
        raise InputError(f"the baseline cannot exist: {error}") from None
    budget = builder.budget(dict(design.base), baseline.format)
    words = str(budget) if budget else "what the baseline takes"
    words = words if design.widths == SIZE_MATCHED else ""
    if design.design == ONE_FACTOR:
        return _one_factor(builder, baseline, words)
    candidates = design.combinations() if design.design == FACTORIAL else design.stated
    arms, impossible = _attempt(builder.arm, candidates)
    same = (arm.name for arm in arms if same_student(arm, baseline))
    first = arms[0].name if arms else design.baseline_name
    factors = {factor: tuple(levels) for factor, levels in design.levels.items()}
    return Resolved(tuple(arms), next(same, first), tuple(impossible), factors, words)


def same_student(left: Arm, right: Arm) -> bool:
    """Whether two arms are the same thing under two names."""
    return training_key(left) == training_key(right) and left.format == right.format


def _one_factor(builder: ArmBuilder, baseline: Arm, budget: str) -> Resolved:
    """One arm per level, each changing one factor. A level equal to the baseline's adds no arm.

    With a single factor the baseline is named after its level.
    """
    arms, impossible = _attempt(builder.arm, builder.design.single_changes())
    levels = dict.fromkeys(builder.design.levels, REST)
    others = []
    for arm in arms:
        ((factor, label),) = arm.levels.items()
        if same_student(arm, baseline) and levels[factor] == REST:
            levels[factor] = label
        else:
            others.append(arm)
    name = baseline.name
    if builder.design.is_unnamed and len(levels) == 1 and REST not in levels.values():
        name = "".join(f"{factor}={label}" for factor, label in levels.items())
    whole = [replace(arm, levels={**levels, **arm.levels}) for arm in others]
    found = (replace(baseline, name=name, levels=levels), *whole)
    factors = {name: tuple(dict.fromkeys(arm.levels[name] for arm in found)) for name in levels}
    return Resolved(found, name, tuple(impossible), factors, budget)


def _attempt(
    make: Callable[[Candidate], Arm], candidates: Iterable[Candidate]
) -> tuple[list[Arm], list[Impossible]]:
    arms, impossible = [], []
    for candidate in candidates:
        try:
            arms.append(make(candidate))
        except InputError as error:
            impossible.append(Impossible(candidate.name, str(error)))
    return arms, impossible
