"""Workers on a Ray cluster: Ray places and restarts them, the study stays in its database.

Each worker is an actor that joins the study as `distilnas worker` does. When its node is lost, Ray
restarts it on another one; its unfinished trials go on when their leases have lapsed.
"""

import math
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Protocol

from optuna import Study

from search.database.address import sqlite_path
from search.database.storage import backend_of
from search.study.flags import Flags
from search.study.settings import RAY
from search.study.study import counted
from search.training.context import ContextSpec
from search.training.listener import ProgressListener
from search.workers.stopping import StopRequest
from space.errors import InputError, first_line

RESTARTS = 20  # of one worker; one that fails more often is broken
LOOK_SECONDS = 1.0  # between two looks at the workers


class Caller(Protocol):
    """What a command that trains on Ray must provide."""

    @property
    def storage(self) -> str: ...

    @property
    def on(self) -> str: ...

    @property
    def workers(self) -> int | None: ...

    @property
    def gpus_per_worker(self) -> float | None: ...

    @property
    def grace(self) -> float: ...

    @property
    def stop_request(self) -> StopRequest: ...

    def say(self, text: str) -> None: ...


class Remote(Protocol):
    """A method of an actor."""

    def remote(self) -> object:
        """Call it; returns a reference to its result."""
        ...


class Actor(Protocol):
    """A `RayWorker`, as other processes see it."""

    @property
    def work(self) -> Remote: ...

    @property
    def leave(self) -> Remote: ...


class RayWorkerArgs(NamedTuple):
    """What every worker on the cluster is given; picklable."""

    join: Callable[..., None]  # what `distilnas worker` does
    study: str
    flags: Flags


class RayWorker:
    """A worker on Ray: an actor, on whichever node Ray has put it."""

    def __init__(self, args: RayWorkerArgs) -> None:
        self.args, self.stop_request = args, StopRequest()

    def work(self) -> str | None:
        """Train until the study has ended or `leave` is called.

        Returns:
            Why it could not train, in one line; None where it could.
        """
        its = self.args
        try:
            its.join(its.study, its.flags, stop_request=self.stop_request)
        except KeyboardInterrupt:
            return None  # told to leave
        except InputError as error:
            return str(error)
        return None

    def leave(self) -> None:
        """Stop after the current epoch, with a checkpoint."""
        self.stop_request.signal = signal.SIGTERM


def run(
    session: Caller,
    join: Callable[..., None],
    context_spec: ContextSpec,
    study: Study,
    display: ProgressListener,
) -> None:
    """Train the study on Ray until it has ended.

    Raises:
        InputError: Ray is not installed, no cluster answers, its nodes share no database, or no
            worker could start.
        Stopped: a signal asked to leave; the workers have written their checkpoints.
    """
    flags = Flags(
        storage=absolute(session.storage),
        cache=str(context_spec.cache),
        device="auto",  # of the GPUs that Ray lets a worker see
        data=context_spec.source,
        unlabelled=context_spec.unlabelled,
        artifacts=str(context_spec.folder.path.resolve()),
        grace=session.grace,
    )
    args = RayWorkerArgs(join, study.study_name, flags)
    with connected(session.on) as ray:
        share = _share(ray, session)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        if len(nodes) > 1 and sqlite_path(session.storage) is not None:
            raise InputError(
                f"workers on {len(nodes)} nodes must share a database server, but study "
                f"{args.study!r} is in an SQLite file; use --storage postgresql+psycopg://..."
            )
        count = session.workers or _room(ray, share)
        session.say(f"{count} workers on Ray ({len(nodes)} nodes), {share:g} GPUs each")
        actors = [_actor(ray, args, number, share) for number in range(count)]
        stop_request = session.stop_request
        with stop_request.handling_signals():
            _attend(ray, actors, session, study, display)
        stop_request.raise_if_stopped()


def _actor(ray: ModuleType, args: RayWorkerArgs, number: int, share: float) -> Actor:
    options = {
        "name": f"distilnas/{args.study}/{number}/{os.getpid()}",
        "num_cpus": 1,
        "num_gpus": share,
        "max_restarts": RESTARTS,
        "max_task_retries": -1,
        "max_concurrency": 2,  # `leave` is called while `work` runs
    }
    actor: Actor = ray.remote(RayWorker).options(**options).remote(args)
    return actor


def _attend(
    ray: ModuleType, actors: list[Actor], session: Caller, study: Study, display: ProgressListener
) -> None:
    """Wait until every worker has ended; when this process is asked to stop, so are they.

    A worker whose node was lost, and for which no other node has room, is not waited for.
    """
    working = {actor.work.remote(): number for number, actor in enumerate(actors)}
    failures: list[str] = []
    told = ended_well = False
    try:
        while working and not ((told or ended_well) and not _in_training(study)):
            ended, _ = ray.wait(list(working), timeout=LOOK_SECONDS)
            for reference in ended:
                number = working.pop(reference)
                why = _ended(ray, reference)
                ended_well |= why is None
                if why is not None:
                    failures.append(why)
                    session.say(f"worker {number}: {why}")
            display.ended_so_far(counted(study))
            if session.stop_request.asked and not told:
                told = True
                for actor in actors:
                    actor.leave.remote()
    finally:
        for actor in actors:
            ray.kill(actor)
    if len(failures) == len(actors):
        raise InputError(f"no worker on Ray could train: {failures[0]}")


def _in_training(study: Study) -> bool:
    return bool(backend_of(study).leases)


def _ended(ray: ModuleType, reference: object) -> str | None:
    try:
        why: str | None = ray.get(reference)
    except ray.exceptions.RayError as error:
        return first_line(error)
    return why


def _share(ray: ModuleType, session: Caller) -> float:
    """GPUs of one worker: what was asked for; otherwise 1, or 0 where there are none."""
    there = float(ray.cluster_resources().get("GPU", 0))
    share = session.gpus_per_worker
    if share is None:
        return 1.0 if there else 0.0
    if not 0 <= share <= there:
        raise InputError(f"--gpus-per-worker must be 0 to {there:g} on this cluster, got {share:g}")
    return share


def _room(ray: ModuleType, share: float) -> int:
    """Workers that the cluster has room for."""
    there = ray.cluster_resources()
    room: float = there.get("GPU", 0) / share if share else there.get("CPU", 1)
    return max(1, math.floor(room))


def require_ray() -> None:
    """Raise InputError where Ray is not installed."""
    if find_spec("ray") is None:
        raise InputError('--on ray needs Ray, which is not installed: pip install "distilnas[ray]"')


@contextmanager
def connected(on: str) -> Iterator[ModuleType]:
    """Ray's module, connected to the cluster at an address, to that of RAY_ADDRESS, or to one of
    this machine alone."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    require_ray()
    import ray

    begun = not ray.is_initialized()
    if begun:
        try:
            address = on if on != RAY else None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # failures are reported below, in one line
                ray.init(address=address, log_to_driver=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, ImportError) as error:
            text = first_line(error)
            raise InputError(f"no Ray cluster answers at {on}: {text}") from None
    try:
        yield ray
    finally:
        if begun:
            ray.shutdown()


def absolute(storage: str) -> str:
    """The address as any working directory may use it."""
    path = sqlite_path(storage)
    return storage if path is None else f"sqlite:///{Path(path).resolve()}"
