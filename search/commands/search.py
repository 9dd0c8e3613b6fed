"""The command `search`: from settings to a file that fits."""

from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console

from search.commands.go_on import go_on
from search.commands.join import join
from search.commands.session import Session, version
from search.commands.teachers import obtain
from search.database.address import database_errors
from search.database.storage import open_storage, reachable
from search.study.folder import named_cache, require_writable
from search.study.settings import HERE, NO_TEACHER, Settings, parse_workers
from search.study.spec import OWN_TEACHER, SearchSpec, kept_source, kept_unlabelled
from search.study.study import (
    DESCRIBED,
    FINALISTS,
    TARGET,
    create,
    folder_for,
    free_name,
    require_free,
)
from search.terminal import output
from search.terminal.dry_run import planned
from search.training.context import ContextSpec
from search.training.costs import sampled_students, space_costs
from search.training.teacher_cache import (
    TeacherFiles,
    TeacherSource,
    TeacherSpec,
    keep_teachers,
    sizes_seen,
)
from search.workers import on_ray
from space import floor
from space.choices import name_of
from space.errors import InputError
from trainers.data.datasets import Data, load
from trainers.data.survey import survey
from trainers.data.unlabelled import with_unlabelled
from trainers.engine.evaluation import choose_device
from trainers.ranges import searched_words
from trainers.teachers import teacher as teachers
from trainers.teachers.networks import is_network, names
from trainers.teachers.teacher import Teacher


def search(settings: Settings, as_json: bool, prepare: bool = False) -> None:
    """Create a study, run it, write the best student.

    Args:
        prepare: only create it, and leave its trials to workers.
    """
    session = Session(
        join=join,
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
        data, device, source, given = checked(settings, console)
        storage = open_storage(settings.storage, create=True)
        name = settings.name or free_name(storage, settings.default_name)
        folder, where = folder_for(settings.storage, name, settings.artifacts)
        with folder.lock(name):
            require_free(storage, name, make_spec(settings, data, ""))
            teacher = given
            if isinstance(source, TeacherSpec):
                then, cache = f"then {settings.trials} trials", settings.cache_folder
                teacher = obtain(source, data, cache, device, console, then=then)
            spec = make_spec(settings, data, teacher.hash if teacher else "")
            own = {OWN_TEACHER: teacher} if teacher is not None else {}
            own = keep_teachers(folder, own)
            asked = {TARGET: settings.trials, FINALISTS: settings.finalists} | settings.limits
            facts = {name: teacher.facts for name, teacher in own.items()}
            study = create(storage, name, spec, asked | where | {DESCRIBED: facts})
        if prepare:
            output.prepared(settings.storage, name, as_json)
            return
        context_spec = ContextSpec(
            spec, folder, spec.source, settings.cache_folder, settings.device
        )
        go_on(session, context_spec, context_spec.furnished(data, own, device), study)


class Checked(NamedTuple):
    """What a search begins with."""

    data: Data
    device: torch.device
    source: TeacherSource | None  # the teacher's file, or what is to be trained
    given: Teacher | None  # the teacher from the file


def checked(settings: Settings, console: Console) -> Checked:
    """Load what a search begins with, and check all that it may be refused for.

    Nothing is written but the cache of photographs, so that a dry run refuses what the run would.
    """
    device = choose_device(settings.device)
    if settings.on != HERE:
        on_ray.require_ray()
    if settings.out is not None:
        require_writable(Path(settings.out))
    storage = reachable(settings.storage)
    folder_for(settings.storage, settings.name or settings.default_name, settings.artifacts)
    source = teacher_source(settings)
    sizes = settings.sizes_asked
    data = load(
        settings.data,
        sizes[-1] if sizes else settings.size,
        others={*sizes, *sizes_seen([source] if source is not None else [])},
        cache=settings.cache_folder,
    )
    if settings.unlabelled is not None:
        data = with_unlabelled(data, settings.unlabelled, cache=settings.cache_folder)
    console.print(data.words, soft_wrap=True)
    spec = make_spec(settings, data, "")
    if spec.ranges:
        console.print(searched_words(spec.ranges.to_dict()), soft_wrap=True)
    if storage is not None and settings.name is not None:
        require_free(storage, settings.name, spec)
    check_space(spec, console)
    given = None
    if isinstance(source, TeacherFiles):
        given = source.read(data)
    elif source is not None:
        teachers.untrained(source.network, source.seen(data))  # refuses a size it cannot take
    return Checked(data, device, source, given)


def make_spec(settings: Settings, data: Data, teacher_hash: str) -> SearchSpec:
    space = settings.stated_space
    return SearchSpec(
        space=name_of(space),
        own_space=None if isinstance(space, str) else space,
        compressed_stem=settings.compressed_stem,
        budget=settings.limit,
        multiple=settings.multiple,
        recipe=settings.training(),
        ranges=settings.searched,
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
        **kept_unlabelled(data, settings.unlabelled),
    )


def check_space(spec: SearchSpec, console: Console) -> None:
    """Raise InputError for an impossible budget, and warn of a tight one, before training."""
    for budget in spec.budgets:
        warning = floor.check(spec.search_space, budget, spec.metadata, spec.multiple)
        if warning:
            output.warn(console, warning)


def teacher_source(settings: Settings) -> TeacherSource | None:
    """The teacher that the settings name, or the one to train where a student listens to one."""
    file = named_teacher(settings)
    if file is not None or not settings.needs_teacher:
        return file
    network, teaching = settings.teacher_network, settings.teaching()
    return TeacherSpec(network=network, recipe=teaching, size=teachers.own_size(network))


def named_teacher(settings: Settings) -> TeacherFiles | None:
    """The teacher's files, if the settings name some (rather than a network, or none)."""
    stated = settings.teachers
    if not stated or stated == (NO_TEACHER,) or (stated[0] in names() and len(stated) == 1):
        return None
    paths = tuple(map(Path, stated))
    missing = next((path for path in paths if not path.exists()), None)
    if missing is None:
        return TeacherFiles(paths=paths, mix=settings.teacher_mix)
    if len(stated) > 1:
        raise InputError(
            f"each of several teachers must be a file, but {str(missing)!r} is none; make one: "
            "distilnas teacher train"
        )
    if not is_network(stated[0]):
        raise InputError(
            "teacher must be a file, a network (a torchvision classifier, timm:NAME, "
            f"module:function) or {NO_TEACHER!r}, but {stated[0]!r} is none of them"
        )
    return None


def dry_run(settings: Settings, as_json: bool) -> None:
    """Print what a search would do: its settings, what students of the space cost, the time."""
    with database_errors(settings.storage):
        data, device, *_ = checked(settings, output.console(stderr=True))
    spec = make_spec(settings, data, "")
    floors = [
        floor.floor_range(spec.search_space, budget, spec.metadata, spec.multiple)
        for budget in spec.budgets
    ]
    low = min((smallest for smallest, _ in floors), key=lambda student: student.cost)
    high = max((largest for _, largest in floors), key=lambda student: student.cost)
    students = sampled_students(spec, settings.seed)
    costs = space_costs(students, spec, data, device)
    seen = survey(settings.data, data, settings.cache_folder, settings.unlabelled)
    planned(settings, spec, low, high, students, costs, seen, as_json)
