"""Studies: create, open, read. The database is the one source of truth."""

import math
from collections.abc import Mapping
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.database.address import command, sqlite_path
from search.database.goal import order_key
from search.database.row import is_copy, was_trained
from search.database.table import ours, spec_of
from search.study.folder import ARTIFACTS, Folder, check_name, expanded
from search.study.limits import DEVICE_SECONDS, TIMEOUT
from search.study.object_store import is_address
from search.study.plan import AblationSpec, is_plan
from search.study.spec import SearchSpec, StudySpec
from space.errors import InputError
from trainers.files import copy_atomically

SPEC, HASH = "spec", "spec_hash"
TARGET, FINALISTS = "target_trials", "finalists"  # how much a search is to train
SEEDS = "seeds"  # of each arm of an ablation
FIRST_SEEDS = "first_seeds"  # before `resume --seeds` raised them
DESCRIBED = "described"  # a search's teachers: name -> what is known of it
ASKED = (TARGET, TIMEOUT, DEVICE_SECONDS)
ADDED = "added"  # limit -> how much `resume` added last, and the limit that resulted
SETTLED = "settled"  # the same, when the study last ended
SHOWN_DIFFERENCES = 3


def require_free(storage: RDBStorage, name: str, spec: StudySpec) -> None:
    """Called before a teacher is trained, so teachers are not compared.

    Raises:
        InputError: the name is taken; says how the studies differ, if they do.
    """
    if name not in names(storage) or _half_made(storage, name):
        return
    before = read_spec(storage, name)
    if before is None:
        differences = ["it was not made by DistilNAS"]
    elif type(before) is not type(spec):
        differences = [f"it is {'an ablation' if isinstance(before, AblationSpec) else 'a search'}"]
    else:
        differences = before.differences(spec.taught_like(before))
    if differences:
        more = len(differences) - SHOWN_DIFFERENCES
        told = differences[:SHOWN_DIFFERENCES] + ([f"and {more} more"] if more > 0 else [])
        raise InputError(
            f"study {name!r} exists with other settings ({'; '.join(told)}); choose another --name"
        )
    raise InputError(
        f"study {name!r} exists; go on with: {command('resume', name, storage.url)}, "
        "or choose another --name"
    )


def create(
    storage: RDBStorage, name: str, spec: StudySpec, attributes: Mapping[str, object]
) -> optuna.Study:
    """A new study, under a name that `require_free` let pass.

    Args:
        attributes: how much is to be trained, and what is known beside the spec.
    """
    study = optuna.create_study(
        storage=storage, study_name=name, direction="maximize", load_if_exists=True
    )
    for key, value in attributes.items():
        study.set_user_attr(key, value)
    study.set_user_attr(HASH, spec.hash)
    study.set_user_attr(SPEC, spec.to_dict())  # last: a study without it was not completely created
    return study


def _half_made(storage: RDBStorage, name: str) -> bool:
    """Whether a process died in `create` and left a study without spec and trials."""
    number = storage.get_study_id_from_name(name)
    written = storage.get_study_user_attrs(number).keys()
    ours = {*ASKED, FINALISTS, SEEDS, FIRST_SEEDS, DESCRIBED, HASH, ARTIFACTS} >= written
    maximized = storage.get_study_directions(number) == [StudyDirection.MAXIMIZE]
    return ours and maximized and not storage.get_all_trials(number, deepcopy=False)


def names(storage: RDBStorage) -> list[str]:
    """Names of all studies in the database."""
    return [study.study_name for study in storage.get_all_studies()]


