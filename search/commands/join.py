"""The command `worker`: a process joins a study that others work on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import optuna

from search.commands.go_on import go_on
from search.commands.session import Session
from search.database.address import database_errors
from search.database.storage import open_storage
from search.study.folder import cache_folder, named_cache
from search.study.settings import parse_grace, parse_workers
from search.study.spec import StudySpec
from search.study.study import (
    folder_of,
    open_study,
)
from search.terminal import output
from search.training.context import ContextSpec
from search.workers.stopping import StopRequest
from search.workers.worker import FINALIST
from space.errors import InputError
from trainers.engine.evaluation import choose_device

WAIT_SECONDS = 1.0  # between two looks for a study


def join(
    name: str,
    as_json: bool,
    *,
    data: str | None,
    artifacts: str | None,
    storage: str,
    cache: str,
    device: str,
    workers: str,
    grace: float | None,
    wait: float,
    stop_request: StopRequest | None = None,
) -> None:
    """Work on a study beside its other workers, until it has ended."""
    session = Session(
        join=join,
        storage=storage,
        workers=parse_workers(workers),
        as_json=as_json,
        joined=True,
        cache=named_cache(cache),
        grace=parse_grace(grace),
        stop_request=stop_request or StopRequest(),
    )
    session.prepare()
    choose_device(device)
    with database_errors(storage):
        study, spec = _awaited(storage, name, wait)
        folder = folder_of(storage, study, artifacts)
        folder.require(name)
        context_spec = ContextSpec(spec, folder, data or spec.source, cache_folder(cache), device)
        with _account(session, name):
            context = context_spec.context()
            session.say(context.data.words)
            go_on(session, context_spec, context, study)


@contextmanager
def _account(session: Session, name: str) -> Iterator[None]:
    """Say in the end what a worker did, also when it was asked to leave before."""
    try:
        yield
    except KeyboardInterrupt:
        _tell(session, name, ended=False)
        raise
    _tell(session, name, ended=not session.stop_request.asked)


def _tell(session: Session, name: str, *, ended: bool) -> None:
    stored = {what: count for what, count in session.stored.items() if count}
    finalists = stored.pop(FINALIST, 0)
    if session.as_json:
        document = {"study": name, "trials": stored, "finalists": finalists, "ended": ended}
        output.print_json(document)
        return
    words = [f"{count} {state.lower()}" for state, count in stored.items()]
    words += [f"{finalists} of finalists"] if finalists else []
    begin = f"study {name!r} has ended; " if ended else ""
    session.say(f"{begin}trained here: {', '.join(words) or 'nothing'}")


def _awaited(storage: str, name: str, wait: float) -> tuple[optuna.Study, StudySpec]:
    """A study, as soon as there is one, if within so many seconds."""
    until = time.monotonic() + wait
    while True:
        try:
            with database_errors(storage):
                return open_study(open_storage(storage, create=False), name)
        except InputError:
            if time.monotonic() >= until:
                raise
        time.sleep(min(WAIT_SECONDS, max(0.0, until - time.monotonic())))
