"""The command `doctor`: whether a study, its workers and its files agree; mends what it can."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.text import Text

from search.database.address import command, database_errors
from search.database.leases import Lease, locked, swap, trial_key
from search.database.row import Row
from search.database.storage import backend_of, open_storage
from search.study.folder import CHECKPOINT, EXACT, STUDENT, Folder
from search.study.ranking import FURTHER_SEEDS, attribute, seed_key
from search.study.spec import StudySpec
from search.study.study import HASH, best_trials, folder_of, open_study, publish
from search.terminal import output
from search.training.context import own_teacher
from search.training.drafts import abandoned, discard
from search.workers import crashes
from search.workers.presence import boot, host, is_dead
from space.errors import InputError
from space.file_format import EXACT_FORMAT
from space.fingerprint import file_fingerprint
from trainers import export
from trainers.engine.checkpoint import Checkpoint
from trainers.files import unsealed

Mend = Callable[[], object]
SUFFIX_BEFORE = Checkpoint(Path(CHECKPOINT)).before.name


class Finding(NamedTuple):
    """Something wrong with a study."""

    what: str
    remedy: str  # what was done about it, or what a person can do
    mend: Mend | None = None  # does it; None where this program cannot


class Examined(NamedTuple):
    """A study under examination."""

    study: optuna.Study
    spec: StudySpec
    folder: Folder
    dead: frozenset[str]  # workers whose leases are no longer renewed
    living: frozenset[str]


def doctor(name: str, storage: str, artifacts: str | None, dry_run: bool, as_json: bool) -> int:
    """Examine a study and mend what can be mended; the exit status: 1 where something is left."""
    with database_errors(storage):
        opened = open_storage(storage, create=False, to_look=True)
        dry_run |= opened.read_only
        study, spec = open_study(opened, name)
        folder = folder_of(storage, study, artifacts)
        folder.require(name)
        folder.fetch_all()
        dead, living = watched(study, folder, as_json)
        examined = Examined(study, spec, folder, dead, living)
        found = [finding for check in CHECKS for finding in check(examined)]
        for finding in found:
            if finding.mend is not None and not dry_run:
                finding.mend()
    _told(examined, found, storage, dry_run, as_json)
    return int(any(dry_run or finding.mend is None for finding in found))


def watched(
    study: optuna.Study, folder: Folder, quiet: bool
) -> tuple[frozenset[str], frozenset[str]]:
    """Workers that hold leases, dead and living: known here, else watched for their grace."""
    begin = backend_of(study).leases
    dead = {lease.worker for lease in begin.values() if _died_here(lease, folder)}
    unsure = {key: lease for key, lease in begin.items() if lease.worker not in dead}
    if unsure:
        seconds = max(lease.grace for lease in unsure.values())
        console = output.console(stderr=True)
        said = f"watching {len(unsure)} trials in training for up to {seconds:.0f} s"
        with console.status(said):
            if not quiet and not console.is_terminal:
                console.print(said)
            until = time.monotonic() + seconds
            while unsure and time.monotonic() < until:
                time.sleep(0.5)
                now = backend_of(study).leases
                unsure = {p: lease for p, lease in unsure.items() if now.get(p) == lease}
    still = {lease.worker for lease in unsure.values()}
    living = {lease.worker for lease in begin.values()} - dead - still
    return frozenset(dead | still), frozenset(living)


def _died_here(lease: Lease, folder: Folder) -> bool:
    here = (lease.host, lease.boot) == (host(), boot())
    return here and is_dead(folder.worker(lease.worker))


def zombies(examined: Examined) -> Iterator[Finding]:
    """Leases of dead workers, and of trials that have ended."""
    ended = {trial_key(t.number) for t in _trials(examined) if t.state.is_finished()}
    for key, lease in backend_of(examined.study).leases.items():
        gone = lease.worker in examined.dead
        if gone or key in ended:
            why = "which is dead" if gone else "though it has ended"
            yield Finding(
                f"{key} is held by worker {lease.worker}, {why}",
                "given back: the next worker goes on from its checkpoint",
                partial(_give_back, examined.study, examined.folder, key, lease),
            )


def _give_back(study: optuna.Study, folder: Folder, key: str, lease: Lease) -> None:
    backend = backend_of(study)
    with locked(backend.engine, backend.study_id) as connection:
        if swap(connection, backend.study_id, key, lease, None):
            crashes.note(connection, backend.study_id, folder, key, lease)


def rows(examined: Examined) -> Iterator[Finding]:
    """Rows that disagree with themselves, with each other, or with the study."""
    trials, hash = _trials(examined), examined.study.user_attrs.get(HASH)
    if hash != examined.spec.hash:
        yield Finding(
            f"the study's settings have the hash {examined.spec.hash}, but its record says {hash}",
            "someone edited them: its trials may not be comparable",
        )
    numbers = [trial.number for trial in trials]
    if sorted(numbers) != list(range(len(numbers))):
        yield Finding(
            f"trials must be numbered 0 to {len(numbers) - 1}, each once, but are not",
            "another program wrote to the database; copy what you need to a new study",
        )
    for trial in trials:
        if trial.state != TrialState.COMPLETE:
            continue
        row = Row.of(trial.user_attrs)
        network = row.network
        if network is not None and network.fingerprint != row.fingerprint:
            yield Finding(
                f"trial {trial.number}: its architecture's fingerprint is "
                f"{network.fingerprint}, but its row says {row.fingerprint}",
                "someone edited the row: leave the trial out",
            )


def students(examined: Examined) -> Iterator[Finding]:
    """Students' files that are missing, damaged, or not those of their rows."""
    attributes = examined.study.user_attrs
    for trial in _trials(examined):
        row = Row.of(trial.user_attrs)
        if trial.state == TrialState.COMPLETE and not row.is_copy:
            yield from _student(examined.folder, trial_key(trial.number), row)
        for seed in FURTHER_SEEDS:
            final = Row.of(attributes.get(attribute(trial.number, seed), {}))
            if final.file_accuracy is not None:
                known = replace(final, format=row.format)
                yield from _student(examined.folder, seed_key(trial.number, seed), known)


