"""How long an ablation will take: measured on its own networks before anything is trained."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch

from search.study.plan import AblationSpec, training_key
from search.training.costs import epoch_seconds
from search.training.teacher_cache import TeacherSource, TeacherSpec, is_cached
from trainers.data.datasets import Data, Split
from trainers.engine.evaluation import evaluate
from trainers.engine.steps import images_per_epoch
from trainers.engine.training import images_per_second
from trainers.recipe import Recipe
from trainers.teachers import teacher as teachers

MEASURED_ARMS = 16  # at most; the others count as their mean
PROBE_SECONDS = 0.3  # of each
ASKED = 128  # images that a teacher is timed with


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds, one student after the other, on this machine as busy as it is now."""

    students: float
    teachers: float  # to train; those in the cache take none
    logits: float  # of the teachers, for all views

    @property
    def total(self) -> float:
        return self.students + self.teachers + self.logits


def forecast(
    plan: AblationSpec,
    seeds: int,
    data: Data,
    named: Mapping[str, TeacherSource],
    cache: Path,
    device: torch.device,
) -> Forecast:
    """Measure for seconds what will take minutes or hours."""
    heard = {name: its for name, its in named.items() if name in {a.teacher for a in plan.arms}}
    to_train = [its for its in heard.values() if isinstance(its, TeacherSpec)]
    missing = [wanted for wanted in to_train if not is_cached(wanted.path(data, cache))]
    longest: dict[TeacherSpec, int] = {}  # epochs of each training; broken off or not, it is one
    for wanted in missing:
        longest[wanted.whole] = max(wanted.last, longest.get(wanted.whole, 0))
    training = sum(_teacher_seconds(its, n, data, device) for its, n in longest.items())
    students = _students_seconds(plan, data, device) * seeds
    logits = _logits_seconds(plan, seeds, heard, data, device)
    return Forecast(students, training, logits)


def _students_seconds(plan: AblationSpec, data: Data, device: torch.device) -> float:
    """For one seed of every arm; arms with the same training count once."""
    arms = list({training_key(arm): arm for arm in plan.arms}.values())
    measured = [
        epoch_seconds(
            *(plan, arm.architecture, arm.recipe, arm.size),
            *(data.labelled if arm.labelled_only else data, device, PROBE_SECONDS),
        )
        for arm in arms[:MEASURED_ARMS]
    ]
    rest = [fmean(measured)] * (len(arms) - len(measured))
    return sum(
        arm.recipe.epochs * seconds for arm, seconds in zip(arms, measured + rest, strict=True)
    )


def _teacher_seconds(wanted: TeacherSpec, epochs: int, data: Data, device: torch.device) -> float:
    seen = wanted.seen(data)
    model, _ = teachers.untrained(wanted.network, seen)
    rate = images_per_second(model, wanted.recipe, seen, device, PROBE_SECONDS)
    return epochs * len(data.train) / rate


def _logits_seconds(
    plan: AblationSpec,
    seeds: int,
    heard: Mapping[str, TeacherSource],
    data: Data,
    device: torch.device,
) -> float:
    """At most: what earlier studies left in the cache is not looked for."""
    banks: dict[tuple[str, str, int, bool], list[Recipe]] = {}  # by what they depend on
    for arm in plan.arms:
        if arm.teacher is not None:
            views = str(arm.recipe.augment), arm.recipe.view_seed, arm.labelled_only
            banks.setdefault((arm.teacher, *views), []).append(arm.recipe)
    seconds = {name: _image_seconds(its, data, device) for name, its in heard.items()}
    each = 0.0
    for (name, *_, labelled_only), recipes in banks.items():
        images = images_per_epoch(data.labelled if labelled_only else data, recipes[0])
        epochs = {view for recipe in recipes for view in recipe.heard_views}
        each += seconds[name] * images * len(epochs)
    return each * (1 if plan.shared_views else seeds)


def _image_seconds(named: TeacherSource, data: Data, device: torch.device) -> float:
    """What a teacher takes to look at one image."""
    if isinstance(named, TeacherSpec):
        data = named.seen(data)
        model, _ = teachers.untrained(named.network, data)
    else:
        loaded = named.read(data)
        model, data = loaded.model, data.at(loaded.info.size)
    images_NCHW, labels_N = data.train.images_NCHW[:ASKED], data.train.labels_N[:ASKED]
    some = Split(images_NCHW, labels_N)
    began = time.perf_counter()
    evaluate(model.to(device), some, device)
    return (time.perf_counter() - began) / len(some)
