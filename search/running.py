"""The commands `search` and `resume`: from settings to a file that fits."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import torch
from rich.console import Console

from search import finalists as final
from search import report
from search.addresses import database_errors
from search.bench import Station
from search.crew import Crew
from search.places import STUDENT, Folder
from search.progress import Display
from search.ranking import SEEDS, Finalist
from search.settings import NO_TEACHER, Settings, parse_workers
from search.spec import Spec
from search.storage import open_storage
from search.study import (
    FINALISTS,
    TARGET,
    best_trials,
    counted,
    create,
    free_name,
    open_study,
    publish,
    require_free,
    target,
)
from search.trials import run_trials
from search.workers import middle_student, open_crew, sampled_students
from space import families
from space.build import build
from space.errors import InputError
from trainers import teacher as teachers
from trainers.data import Data, load
from trainers.engine import seconds_per_epoch
from trainers.evaluation import choose_device
from trainers.memory import keep_freed_memory
from trainers.model import Model
from trainers.teacher import Teacher
from trainers.teaching import teach, teacher_key


def version() -> str:
    from importlib.metadata import version as installed

    return installed("distilnas")


def search(settings: Settings, as_json: bool) -> None:
    """Create a study, run it, write the best student."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    keep_freed_memory()
    console = Console(stderr=True)
    device = choose_device(settings.device)
    with database_errors(settings.storage):
        data = load(settings.data, settings.size, cache=settings.cache_folder)
        check_space(make_spec(settings, data, ""), console)
        given = given_teacher(settings, data)
        storage = open_storage(settings.storage, create=True)
        name = settings.name or free_name(storage, settings.default_name)
        folder = Folder(settings.storage, name)
        with folder.lock(name):
            require_free(storage, name, make_spec(settings, data, ""))
            teacher = given or taught_teacher(settings, data, device, console)
            spec = make_spec(settings, data, teacher.hash if teacher else "")
            if teacher is not None:  # before the study: what can be resumed has its teacher
                teachers.save(folder.teacher, teacher.model, teacher.info)
            study = create(storage, name, spec, settings.trials, settings.finalists)
            station = Station(spec, folder, spec.source, settings.cache_folder, settings.device)
            with resumable(console, name, settings.storage):
                bench = station.furnished(data, teacher, device)
                workers = parse_workers(settings.workers)
                with open_crew(bench, station, workers, left(study), console) as crew:
                    ranking = finish(station, study, crew, console)
                conclude(station, study, ranking, settings.out, settings.storage, as_json)


def resume(
    name: str,
    as_json: bool,
    *,
    trials: int,
    finalists: int | None,
    data: str | None,
    storage: str,
    cache: str,
    device: str,
    workers: str,
    out: str | None,
    **changed: Any,
) -> None:
    """Go on with a study; `changed` are settings that must be the study's own."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    keep_freed_memory()
    console = Console(stderr=True)
    if trials < 0:
        raise InputError(f"--trials must be at least 0 more trials, but got {trials}")
    size = parse_workers(workers)
    choose_device(device)  # first: the data may take long to load
    with database_errors(storage):
        database = open_storage(storage, create=False)
        study, spec = open_study(database, name)
        refuse_changes(name, spec, changed)
        folder = Folder(storage, name)
        with folder.lock(name):
            place = Path(cache).expanduser()
            station = Station(spec, folder, data or spec.source, place, device)
            bench = station.bench()
            if trials:
                study.set_user_attr(TARGET, max(target(study), counted(study)) + trials)
            if finalists is not None:
                study.set_user_attr(FINALISTS, finalists)
            with resumable(console, name, storage):
                with open_crew(bench, station, size, left(study), console) as crew:
                    ranking = finish(station, study, crew, console)
                conclude(station, study, ranking, out, storage, as_json)


def refuse_changes(name: str, spec: Spec, changed: dict[str, Any]) -> None:
    """Raise InputError for a setting that differs from the study's."""
    mine = {
        "budget": str(spec.budget),
        "epochs": spec.recipe.epochs,
        "space": spec.space,
    }
    given = {key: value for key, value in changed.items() if value is not None}
    if "budget" in given:
        budget = spec.budget.parse(given["budget"], spec.budget.format, spec.budget.macs)
        given["budget"] = str(budget)
    differences = [
        f"{key}: the study has {mine[key]}, but got {value}"
        for key, value in given.items()
        if value != mine[key]
    ]
    if differences:
        raise InputError(
            f"study {name!r} keeps its settings ({'; '.join(differences)}); "
            "start another study: distilnas search --name"
        )


def make_spec(settings: Settings, data: Data, teacher_hash: str) -> Spec:
    source = settings.data if data.name == settings.data else str(Path(settings.data).resolve())
    return Spec(
        space=settings.space,
        compressed_stem=settings.compressed_stem,
        budget=settings.limit,
        multiple=settings.multiple,
        recipe=settings.training(),
        sampler=settings.sampler,
        pruner=settings.pruner,
        seed=settings.seed,
        source=source,
        data=data.fingerprint,
        classes=data.classes,
        channels=data.channels,
        size=data.size,
        teacher=teacher_hash,
        version=version(),
    )


