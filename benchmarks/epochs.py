"""Seconds of an epoch at one point of `benchmarks/cost_curves.py`."""

import tempfile
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from benchmarks import synthetic
from search.study.folder import Folder
from search.study.spec import SearchSpec
from search.training.context import ContextSpec
from search.training.job import Job
from search.workers.child import Probe
from search.workers.executor import keep_busy
from search.workers.processes import ProcessExecutor
from space.architecture import Architecture
from space.build import build
from space.errors import InputError
from space.file_format import StudentMetadata, normalisation
from space.solver import Budget, solve
from space.spaces import search_space
from trainers.data.datasets import Data, Split, load
from trainers.engine.modes import default_mode
from trainers.engine.training import train
from trainers.model import Model
from trainers.recipe import HARD_ONLY, Recipe, recipe

SHAPE_SIZE = 64  # pixels that the shape is made for
VALIDATION_PART = 4  # of as many training images, one to evaluate
WARM_SECONDS = 0.2


@dataclass(frozen=True)
class Point:
    """One thing to time."""

    images: int
    size: int  # pixels
    budget: str
    workers: int = 1


@dataclass(frozen=True)
class Setting:
    """What is the same for all points."""

    device: torch.device
    device_flag: str
    batch: int
    data: str | None  # folder of photographs
    cache: Path
    students: int  # of the workers' axis

    def recipe(self, epochs: int) -> Recipe:
        settings = {"epochs": epochs, "batch": self.batch, "phases": HARD_ONLY}
        return recipe("default").with_settings(settings)


def student_of(budget: str) -> Architecture:
    """The middle shape of `mobile`, solved for a budget in int8."""
    space = search_space("mobile", size=SHAPE_SIZE)
    middle = {name: values[len(values) // 2] for name, values in space.choices.items()}
    classes = synthetic.CLASSES
    shape = space.shape(middle, classes=classes, channels=3, size=SHAPE_SIZE)
    mean, std = normalisation(3)
    names = tuple(f"class {index}" for index in range(classes))
    metadata = StudentMetadata(classes=names, size=SHAPE_SIZE, mean=mean, std=std)
    return solve(shape, Budget.parse(budget), metadata).architecture


@lru_cache(maxsize=1)
def loaded(source: str, size: int, cache: Path) -> Data:
    return load(source, size, cache=cache)


def data_of(point: Point, setting: Setting) -> Data:
    """The photographs of a point."""
    kept = max(2, point.images // VALIDATION_PART)
    if setting.data is None:
        return synthetic.photographs(point.images, kept, point.size)
    found = loaded(setting.data, point.size, setting.cache)
    splits = [_first(found.train, point.images), _first(found.validation, kept)]
    return replace(found, train=splits[0], validation=splits[1])


def _first(split: Split, count: int) -> Split:
    if len(split) < count:
        raise InputError(
            f"the photographs must be at least {count:,} here, but a split has {len(split):,}; "
            "choose smaller --images and --middle-images"
        )
    return Split(split.images_NCHW[:count], split.labels_N[:count])


def epoch_seconds(point: Point, setting: Setting) -> float:
    """Of the second epoch: the first also makes room in memory."""
    data = data_of(point, setting)
    student = replace(student_of(point.budget), classes=len(data.classes))
    mean, std = normalisation(data.channels)
    model = Model(build(student, seed=0), size=point.size, mean=mean, std=std)
    mode = default_mode(setting.device)
    result = train(model, setting.recipe(epochs=2), data, device=setting.device, mode=mode)
    return len(data.train) / result.history[-1].images_per_second


def crew_seconds(point: Point, setting: Setting) -> float:
    """A student's epoch, when `point.workers` of them are trained at once."""
    with tempfile.TemporaryDirectory(prefix="distilnas-curves-") as folder:
        source = setting.data
        if source is None:
            kept = max(synthetic.CLASSES, point.images // VALIDATION_PART)
            source = f"{folder}/photographs"
            synthetic.write_folder(Path(source), point.images, kept, point.size)
        context_spec, student = _station(point, setting, source, Path(folder))
        recipe = setting.recipe(epochs=1)
        places = [f"trial{number:04d}" for number in range(setting.students)]
        jobs = [Job(student, recipe, "int8", None, place) for place in places]
        with ProcessExecutor(context_spec, point.workers) as executor:
            executor.speed(point.workers, Probe(student, recipe, WARM_SECONDS))
            began = time.perf_counter()
            _train_all(executor, jobs)
            return (time.perf_counter() - began) / setting.students


def _station(
    point: Point, setting: Setting, source: str, folder: Path
) -> tuple[ContextSpec, Architecture]:
    cache = setting.cache if setting.data else folder / "cache"
    data = load(source, point.size, cache=cache, progress=False)
    spec = SearchSpec(
        space="mobile",
        compressed_stem=False,
        budget=Budget.parse(point.budget),
        multiple=4,
        recipe=setting.recipe(epochs=1),
        sampler="random",
        pruner="none",
        seed=0,
        source=source,
        data=data.fingerprint,
        classes=data.classes,
        channels=data.channels,
        size=point.size,
        teacher="",
        version="benchmark",
    )
    place = Folder(f"{folder}/studies.db", "curves")
    student = replace(student_of(point.budget), classes=len(data.classes))
    return ContextSpec(spec, place, source, cache, setting.device_flag), student


def _train_all(executor: ProcessExecutor, jobs: list[Job]) -> None:
    failed: list[BaseException] = []

    def done(answer: object) -> None:
        if isinstance(answer, BaseException):
            failed.append(answer)

    def start_next() -> bool:
        if not jobs:
            return False
        executor.start(jobs.pop(), lambda _epoch: False, done)
        return True

    keep_busy(executor, start_next)
    if failed:
        raise InputError(f"a student of the crew has failed: {failed[0]}")
