"""Train and test teachers, for the commands `teacher ...` and for studies."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from search.database import table
from search.database.address import command, database_errors
from search.database.engine import open_engine
from search.study.folder import cache_folder, require_writable
from search.study.settings import default_recipe, training_recipe
from search.terminal import output
from search.terminal.looks import looks_document, print_looks, warnings_of
from search.terminal.progress import Display
from search.training.teacher_cache import TeacherFiles, TeacherSource, TeacherSpec, is_cached
from space.errors import InputError, require
from trainers.data.datasets import Data, Split, load, load_test, relabelled
from trainers.data.layouts import DIGITS, read_layout
from trainers.data.walk import normal
from trainers.engine.evaluation import choose_device, evaluate
from trainers.engine.memory import keep_freed_memory
from trainers.files import cache_errors
from trainers.recipe import Recipe, recipe
from trainers.teachers import description, looks
from trainers.teachers import teacher as teachers
from trainers.teachers.early import early_path
from trainers.teachers.networks import check_name
from trainers.teachers.teach import teach
from trainers.teachers.teacher import Numbers, Teacher


def train(
    as_json: bool,
    *,
    weights: str | None,
    data: str,
    network: str | None,
    size: int | None,
    input_size: int | None,
    mean: Numbers | None,
    std: Numbers | None,
    epochs: int | None,
    lr: float | None,
    seed: int,
    keep: tuple[int, ...],
    out: Path,
    cache: str,
    device: str,
) -> None:
    """Train a teacher from scratch, or fine-tune `weights`.

    Args:
        mean: one number a channel, of its inputs; likewise `std`.
        keep: epochs after which it is written too, to files of their own beside `out`.
    """
    require_writable(out, teachers.BESIDE)
    keep_freed_memory()
    console, chosen = output.console(stderr=True), choose_device(device)
    plan = _recipe(data, weights, epochs, lr, seed)
    for epoch in keep:
        require("--keep", epoch, 1 <= epoch <= plan.epochs, f"epochs from 1 to {plan.epochs}")
        require_writable(early_path(out, epoch), teachers.BESIDE)
    network = network or ("teacher-small" if data == DIGITS and weights is None else "resnet18")
    check_name(network)
    # Photographs as large as the teacher sees them.
    pixels = size or input_size or teachers.own_size(network)
    images = load(data, pixels, cache=cache_folder(cache))
    console.print(images.words, soft_wrap=True)
    with Display(console, trials=None, done=0) as display:
        display.began("teacher", network, plan.epochs)
        try:
            teacher = teach(
                network,
                images,
                plan,
                out,
                device=chosen,
                size=input_size,
                mean=mean,
                std=std,
                weights=weights,
                report=display.follower("teacher"),
                keep=keep,
            )
        except KeyboardInterrupt:
            console.print("stopped; the same command goes on from the last epoch")
            raise
    accuracy, count = teacher.info.accuracy or 0.0, len(images.validation)
    early = [(epoch, early_path(out, epoch)) for epoch in keep]
    kept: list[dict[str, object]] = [
        {"epoch": epoch, "file": str(file), "accuracy": description.read_info(file).accuracy}
        for epoch, file in early
    ]
    _tell(out, teacher, "validation", accuracy, count, as_json, {"kept": kept})
    if not as_json:
        for one in kept:
            words = "{file}: after epoch {epoch}, validation accuracy {accuracy:.2%}"
            output.console().print(words.format_map(one), soft_wrap=True)


def finetune(as_json: bool, *, weights: str | None, network: str | None, **options: Any) -> None:
    """Fine-tune `weights`; by default those that the network comes with."""
    chosen = weights or teachers.own_weights(network or "")
    train(as_json, weights=chosen, network=network, **options)


def test(
    as_json: bool,
    *,
    file: Path,
    data: str,
    size: int | None,
    recipe: str | None,
    views: int,
    than: float | None,
    study: str | None,
    storage: str,
    cache: str,
    device: str,
) -> None:
    """A teacher's accuracy on the test split, what students can learn from it, and what is wrong.

    Args:
        recipe: whose views of the training images it is asked about; the data's by default.
        views: of each of them, at least 1.
        than: an accuracy that students have, a share.
        study: whose best student it is compared with.
    """
    require("--views", views, views >= 1, "at least 1")
    plan = training_recipe(data, recipe, None)
    teacher, chosen = teachers.load(file), choose_device(device)
    classes, own_size = teacher.info.classes, teacher.info.size
    compared = {} if than is None else {"students": than}
    if study is not None:
        compared[f"the students of {study!r}"] = best_student(storage, study, classes)
    pixels, place = size or (None if data == DIGITS else own_size), cache_folder(cache)
    images = load(data, pixels, cache=place)
    train, validation = (
        _in_order_of(teacher, split, images.classes) for split in (images.train, images.validation)
    )
    images = replace(images, train=train, validation=validation, classes=classes)
    tested, accuracy = None, None
    if has_test(data):
        tested = _in_order_of(teacher, *load_test(data, pixels, cache=place))
        accuracy = _accuracy(teacher, tested, chosen)
    seen = looks.look(teacher.model, images, plan, views, chosen)
    name = recipe or default_recipe(data)
    doubts = list(warnings_of(seen, compared))
    document = looks_document(seen, name, views) | {"compared": compared, "warnings": doubts}
    count = None if tested is None else len(tested)
    _tell(file, teacher, "test", accuracy, count, as_json, {"looks": document})
    if not as_json:
        print_looks(output.console(), seen, name, views)
    for line in doubts:
        output.warn(output.console(stderr=True), line)


def best_student(storage: str, name: str, classes: tuple[str, ...]) -> float:
    """Validation accuracy, a share, of a study's best student.

    Raises:
        InputError: no such study, another program's, one of other classes, or one without a
            complete trial.
    """
    with database_errors(storage):
        database = open_engine(storage)
        spec = table.spec_of(table.attributes(database, name))
        frame = table.trials(database, name, ("bytes", "duplicate_of"), with_params=False)
    if not spec:
        raise InputError(f"study {name!r} was not made by DistilNAS: it has no students")
    if sorted(map(normal, spec["classes"])) != sorted(map(normal, classes)):
        raise InputError(
            f"the students of {name!r} must know the teacher's {len(classes)} classes, but know "
            f"{len(spec['classes'])} others ({', '.join(spec['classes'][:3])}, ...); name a study "
            "of the same data"
        )
    leaders = table.best(frame, 1)
    if not len(leaders):
        raise InputError(
            f"study {name!r} has no complete trial yet; go on with: "
            f"{command('resume', name, storage)}"
        )
    return float(leaders["value"].iloc[0])


def has_test(data: str) -> bool:
    """Whether the data has a test split."""
    return data == DIGITS or read_layout(Path(data)).test is not None


def _in_order_of(teacher: Teacher, split: Split, classes: tuple[str, ...]) -> Split:
    """The split with labels as places among the teacher's outputs."""
    found = relabelled(split, classes, teacher.info.classes)
    if found is None:
        raise description.other_classes(teacher.info, classes)
    return found