def _student(folder: Folder, key: str, row: Row) -> Iterator[Finding]:
    path = folder.path / key / STUDENT
    wrong = _what_is_wrong(path, row)
    if wrong is None:
        return
    what, exact, format = f"{key}/{STUDENT} {wrong}", path.with_name(EXACT), str(row.format)
    if format != EXACT_FORMAT and _what_is_wrong(exact, Row()) is None:
        yield Finding(what, f"made again from {EXACT}", partial(_made_again, folder, key, format))
    else:
        yield Finding(what, "bring it back from a copy; its row's accuracy stands")


def _made_again(folder: Folder, key: str, format: str) -> None:
    path = folder.path / key / STUDENT
    export.convert(path.with_name(EXACT), format, path)
    folder.keep(f"{key}/{STUDENT}")


def _what_is_wrong(path: Path, row: Row) -> str | None:
    if not path.exists():
        return "is missing"
    if row.file_sha256 is not None and file_fingerprint(path) != row.file_sha256:
        return "is not the file that was scored"
    if row.bytes is not None and path.stat().st_size != row.bytes:
        return f"has {path.stat().st_size:,} bytes, but its row says {row.bytes:,}"
    try:
        export.read(path)
    except (InputError, OSError) as error:
        return f"cannot be read: {error}"
    return None


def best(examined: Examined) -> Iterator[Finding]:
    """The study's best file must be one of its students'."""
    path, leaders = examined.folder.best, best_trials(examined.study, 1)
    if not leaders or examined.living or _unfinished(examined):
        return  # it is written at the end
    files = examined.folder.path.glob("trial*/**/" + STUDENT)
    if path.exists() and file_fingerprint(path) in {file_fingerprint(file) for file in files}:
        return
    source = examined.folder.student(leaders[0].number)
    what = f"{path.name} is {'none of the students' if path.exists() else 'missing'}"
    if source.exists():
        yield Finding(
            what,
            f"written again from trial {leaders[0].number}; `distilnas resume` chooses a finalist",
            partial(publish, source, examined.folder),
        )
    else:
        yield Finding(what, "the best trial has no file to write it from")


