"""Studies whose workers and database are killed: `python benchmarks/chaos.py --minutes 30`.

`--workers` processes of `distilnas worker` train one study of `--trials` trials of the digits after
the other, on a PostgreSQL server of their own. Meanwhile, every few seconds one of these befalls
them: a worker is killed (SIGKILL), asked to leave (SIGTERM), or stopped for up to three times the
grace and continued; the database is restarted, as a shutdown or as a crash, or is away for up to a
minute; a checkpoint is damaged. Then every study must have its trials, each once and whole: rows,
leases and files are examined, by hand and by `distilnas doctor`.

Every event is printed. Exit status 1 where anything was wrong.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import sqlalchemy as sa

from benchmarks import postgres_server, results
from benchmarks.postgres_server import Server
from search.database import table
from search.database.engine import open_engine
from search.database.leases import PREFIX
from space.errors import InputError, require_range
from space.fingerprint import file_fingerprint
from trainers import export

GRACE = 6.0  # seconds
QUIET = (0.5, 6.0)  # seconds between two events
LEAVE_SECONDS = 120.0  # that workers may take to end when the study has
# How a worker may end here; by SIGTERM itself where that comes before it can heed it.
FINE = (0, -signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM)
LEFTOVERS = ("draft", "not written to its end", "is a dead worker's", "is left of what has ended")
Say = Callable[[str], None]


class Ordeal:
    """One study, and what befalls its workers."""

    def __init__(
        self, folder: Path, server: Server, name: str, workers: int, trials: int, say: Say
    ) -> None:
        self.folder, self.server, self.name = folder, server, name
        self.size, self.trials, self.say = workers, trials, say
        self.workers: list[subprocess.Popen[bytes]] = []
        self.begun = 0
        self.complaints: list[str] = []

    def command(self, *arguments: str) -> list[str]:
        place = ("--storage", self.server.address, "--cache", str(self.folder / "cache"))
        how = ("--device", "cpu", "--grace", str(GRACE))
        return [sys.executable, "-m", "search", *arguments, *place, *how]

    def search(self) -> list[str]:
        """The command that makes the study; it is a worker like the others."""
        return self.command(
            *("search", "--name", self.name, "--trials", str(self.trials), "--epochs", "4"),
            *("--teacher", "none", "--sampler", "random", "--budget", "5KB", "--seed", self.name),
        )

    def start(self, command: list[str]) -> None:
        self.begun += 1
        with (self.folder / f"{self.name}-{self.begun}.log").open("wb") as log:
            worker = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self.workers.append(worker)

    def bury(self) -> bool:
        """Forget workers that have ended; whether one of them says that the study has."""
        ended = [worker for worker in self.workers if worker.poll() is not None]
        for worker in ended:
            self.workers.remove(worker)
            if worker.returncode not in FINE:
                self.complaints.append(f"a worker ended with status {worker.returncode}")
        return any(worker.returncode == 0 for worker in ended)

    def run(self, events: Iterator["Event"]) -> None:
        """Until a worker says that the study has ended, then until all do."""
        self.start(self.search())
        ended, following = False, 0.0
        while not ended:
            ended = self.bury()
            while len(self.workers) < self.size and not ended:
                self.start(self.command("worker", self.name, "--wait", "120"))
            if time.monotonic() >= following and self.is_made():
                event = next(events, None)
                if event is not None:
                    self.say(f"{self.name}: {event.words}")
                    event.happen(self)
                following = time.monotonic() + (event.quiet if event else LEAVE_SECONDS)
            time.sleep(0.1)
        until = time.monotonic() + LEAVE_SECONDS
        while self.workers and time.monotonic() < until:
            self.bury()
            time.sleep(0.1)
        self.complaints += [f"worker {worker.pid} did not end" for worker in self.workers]
        self.stop()

    def is_made(self) -> bool:
        return (self.folder / "runs" / self.name / "workers").exists()

    def stop(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.workers.clear()

    def examine(self) -> list[str]:
        """What is wrong with the study."""
        return [*self.complaints, *self.rows(), *self.files(), *self.doctor()]

    def rows(self) -> Iterator[str]:
        engine = open_engine(self.server.address)
        frame = table.trials(engine, self.name)
        counted = frame[frame["duplicate_of"].isna() & (frame["ended"] != "infeasible")]
        if len(counted) != self.trials:
            yield f"{len(counted)} trials were counted, but {self.trials} asked for"
        if sorted(frame["number"]) != list(range(len(frame))):
            yield f"trials are numbered {sorted(frame['number'])}"
        unfinished = frame[~frame["state"].isin(["COMPLETE", "PRUNED", "FAIL"])]
        if len(unfinished):
            yield f"trials {list(unfinished['number'])} have not ended"
        if frame["ended"].isna().any():
            yield "a trial ended without a word how"
        query = sa.text(
            "SELECT count(*) FROM study_system_attributes NATURAL JOIN studies "
            "WHERE study_name = :name AND key LIKE :lease"
        )
        with engine.connect() as connection:
            named = {"name": self.name, "lease": f"{PREFIX}%"}
            left = connection.execute(query, named).scalar_one()
        if left:
            yield f"{left} leases are left"

    def files(self) -> Iterator[str]:
        frame = table.trials(open_engine(self.server.address), self.name)
        done = frame[(frame["state"] == "COMPLETE") & frame["duplicate_of"].isna()]
        for _, row in done.iterrows():
            path = self.folder / "runs" / self.name / f"trial{row['number']:04d}"
            student = path / "student.safetensors"
            if not student.exists():
                yield f"trial {row['number']} has no file"
            elif student.stat().st_size != row["bytes"]:
                yield f"trial {row['number']}'s file has not the bytes of its row"
            else:
                export.read(student)
                known = table.trial_attribute(
                    open_engine(self.server.address), self.name, row["number"], "file_sha256"
                )
                if file_fingerprint(student) != known:
                    yield f"trial {row['number']}'s file is not the one that was scored"

    def doctor(self) -> Iterator[str]:
        """What the doctor finds beside what killed workers leave; and it must mend all."""
        place = ("--storage", self.server.address, "--json")
        found = []
        for _ in range(2):
            command = [sys.executable, "-m", "search", "doctor", self.name, *place]
            done = subprocess.run(command, cwd=self.folder, capture_output=True, check=False)
            if done.returncode != 0:
                yield f"doctor ends with status {done.returncode}: {done.stderr.decode()}"
                return
            found.append([finding["what"] for finding in json.loads(done.stdout)["findings"]])
        for what in found[0]:
            if not any(words in what for words in LEFTOVERS):
                yield f"doctor: {what}"
        yield from (f"doctor did not mend: {what}" for what in found[1])


class Event(NamedTuple):
    """Something that happens, and for how many seconds nothing else does."""

    words: str
    happen: Callable[[Ordeal], None]
    quiet: float


def kill(ordeal: Ordeal, rng: random.Random, number: int = signal.SIGKILL) -> None:
    if ordeal.workers:
        rng.choice(ordeal.workers).send_signal(number)


def freeze(ordeal: Ordeal, rng: random.Random, seconds: float) -> None:
    """Stop a worker, and let it go on; the study goes on meanwhile."""
    if not ordeal.workers:
        return
    worker = rng.choice(ordeal.workers)
    worker.send_signal(signal.SIGSTOP)
    # Continued by a process of its own, so that other things can happen in between.
    subprocess.Popen(
        ["sh", "-c", f"sleep {seconds}; kill -CONT {worker.pid}"],
        start_new_session=True,
        stderr=subprocess.DEVNULL,  # it may have been killed meanwhile
    )


def restart(ordeal: Ordeal, mode: str, seconds: float) -> None:
    ordeal.server.stop(mode)
    time.sleep(seconds)
    ordeal.server.start()


def damage(ordeal: Ordeal, rng: random.Random) -> None:
    """Change one byte of a checkpoint."""
    found = sorted((ordeal.folder / "runs" / ordeal.name).glob("trial*/checkpoint.pt"))
    with suppress(FileNotFoundError, IndexError):
        path = rng.choice(found)
        with path.open("r+b") as file:
            place = rng.randrange(path.stat().st_size)
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))


def anything(rng: random.Random) -> Iterator[Event]:
    """Events without end."""
    while True:
        quiet = rng.uniform(*QUIET)
        away, frozen = rng.uniform(0, 60), rng.uniform(0, 3 * GRACE)
        mode = rng.choice(["fast", "immediate"])
        kinds: dict[str, tuple[float, Callable[[Ordeal], None]]] = {
            "a worker is killed": (8, partial(kill, rng=rng)),
            "a worker is asked to leave": (2, partial(kill, rng=rng, number=signal.SIGTERM)),
            f"a worker is stopped for {frozen:.1f} s": (
                3,
                partial(freeze, rng=rng, seconds=frozen),
            ),
            "a checkpoint is damaged": (2, partial(damage, rng=rng)),
            f"the database restarts ({mode})": (1, partial(restart, mode=mode, seconds=0)),
            f"the database is away for {away:.0f} s": (
                0.3,
                partial(restart, mode=mode, seconds=away),
            ),
        }
        words = rng.choices(list(kinds), [weight for weight, _ in kinds.values()])[0]
        yield Event(words, kinds[words][1], quiet)


def in_short(rng: random.Random) -> Iterator[Event]:
    """A killed worker every few seconds, and two restarts of the database among them."""
    for turn in range(10_000):
        if turn in (1, 3):
            mode = "fast" if turn == 1 else "immediate"
            yield Event(
                f"the database restarts ({mode})", partial(restart, mode=mode, seconds=1), 3
            )
        yield Event("a worker is killed", lambda o: kill(o, rng), rng.uniform(3, 5))


@click.command(help=__doc__)
@click.option("--minutes", default=30.0, show_default=True)
@click.option("--workers", default=6, show_default=True)
@click.option("--trials", default=60, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(minutes: float, workers: int, trials: int, seed: int) -> None:
    require_range("--workers", workers, 1, 64)
    require_range("--trials", trials, 1, 10_000)
    if postgres_server.missing():
        raise InputError(f"needs PostgreSQL; missing: {', '.join(postgres_server.missing())}")
    rng, begin, wrong, studies = random.Random(seed), time.monotonic(), 0, 0

    def say(text: str) -> None:
        click.echo(f"{time.monotonic() - begin:7.1f} s  {text}")

    with tempfile.TemporaryDirectory() as place, Server() as server:
        while time.monotonic() - begin < 60 * minutes:
            ordeal = Ordeal(Path(place), server, str(studies), workers, trials, say)
            try:
                ordeal.run(anything(rng))
            finally:
                ordeal.stop()
            found = ordeal.examine()
            for complaint in found:
                say(f"{ordeal.name}: WRONG: {complaint}")
            say(f"{ordeal.name}: {trials} trials, {ordeal.begun} workers, {len(found)} complaints")
            studies, wrong = studies + 1, wrong + len(found)
    say(f"{studies} studies, {wrong} complaints")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    results.run(main)
