"""How many workers one database carries: `python benchmarks/scaling.py`.

Three tables, each on SQLite and on a PostgreSQL server of the benchmark's own:

- real: trials a second of so many `distilnas worker` (digits, 5 KB, one epoch, one thread each),
  all of them waiting before the study is made. The machine's cores are the limit here.
- bare: the same without training: claim, draw (random), announce, four epochs, end. The database
  is the limit: a study whose trials take T seconds can have T times so many workers.
- grown: what one trial costs in a study of so many rows, milliseconds, medians: claim it, look at
  what has ended since, draw it (random, TPE), store an epoch, store its end; and what a worker
  reads once, when it joins (seconds). Rows are synthetic (`benchmarks.synthetic_studies`).
"""

import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import optuna
import sqlalchemy as sa
import torch
from optuna.trial import TrialState
from rich.console import Console

from benchmarks import postgres_server, results, synthetic_studies
from benchmarks.postgres_server import Server
from search.database import table
from search.database.engine import open_engine
from search.database.leases import trial_key
from search.database.storage import backend_of, open_storage
from search.study.folder import Folder
from search.study.samplers import make_sampler, suggest
from search.study.spec import SearchSpec
from search.study.study import TARGET, create
from search.trials.ended import EndedTrials
from search.workers.worker import Worker
from space.errors import require_range

DATABASES = ("sqlite", "postgresql")
STUDENTS = 1_000  # different ones; a larger study repeats them
BATCH = 5_000  # rows a transaction
DRAWS = {"random": 5, "tpe": 3}  # sampler -> how often
ATTRIBUTES = 30  # of a row
EPOCHS = 4
EACH = 20  # bare trials that each of the workers has to do, at least
BARE_SECONDS = 5.0


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """The address of an empty database."""
    if kind == "sqlite":
        place = Path(tempfile.mkdtemp(dir=folder))
        yield str(place / "studies.db")
    else:
        with Server() as server:
            yield server.address


def real(address: str, folder: Path, workers: int, trials: int) -> float:
    """Trials a second, from the first one's start to the last one's end."""
    place = ("--storage", address, "--cache", str(folder / "cache"), "--device", "cpu")
    join = [sys.executable, "-m", "search", "worker", "s", "--wait", "600", *place]
    quick = ("--epochs", "1", "--budget", "5KB", "--teacher", "none", "--pruner", "none")
    asked = ("--sampler", "random", "--trials", str(trials), "--artifacts", str(folder / "files"))
    make = [sys.executable, "-m", "search", "search", "--name", "s", *quick, *asked, *place]
    running = [_begin(join, folder) for _ in range(workers - 1)]
    time.sleep(2 + 2 * workers)  # they load PyTorch, and wait
    for process in (*running, _begin(make, folder)):
        if process.wait() != 0:
            raise RuntimeError(f"a worker ended with status {process.returncode}")
    frame = table.trials(open_engine(address), "s")
    seconds = (frame["completed"].max() - frame["started"].min()).total_seconds()
    return len(frame) / float(seconds)