def open_study(storage: RDBStorage, name: str) -> tuple[optuna.Study, StudySpec]:
    """A study of DistilNAS and its spec.

    Raises:
        InputError: no such study (the existing ones are named), or another program's.
    """
    existing = names(storage)
    if name not in existing:
        known = ", ".join(existing[:8]) or "none"
        raise InputError(f"no study is named {name!r} in this database; there are: {known}")
    spec = read_spec(storage, name)
    if spec is None and _half_made(storage, name):
        raise InputError(f"study {name!r} was not begun; give the command that made it again")
    if spec is None:
        raise InputError(f"study {name!r} was not made by DistilNAS; choose another one")
    return optuna.load_study(storage=storage, study_name=name), spec


def read_spec(storage: RDBStorage, name: str) -> StudySpec | None:
    """The spec stored with a study; None where there is none of ours."""
    return spec_in(storage.get_study_user_attrs(storage.get_study_id_from_name(name)))


def spec_in(attributes: Mapping[str, object]) -> StudySpec | None:
    """The spec among a study's attributes; None where there is none of ours.

    Raises:
        InputError: another version wrote it.
    """
    spec = spec_of(ours(attributes))
    if not spec:
        return None
    return AblationSpec.from_dict(spec) if is_plan(spec) else SearchSpec.from_dict(spec)


def free_name(storage: RDBStorage, wanted: str) -> str:
    """`wanted`, or `wanted-2`, `wanted-3` ... where it is taken."""
    taken = set(names(storage))
    number, name = 1, wanted
    while name in taken and not _half_made(storage, name):
        number += 1
        name = f"{wanted}-{number}"
    return name


def asked_last(study: optuna.Study) -> int:
    """How many trials were asked for last: at the beginning, or by `resume --trials`."""
    amount, _ = study.user_attrs.get(ADDED, {}).get(TARGET, (target(study), 0))
    return int(amount)


def settle(study: optuna.Study) -> None:
    """Note that all is done that was asked for: the same `resume` then asks for more."""
    study.set_user_attr(SETTLED, study.user_attrs.get(ADDED, {}))


def target(study: optuna.Study) -> int:
    return int(study.user_attrs[TARGET])


def counted(study: optuna.Study) -> int:
    """Trials that ended and for which something was trained."""
    trials = study.get_trials(deepcopy=False)
    return sum(trial.state.is_finished() and is_counted(trial) for trial in trials)


def is_counted(trial: FrozenTrial) -> bool:
    """Of a trial that ended: whether something was trained for it."""
    return was_trained(trial.user_attrs)


def best_trials(study: optuna.Study, count: int) -> list[FrozenTrial]:
    """The best students, best first; each network once."""
    done = [
        trial
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not is_copy(trial.user_attrs)
    ]
    return sorted(done, key=_order)[:count]


def _order(trial: FrozenTrial) -> tuple[float, float, int]:
    size = trial.user_attrs.get("bytes", math.inf)
    return order_key(trial.value or 0.0, size, trial.number)


def folder_of(storage: str, study: optuna.Study, here: str | None = None) -> Folder:
    """The folder of a study's files.

    Args:
        here: where this machine has it, if elsewhere than the study says.
    """
    return Folder(storage, study.study_name, here or study.user_attrs.get(ARTIFACTS))


def folder_for(storage: str, name: str, given: str | None) -> tuple[Folder, dict[str, object]]:
    """The folder of a new study, and what the study says of it.

    Args:
        given: the folder or store that holds studies' folders; without it they lie beside a
            SQLite file.
    """
    if given is None and sqlite_path(storage) is not None:
        return Folder(storage, name), {}
    check_name(name)
    if given is not None and is_address(given):
        where = f"{given.rstrip('/')}/{name}"
    else:
        folder = expanded(given, "--artifacts FOLDER") if given else Path("runs")
        where = str(folder.resolve() / name)
    return Folder(storage, name, where), {ARTIFACTS: where}


def publish(source: Path, folder: Folder) -> None:
    """Copy a student's file to the study's `best.safetensors`."""
    if not source.exists():
        folder.fetch(str(source.relative_to(folder.path)))
    copy_atomically(source, folder.best)
    folder.keep(folder.best.name)