def teachers(examined: Examined) -> Iterator[Finding]:
    """The study's own copies of its teachers."""
    for name, hash in examined.spec.teachers.items():
        try:
            own_teacher(examined.folder, name, hash)
        except (InputError, OSError) as error:
            yield Finding(f"teacher {name!r}: {error}", "without it the study cannot go on")


def checkpoints(examined: Examined) -> Iterator[Finding]:
    """Checkpoints of what has ended, and damaged ones."""
    ended = {trial_key(t.number) for t in _trials(examined) if t.state.is_finished()}
    results = examined.study.user_attrs
    ended_finals = {
        seed_key(trial.number, seed)
        for trial in _trials(examined)
        for seed in FURTHER_SEEDS
        if attribute(trial.number, seed) in results
    }
    leases = backend_of(examined.study).leases
    held = {place for place, lease in leases.items() if lease.worker in examined.living}
    for name in (CHECKPOINT, SUFFIX_BEFORE):
        for path in sorted(examined.folder.path.glob(f"trial*/**/{name}")):
            key = str(path.parent.relative_to(examined.folder.path))
            drop = partial(examined.folder.drop, f"{key}/{name}")
            if key in ended | ended_finals:
                yield Finding(f"{key}/{name} is left of what has ended", "removed", drop)
            elif key not in held and unsealed(path) is None:
                remedy = "removed: it costs the epochs since the one before"
                yield Finding(f"{key}/{name} is damaged", remedy, drop)


def leftovers(examined: Examined) -> Iterator[Finding]:
    """What dead workers had begun to write."""
    root = examined.folder.path
    dead = [d for d in abandoned(examined.folder) if d.stem not in examined.living]
    for draft in dead:
        yield Finding(
            f"{draft.relative_to(root)} is a dead worker's draft",
            "removed",
            partial(discard, examined.folder, str(draft.relative_to(root))),
        )
    temporary = [] if examined.living else sorted(root.rglob(".*.tmp"))
    for path in temporary:
        if path.parent not in dead:  # its draft goes as a whole
            what = f"{path.relative_to(root)} was not written to its end"
            yield Finding(what, "removed", partial(path.unlink, missing_ok=True))
    for mark in filter(is_dead, sorted(root.glob("workers/*"))):
        remove = partial(mark.unlink, missing_ok=True)
        yield Finding(f"workers/{mark.name} is a dead worker's", "removed", remove)


CHECKS = (zombies, rows, students, best, teachers, checkpoints, leftovers)


def _trials(examined: Examined) -> list[FrozenTrial]:
    return examined.study.get_trials(deepcopy=False)


def _unfinished(examined: Examined) -> int:
    return sum(trial.state == TrialState.RUNNING for trial in _trials(examined))


def _told(
    examined: Examined, found: list[Finding], storage: str, dry_run: bool, as_json: bool
) -> None:
    name, leases = examined.study.study_name, backend_of(examined.study).leases.values()
    waiting = _unfinished(examined) - sum(lease.worker in examined.living for lease in leases)
    if as_json:
        documents = [
            {"what": f.what, "remedy": f.remedy, "mended": f.mend is not None and not dry_run}
            for f in found
        ]
        workers = {"living": sorted(examined.living), "dead": sorted(examined.dead)}
        output.print_json({"study": name, "workers": workers, "findings": documents})
        return
    out = output.console()
    for finding in found:
        mended = finding.mend is not None
        sign, color = ("mended", "green") if mended and not dry_run else ("left", "red")
        if mended and dry_run:
            sign, color = "can be mended", "yellow"
        words = Text(f"{sign}: ", color) + Text(f"{finding.what} ({finding.remedy})")
        out.print(words, soft_wrap=True)
    counts = f"{len(_trials(examined))} trials, {len(examined.living)} living workers"
    sum_up = f"{len(found)} found" if found else "nothing found"
    out.print(f"study {name!r}: {counts}, {sum_up}", soft_wrap=True)
    if waiting > 0:
        unfinished = f"{waiting} {'trial is' if waiting == 1 else 'trials are'}"
        out.print(f"{unfinished} unfinished; go on with: {command('resume', name, storage)}")
