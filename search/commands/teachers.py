"""Train and test teachers, for the commands `teacher ...` and for studies."""

from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from search.study.folder import cache_folder, require_writable
from search.terminal import output
from search.terminal.progress import Display
from search.training.teacher_cache import TeacherFiles, TeacherSource, TeacherSpec, is_cached
from trainers.data.datasets import Data, Split, load, load_test, relabelled
from trainers.data.layouts import DIGITS
from trainers.engine.evaluation import choose_device, evaluate
from trainers.engine.memory import keep_freed_memory
from trainers.files import cache_errors
from trainers.recipe import Recipe, recipe
from trainers.teachers import description
from trainers.teachers import teacher as teachers
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
    out: Path,
    cache: str,
    device: str,
) -> None:
    """Train a teacher from scratch, or fine-tune `weights`; `mean` and `std` are one a channel."""
    require_writable(out, teachers.BESIDE)
    keep_freed_memory()
    console, chosen = output.console(stderr=True), choose_device(device)
    plan = _recipe(data, weights, epochs, lr, seed)
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
            )
        except KeyboardInterrupt:
            console.print("stopped; the same command goes on from the last epoch")
            raise
    _tell(out, teacher, "validation", teacher.info.accuracy or 0.0, len(images.validation), as_json)


def finetune(as_json: bool, *, weights: str | None, network: str | None, **options: Any) -> None:
    """Fine-tune `weights`; by default those that the network comes with."""
    chosen = weights or teachers.own_weights(network or "")
    train(as_json, weights=chosen, network=network, **options)


def test(
    as_json: bool, *, file: Path, data: str, size: int | None, cache: str, device: str
) -> None:
    """A teacher's accuracy on the test split."""
    teacher, chosen = teachers.load(file), choose_device(device)
    pixels = size or (None if data == DIGITS else teacher.info.size)
    loaded, classes = load_test(data, pixels, cache=cache_folder(cache))
    split = relabelled(loaded, classes, teacher.info.classes)
    if split is None:
        raise description.other_classes(teacher.info, classes)
    accuracy = _accuracy(teacher, split, chosen)
    _tell(file, teacher, "test", accuracy, len(split), as_json)


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
    file: Path, teacher: Teacher, split: str, accuracy: float, images: int, as_json: bool
) -> None:
    if as_json:
        facts = {"network": teacher.network, "parameters": teacher.parameters}
        document = {"file": str(file), **facts}
        output.print_json(document | {"split": split, "accuracy": accuracy, "images": images})
        return
    output.console().print(
        f"{file}: {_words(teacher)}, {split} accuracy {accuracy:.2%} on {images:,} images",
        soft_wrap=True,
    )


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
) -> Teacher:
    """A named teacher: from a file or the cache, else trained now."""
    if isinstance(named, TeacherFiles):
        return named.read(data)
    return obtain(named, data, cache, device, console, name, then)


def obtain(
    wanted: TeacherSpec,
    data: Data,
    cache: Path,
    device: torch.device,
    console: Console,
    name: str = "teacher",
    then: str = "",
) -> Teacher:
    """The teacher from the cache, or trained now.

    Args:
        then: what comes after it, in words.
    """
    path = wanted.path(data, cache)
    if is_cached(path):
        return teachers.load(path)
    with Display(console, trials=None, done=0) as display, cache_errors(path.parent):
        words = wanted.words + (f"; {then}" if then else "")
        display.began(name, words, wanted.recipe.epochs)
        try:
            teacher = teach(
                wanted.network,
                wanted.seen(data),
                wanted.recipe,
                path,
                device=device,
                size=wanted.size,
                weights=wanted.weights,
                report=display.follower(name),
            )
        except KeyboardInterrupt:
            console.print("stopped; the same command goes on from the teacher's last epoch")
            raise
    accuracy = teacher.info.accuracy or 0.0
    console.print(f"{name}: validation accuracy {accuracy:.1%}")
    return teacher