def _accuracy(teacher: Teacher, split: Split, device: torch.device) -> float:
    return evaluate(teacher.model.to(device), split, device)


def _recipe(
    data: str, weights: str | None, epochs: int | None, lr: float | None, seed: int
) -> Recipe:
    scratch = "teacher-digits" if data == DIGITS else "teacher-scratch"
    base = recipe(scratch if weights is None else "teacher-finetune")
    given = {"epochs": epochs, "lr": lr, "lr_end": None if lr is None else min(lr, base.lr_end)}
    settings = {name: value for name, value in given.items() if value is not None}
    return base.with_settings(settings | {"seed": seed})


def _tell(
    file: Path,
    teacher: Teacher,
    split: str,
    accuracy: float | None,
    images: int | None,
    as_json: bool,
    more: Mapping[str, object],
) -> None:
    """A teacher and its accuracy on a split; None where the data has no such split.

    Args:
        more: of the JSON document.
    """
    if as_json:
        facts = {"network": teacher.network, "parameters": teacher.parameters}
        figures = {"split": split, "accuracy": accuracy, "images": images}
        output.print_json({"file": str(file), **facts, **figures, **more})
        return
    told = f"there is no {split} split"
    if accuracy is not None:
        told = f"{split} accuracy {accuracy:.2%} on {images:,} images"
    output.console().print(f"{file}: {_words(teacher)}, {told}", soft_wrap=True)


def _words(teacher: Teacher) -> str:
    count = teacher.parameters
    return teacher.network + (f", {count:,} parameters" if count is not None else "")


def taught(
    named: TeacherSource,
    data: Data,
    cache: Path,
    device: torch.device,
    console: Console,
    name: str,
    then: str,
    beside: Iterable[TeacherSource] = (),
) -> Teacher:
    """A named teacher: from a file or the cache, else trained now.

    Args:
        beside: teachers that will be asked for too, as `obtain` has them.
    """
    if isinstance(named, TeacherFiles):
        return named.read(data)
    return obtain(named, data, cache, device, console, name, then, beside)


def obtain(
    wanted: TeacherSpec,
    data: Data,
    cache: Path,
    device: torch.device,
    console: Console,
    name: str = "teacher",
    then: str = "",
    beside: Iterable[TeacherSource] = (),
) -> Teacher:
    """The teacher from the cache, or trained now.

    Args:
        then: what comes after it, in words.
        beside: teachers that will be asked for too. Those of the same training, broken off earlier
            or later, come from it as well.
    """
    path = wanted.path(data, cache)
    if is_cached(path):
        return teachers.load(path)
    levels = wanted.levels(beside)
    last = max(level.last for level in levels if not is_cached(level.path(data, cache)))
    longest = wanted.stopped(last)
    with Display(console, trials=None, done=0) as display, cache_errors(path.parent):
        words = longest.words + (f"; {then}" if then else "")
        display.began(name, words, last)
        try:
            teach(
                wanted.network,
                wanted.seen(data),
                wanted.recipe,
                wanted.whole.path(data, cache),
                device=device,
                size=wanted.size,
                weights=wanted.weights,
                report=display.follower(name),
                keep=[level.stop_after for level in levels if level.stop_after is not None],
                until=longest.stop_after,
            )
        except KeyboardInterrupt:
            console.print("stopped; the same command goes on from the teacher's last epoch")
            raise
    teacher = teachers.load(path)
    accuracy = teacher.info.accuracy or 0.0
    console.print(f"{name}: validation accuracy {accuracy:.1%}")
    return teacher