def _begin(command: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def bare(address: str, folder: Path, workers: int) -> float:
    """Trials a second without training."""
    spec = synthetic_studies.make_spec()
    storage = open_storage(address, create=True)
    create(storage, "s", spec, {TARGET: 10**9})
    storage.engine.dispose()
    context = multiprocessing.get_context("fork")
    begin, counts = context.Barrier(workers + 1), context.Queue()
    arguments = (address, str(folder / "bare"), spec, begin, counts)
    processes = [context.Process(target=_bare_worker, args=arguments) for _ in range(workers)]
    for process in processes:
        process.start()
    begin.wait()
    rates = [counts.get() for _ in processes]
    for process in processes:
        process.join()
    return float(sum(rates))


def _bare_worker(address: str, folder: str, spec: SearchSpec, begin: Any, counts: Any) -> None:
    study = optuna.load_study(storage=open_storage(address, create=False), study_name="s")
    with Worker.joining(study, Folder(address, "s", folder)) as worker:
        standing = EndedTrials(study, "fingerprint")
        begin.wait()
        began, done = time.perf_counter(), 0
        while done < EACH or time.perf_counter() - began < BARE_SECONDS:
            bare_trial(worker, standing, spec, "random")
            done += 1
        counts.put(done / (time.perf_counter() - began))


def bare_trial(
    worker: Worker, standing: EndedTrials, spec: SearchSpec, sampler: str
) -> dict[str, float]:
    """One trial without training; seconds by step."""
    seconds: dict[str, float] = {}

    def step(name: str, act: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        answer = act()
        seconds[name] = time.perf_counter() - began
        return answer

    claim = step("claim", lambda: worker.add(10**9))
    step("look", standing.look)

    def draw() -> None:
        worker.study.sampler = make_sampler(sampler, 0, claim.number)
        suggest(optuna.Trial(worker.study, claim.trial_id), spec.search_space)

    step(sampler, draw)
    worker.announce(trial_key(claim.number), str(claim.number))
    for epoch in range(1, EPOCHS + 1):
        step("epoch", partial(worker.report, claim, epoch, random.random()))
    row: dict[str, object] = {f"attribute{k}": k for k in range(ATTRIBUTES - 2)}
    row |= {"ended": "finished", "fingerprint": str(claim.number)}
    ended = TrialState.COMPLETE, random.random(), row
    step("end", lambda: worker.end(claim, *ended, lambda: None))
    return seconds


def grown(
    address: str, folder: Path, sizes: tuple[int, ...], console: Console
) -> Iterator[dict[str, float]]:
    """What a trial costs in a study of so many rows."""
    spec, rng = synthetic_studies.make_spec(), random.Random(0)
    made = [synthetic_studies.student(spec, rng, n, STUDENTS) for n in range(STUDENTS)]
    finished = [student for student in made if student["state"] != "RUNNING"]
    storage = open_storage(address, create=True)
    identity = backend_of(create(storage, "s", spec, {TARGET: 10**9})).study_id
    for size in sorted(sizes):
        with console.status(f"{size:,} rows on {storage.engine.name}"):
            fill(storage.engine, identity, spec, finished, size)
            yield {"rows": size, **costs(address, folder, spec)}
    storage.engine.dispose()


def fill(
    engine: sa.Engine, identity: int, spec: SearchSpec, students: list[dict[str, Any]], size: int
) -> None:
    """Add rows to a study until it has so many."""
    with engine.begin() as connection:
        count = sa.text("SELECT count(*), coalesce(max(trial_id), 0) FROM trials")
        begin, last = connection.execute(count).one()
    before = last - begin
    for first in range(begin, size, BATCH):
        part = [
            students[number % len(students)] | {"number": number}
            for number in range(first, min(first + BATCH, size))
        ]
        rows = synthetic_studies.rows_of(part, identity, before, spec.search_space)
        with engine.begin() as connection:
            for name, records in rows.items():
                statement = synthetic_studies.insert(name, records[0])
                connection.execute(sa.text(statement), records)
    if engine.name == "postgresql":
        with engine.begin() as connection:  # rows came with numbers of their own; and statistics
            serial = "SELECT setval(pg_get_serial_sequence('trials', 'trial_id'), max(trial_id))"
            connection.execute(sa.text(f"{serial} FROM trials HAVING count(*) > 0"))
            connection.execute(sa.text("ANALYZE"))


def costs(address: str, folder: Path, spec: SearchSpec) -> dict[str, float]:
    """Seconds: `join` once, and of every step of a trial the median."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(address, create=False)
    study = optuna.load_study(storage=storage, study_name="s")
    began = time.perf_counter()
    standing = EndedTrials(study, "fingerprint").look()
    found = {"join": time.perf_counter() - began}
    taken: dict[str, list[float]] = {}
    with Worker.joining(study, Folder(address, "s", str(folder / "grown")), grace=3600) as worker:
        for sampler, times in DRAWS.items():
            for _ in range(times):
                for step, seconds in bare_trial(worker, standing, spec, sampler).items():
                    taken.setdefault(step, []).append(seconds)
    storage.engine.dispose()
    return found | {step: statistics.median(seconds) for step, seconds in taken.items()}


def told(rows: list[results.Row], console: Console) -> None:
    """The tables."""
    for part in ("real", "bare"):
        found = [row for row in rows if row["part"] == part]
        counts = sorted({int(str(row["workers"])) for row in found})
        lines = [
            [kind, *(f"{_rate(found, kind, count):.1f}" for count in counts)] for kind in DATABASES
        ]
        columns = ["workers", *map(str, counts)]
        if found:
            console.print(results.table(f"{part}: trials a second", columns, lines), "")
    found = [row for row in rows if row["part"] == "grown"]
    steps = ("claim", "look", "random", "tpe", "epoch", "end")
    lines = [
        [
            f"{row['rows']:,} on {row['database']}",
            *(f"{1000 * float(str(row[step])):.1f}" for step in steps),
            f"{float(str(row['join'])):.1f} s",
        ]
        for row in found
    ]
    if found:
        columns = ["rows", *(f"{step}, ms" for step in steps), "join"]
        console.print(results.table("grown: what a trial costs", columns, lines))


def _rate(rows: list[results.Row], kind: str, count: int) -> float:
    rates = [r["rate"] for r in rows if r["database"] == kind and r["workers"] == count]
    return statistics.median(map(float, map(str, rates))) if rates else float("nan")


COLUMNS = ("part", "database", "workers", "rows", "rate", "join")
STEPS = ("claim", "look", "random", "tpe", "epoch", "end")


@click.command(help=__doc__)
@click.option("--workers", default="1,2,4,8,16", callback=results.numbers(1))
@click.option("--rows", default="10,1000,10000,100000", callback=results.numbers(1))
@click.option("--trials", default=48, show_default=True, help="Real ones, of each crew.")
@click.option("--parts", default="real,bare,grown", show_default=True)
@results.OUT
def main(
    workers: tuple[int, ...], rows: tuple[int, ...], trials: int, parts: str, out: Path
) -> None:
    require_range("--trials", trials, 1, 100_000)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    console, found = results.console(), list[results.Row]()
    kinds = [kind for kind in DATABASES if kind == "sqlite" or not postgres_server.missing()]
    if len(kinds) < len(DATABASES):
        console.print(f"without PostgreSQL: {', '.join(postgres_server.missing())} is missing")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for kind in kinds:
            for count in workers:
                for part in ("bare", "real"):
                    if part not in parts.split(","):
                        continue
                    with database(kind, folder) as address, console.status(f"{part}: {count}"):
                        own = Path(tempfile.mkdtemp(dir=folder))
                        rate = (
                            bare(address, own, count)
                            if part == "bare"
                            else real(address, own, count, trials)
                        )
                    found.append(_line(part, kind, workers=count, rate=rate))
            if "grown" in parts.split(","):
                with database(kind, folder) as address:
                    for costs_ in grown(address, folder, rows, console):
                        found.append(_line("grown", kind, **costs_))
    told(found, console)
    path = results.csv_path(out, "scaling", torch.device("cpu"))
    results.write_csv(path, found)
    console.print(str(path))


def _line(part: str, kind: str, **known: Any) -> dict[str, Any]:
    blank = dict.fromkeys((*COLUMNS, *STEPS), "")
    return {**blank, "part": part, "database": kind, **known}


if __name__ == "__main__":
    results.run(main)