def check_space(spec: Spec, console: Console) -> None:
    """An impossible budget is an error before anything is trained; a tight one is a warning."""
    warning = families.check(spec.family, spec.budget, spec.card, spec.multiple)
    if warning:
        console.print(f"[yellow]warning:[/yellow] {warning}", highlight=False, soft_wrap=True)


def given_teacher(settings: Settings, data: Data) -> Teacher | None:
    """The teacher from the file that the settings name, if they name one."""
    if settings.teacher in (None, NO_TEACHER) or not is_file(str(settings.teacher)):
        return None
    teacher = teachers.load(Path(str(settings.teacher)))
    teachers.require_classes(teacher, data.classes)
    return teacher


def taught_teacher(
    settings: Settings, data: Data, device: torch.device, console: Console
) -> Teacher | None:
    """The teacher from the cache, or trained now; None where the recipe needs none."""
    if not settings.training().needs_teacher:
        return None
    network, recipe = settings.teacher_network, settings.teaching()
    key = teacher_key(network, data, recipe)
    path = settings.cache_folder / "teachers" / f"{network}-{key}.pt"
    if path.exists() and path.with_suffix(".json").exists():
        return teachers.load(path)
    console.print(f"teacher: {network} from scratch, {recipe.epochs} epochs", highlight=False)
    with Display(console, trials=1, done=0, epochs=recipe.epochs) as display:
        display.began("teacher", network)
        try:
            follow = display.follower("teacher")
            teacher = teach(network, data, recipe, path, device=device, report=follow)
        except KeyboardInterrupt:
            console.print("stopped; the same command goes on from the teacher's last epoch")
            raise
    console.print(f"teacher: validation accuracy {teacher.info.accuracy:.1%}", highlight=False)
    return teacher


def is_file(teacher: str) -> bool:
    """A teacher is a file unless it is the name of a network."""
    if teacher in teachers.networks():
        return False
    if not Path(teacher).exists():
        raise InputError(
            f"teacher must be a file, a torchvision classifier or {NO_TEACHER!r}, "
            f"but {teacher!r} is none of them"
        )
    return True


@contextmanager
def resumable(console: Console, name: str, storage: str) -> Iterator[None]:
    """Ctrl-C leaves a study that can be gone on with, and says how."""
    try:
        yield
    except KeyboardInterrupt:
        command = report.command("resume", name, storage)
        console.print(f"stopped; nothing is lost. Go on with: {command}", soft_wrap=True)
        raise


def left(study: optuna.Study) -> int:
    """Trainings that a study still asks for, as far as that is known."""
    rounds = int(study.user_attrs.get(FINALISTS, 0))
    trials = target(study) - counted(study)
    return max(trials, rounds * len(SEEDS)) if trials > 0 else len(final.untrained(study, rounds))


def finish(station: Station, study: optuna.Study, crew: Crew, console: Console) -> list[Finalist]:
    """Run what is left of a study: its trials, then its finalists; best finalist first."""
    spec, folder, epochs = station.spec, station.folder, station.spec.recipe.epochs
    with Display(console, trials=target(study), done=counted(study), epochs=epochs) as display:
        for trial in best_trials(study, 1):
            display.known_best(trial.value or 0.0, trial.number, trial.user_attrs["bytes"])
        run_trials(spec, folder, study, crew, display)
        rounds = int(study.user_attrs.get(FINALISTS, 0))
        if not rounds:
            return []
        return final.run_finalists(spec, folder, study, rounds, crew, display)


def conclude(
    station: Station,
    study: optuna.Study,
    ranking: list[Finalist],
    out: str | None,
    storage: str,
    as_json: bool,
) -> None:
    """Choose the winner, write its file, print the table."""
    folder, leaders = station.folder, best_trials(study, 1)
    if ranking and ranking[0].mean > 0:  # or all their seeds diverged, and left no file
        publish(folder.path / final.best_seed(ranking[0]) / STUDENT, folder)
    elif leaders:
        publish(folder.student(leaders[0].number), folder)
    if out is not None and leaders:
        report.copy_best(folder.best, Path(out))
    report.finished(storage, study.study_name, ranking, station, as_json)


def dry_run(settings: Settings, as_json: bool) -> None:
    """What a search would do: settings, the space at this budget, the time it would take."""
    data = load(settings.data, settings.size, cache=settings.cache_folder)
    spec = make_spec(settings, data, "")
    check_space(spec, Console(stderr=True))
    low, high = families.floor_range(spec.family, spec.budget, spec.card, spec.multiple)
    students = sampled_students(spec, settings.seed)
    device = choose_device(settings.device)
    card = spec.card
    model = Model(
        build(middle_student(students), seed=0), size=card.size, mean=card.mean, std=card.std
    )
    an_epoch = seconds_per_epoch(model, spec.recipe, data, device)
    seconds = an_epoch * spec.recipe.epochs * settings.trials
    report.planned(settings, spec, low, high, students, an_epoch, seconds, as_json)
