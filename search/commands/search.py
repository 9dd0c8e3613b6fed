"""The command `search`: from settings to a file that fits."""

import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import optuna
import torch
from rich.console import Console
from rich.text import Text

from search.commands.session import Session, version
from search.database.address import command, database_errors
from search.database.storage import open_storage, reachable
from search.study.folder import STUDENT, named_cache, require_writable
from search.study.ranking import SEEDS, Finalist
from search.study.settings import HERE, NO_TEACHER, Settings, parse_workers
from search.study.spec import OWN_TEACHER, Spec, kept_source
from search.study.study import (
    DESCRIBED,
    FINALISTS,
    TARGET,
    asked_last,
    best_trials,
    counted,
    create,
    free_name,
    place_for,
    publish,
    require_free,
    settle,
    target,
)
from search.terminal import output as report
from search.terminal.progress import Display
from search.training.context import Bench, Station
from search.training.teacher_cache import Wanted, keep_teachers, obtain, read
from search.trials import finalists as final
from search.trials.loop import run_trials
from search.trials.sampled import Sampled
from search.workers import on_ray
from search.workers.auto import middle_student, open_crew, sampled_students, typical_student
from search.workers.executor import Crew
from search.workers.worker import Worker
from space import spaces as families
from space.build import build
from space.errors import InputError
from trainers.data.datasets import Data, load
from trainers.data.survey import survey
from trainers.engine.evaluation import choose_device
from trainers.engine.training import seconds_per_epoch
from trainers.model import Model
from trainers.teachers import teacher as teachers
from trainers.teachers.teacher import Teacher


def search(settings: Settings, as_json: bool, prepare: bool = False) -> None:
    """Create a study, run it, write the best student.

    Args:
        prepare: only create it, and leave its trials to workers.
    """
    session = Session(
        storage=settings.storage,
        workers=parse_workers(settings.workers),
        as_json=as_json,
        out=settings.out,
        cache=named_cache(settings.cache),
        grace=settings.grace,
        on=settings.on,
        gpus_per_worker=settings.gpus_per_worker,
    )
    session.prepare()
    console = session.console
    with database_errors(settings.storage):
        data, device, given = checked(settings, console)
        storage = open_storage(settings.storage, create=True)
        name = settings.name or free_name(storage, settings.default_name)
        folder, where = place_for(settings.storage, name, settings.artifacts)
        with folder.lock(name):
            require_free(storage, name, make_spec(settings, data, ""))
            teacher = own_teacher(settings, given, data, device, console)
            spec = make_spec(settings, data, teacher.hash if teacher else "")
            own = {OWN_TEACHER: teacher} if teacher is not None else {}
            keep_teachers(folder, own)
            asked = {TARGET: settings.trials, FINALISTS: settings.finalists} | settings.limits
            facts = {name: teacher.facts for name, teacher in own.items()}
            study = create(storage, name, spec, asked | where | {DESCRIBED: facts})
        if prepare:
            report.prepared(settings.storage, name, as_json)
            return
        station = Station(spec, folder, spec.source, settings.cache_folder, settings.device)
        go_on(session, station, station.furnished(data, own, device), spec, study)


class Checked(NamedTuple):
    """What a search begins with."""

    data: Data
    device: torch.device
    given: Teacher | None  # the teacher from the settings' file


def checked(settings: Settings, console: Console) -> Checked:
    """What a search begins with, once all that can be refused was asked.

    Nothing is written but the cache of photographs, so that a dry run refuses what the run would.
    """
    device = choose_device(settings.device)
    if settings.on != HERE:
        on_ray.require_ray()
    if settings.out is not None:
        require_writable(Path(settings.out))
    storage = reachable(settings.storage)
    place_for(settings.storage, settings.name or settings.default_name, settings.artifacts)
    teacher = named_teacher(settings)
    data = load(settings.data, settings.size, cache=settings.cache_folder)
    console.print(data.words, soft_wrap=True)
    spec = make_spec(settings, data, "")
    if storage is not None and settings.name is not None:
        require_free(storage, settings.name, spec)
    check_space(spec, console)
    given = read(teacher, data) if teacher is not None else None
    if given is None and spec.recipe.needs_teacher:
        teachers.untrained(settings.teacher_network, data)  # refuses a size that it cannot take
    return Checked(data, device, given)


def go_on(
    session: Session, station: Station, bench: Bench, spec: Spec, study: optuna.Study
) -> None:
    """Run what is left of a search, beside its other workers, and write the best student."""
    bench = replace(bench, say=session.say)
    if session.on != HERE:
        with session.resumable(study.study_name), shown(study, session.console) as display:
            on_ray.run(session, station, study, display)
        ranking = final.finalists(study)
    else:
        typical, console = partial(typical_student, spec), session.console
        with (
            session.worker(study, station.folder) as worker,
            open_crew(bench, station, session.workers, left(study), typical, console) as crew,
            shown(study, console) as display,
        ):
            ranking = finish(spec, worker, crew, display)
    session.say_limit(study)
    conclude(session, station, study, ranking)
    if not left(study):
        settle(study)


def make_spec(settings: Settings, data: Data, teacher_hash: str) -> Spec:
    return Spec(
        space=settings.space,
        compressed_stem=settings.compressed_stem,
        budget=settings.limit,
        multiple=settings.multiple,
        recipe=settings.training(),
        sampler=settings.sampler,
        pruner=settings.pruner,
        seed=settings.seed,
        source=kept_source(settings.data),
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
        console.print(Text("warning:", "yellow") + Text(f" {warning}"), soft_wrap=True)


def own_teacher(
    settings: Settings, given: Teacher | None, data: Data, device: torch.device, console: Console
) -> Teacher | None:
    """The file's, or one from the cache, or trained now; None where the recipe needs none."""
    if given is not None or not settings.training().needs_teacher:
        return given
    wanted = Wanted(network=settings.teacher_network, recipe=settings.teaching())
    then = f"then {settings.trials} trials"
    return obtain(wanted, data, settings.cache_folder, device, console, then=then)


def named_teacher(settings: Settings) -> Path | None:
    """The teacher's file, where the settings name one; else it is a network's name, or none."""
    teacher = settings.teacher
    if teacher in (None, NO_TEACHER) or teacher in teachers.networks():
        return None
    if not Path(str(teacher)).exists():
        raise InputError(
            f"teacher must be a file, a torchvision classifier or {NO_TEACHER!r}, "
            f"but {teacher!r} is none of them"
        )
    return Path(str(teacher))


def left(study: optuna.Study) -> int:
    """Trainings that a study still asks for, as far as that is known."""
    rounds = int(study.user_attrs.get(FINALISTS, 0))
    trials = target(study) - counted(study)
    return max(trials, rounds * len(SEEDS)) if trials > 0 else len(final.untrained(study, rounds))


def shown(study: optuna.Study, console: Console) -> Display:
    """A search's progress, from where it stands."""
    display = Display(console, trials=target(study), done=counted(study))
    for trial in best_trials(study, 1):
        display.known_best(trial.value or 0.0, trial.number, trial.user_attrs["bytes"])
    return display


def finish(spec: Spec, worker: Worker, crew: Crew, display: Display) -> list[Finalist]:
    """Run what is left of a study: its trials, then its finalists; best finalist first."""
    with worker.at_work(crew.devices, in_process=crew.in_process):
        run_trials(Sampled(spec, worker.folder), worker, crew, display)
        rounds = int(worker.study.user_attrs.get(FINALISTS, 0))
        if not rounds:
            return []
        return final.run_finalists(spec, worker, rounds, crew, display)


def conclude(
    session: Session, station: Station, study: optuna.Study, ranking: list[Finalist]
) -> None:
    """Choose the winner, write its file, print the table."""
    leaders, folder = best_trials(study, 1), station.folder
    if ranking and ranking[0].mean > 0:  # or all their seeds diverged, and left no file
        publish(folder.path / final.best_seed(ranking[0]) / STUDENT, folder)
    elif leaders:
        publish(folder.student(leaders[0].number), folder)
    if session.out is not None and leaders:
        report.copy_best(folder.best, Path(session.out))
    name, storage = study.study_name, session.storage
    if session.joined:
        return
    hints = [
        command("show", name, storage),
        session.to_resume(name, "--trials", str(asked_last(study))),
        shlex.join(
            ["distilnas", "test", str(folder.best), "--data", station.source, *session.cache]
        ),
    ]
    report.finished(storage, name, ranking, station.spec, folder, hints, session.as_json)


def dry_run(settings: Settings, as_json: bool) -> None:
    """What a search would do: settings, the space at this budget, the time it would take."""
    with database_errors(settings.storage):
        data, device, _ = checked(settings, report.console(stderr=True))
    spec = make_spec(settings, data, "")
    low, high = families.floor_range(spec.family, spec.budget, spec.card, spec.multiple)
    students = sampled_students(spec, settings.seed)
    card = spec.card
    model = Model(
        build(middle_student(students), seed=0), size=card.size, mean=card.mean, std=card.std
    )
    an_epoch = seconds_per_epoch(model, spec.recipe, data, device)
    seconds = an_epoch * spec.recipe.epochs * settings.trials
    seen = survey(settings.data, data, settings.cache_folder)
    report.planned(settings, spec, low, high, students, an_epoch, seconds, seen, as_json)
