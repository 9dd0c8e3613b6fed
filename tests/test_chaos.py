"""Workers and a database that are killed while they work: nothing is lost, nothing comes twice."""

import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import pandas as pd
import pytest
from commands import command, distilnas, environment
from optuna.trial import TrialState

from benchmarks import chaos, postgres_server
from benchmarks.postgres_server import Server
from search.database import table
from search.database.engine import open_engine
from search.database.storage import open_storage
from search.study.folder import Folder
from search.workers.worker import Worker

pytestmark = pytest.mark.slow
TIMES = ["started", "completed", "seconds"]
STUDY = (
    *("--cache", "cache", "--name", "s", "--device", "cpu", "--teacher", "none"),
    *("--sampler", "random", "--pruner", "none", "--budget", "5KB"),
)
# Too short for measuring how it is computed: on a busy machine two runs would find two modes.
EPOCHS = "26"
GO_ON = ("s", "--cache", "cache", "--device", "cpu")


def test_sixty_trials_in_chaos(tmp_path: Path) -> None:
    """Six workers, one killed every few seconds; the database restarted twice."""
    if postgres_server.missing():
        pytest.skip(f"needs PostgreSQL; missing: {postgres_server.missing()}")
    said: list[str] = []
    with Server() as server:
        ordeal = chaos.Ordeal(tmp_path, server, "0", 6, 60, said.append)
        try:
            ordeal.run(chaos.in_short(random.Random(0)))
        finally:
            ordeal.stop()
        assert ordeal.examine() == []
    assert sum("killed" in words for words in said) >= 5
    assert sum("database" in words for words in said) == 2


def claim_all(address: str, folder: str, start: "multiprocessing.Event", out: str) -> None:  # type: ignore[valid-type]
    """A process that takes queued trials until there are none."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(storage=open_storage(address, create=False), study_name="s")
    claimed = []
    with Worker(study, Folder(address, "s", folder), grace=60) as worker:
        start.wait()  # type: ignore[attr-defined]
        while (claim := worker.add(80)) is not None:
            claimed.append(claim.number)
            assert worker.end(claim, TrialState.COMPLETE, 0.5, {"ended": "x"}, lambda: None)
    Path(out).write_text(" ".join(map(str, claimed)))


def test_eighty_queued_trials_are_each_claimed_once(tmp_path: Path) -> None:
    """By six processes on SQLite, ten times over."""
    context = multiprocessing.get_context("fork")
    for turn in range(10):
        place = tmp_path / str(turn)
        place.mkdir()
        address = str(place / "studies.db")
        storage = open_storage(address, create=True)
        study = optuna.create_study(storage=storage, study_name="s", direction="maximize")
        for number in range(80):
            study.enqueue_trial({"x": number})
        storage.engine.dispose()
        start = context.Event()
        outs = [str(place / f"{number}.txt") for number in range(6)]
        processes = [
            context.Process(target=claim_all, args=(address, str(place / "files"), start, out))
            for out in outs
        ]
        for process in processes:
            process.start()
        start.set()
        for process in processes:
            process.join(120)
            assert process.exitcode == 0
        claimed = Counter(n for out in outs for n in map(int, Path(out).read_text().split()))
        assert claimed == Counter(range(80)), turn
        states = [trial.state for trial in study.get_trials(deepcopy=False)]
        assert states == [TrialState.COMPLETE] * 80
        storage.engine.dispose()


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(folder: Path) -> pd.DataFrame:
    engine = open_engine(str(folder / "studies.db"))
    try:
        return table.trials(engine, "s")
    finally:
        engine.dispose()


def begun(folder: Path) -> bool:
    """Whether a trial has reported an epoch."""
    if not (folder / "studies.db").exists():
        return False
    try:
        return len(table.curves(open_engine(str(folder / "studies.db")), "s", [0])) > 0
    except Exception:  # the tables are being made
        return False


def until(true: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trials that nothing befell."""
    folder = tmp_path_factory.mktemp("whole")
    answer = distilnas(folder, "search", *STUDY, "--trials", "2", "--epochs", EPOCHS)
    assert answer.status == 0, answer.err
    return folder


def equals(folder: Path, whole: Path) -> None:
    """The same rows and the same files, and no traces."""
    mine, others = rows(folder).drop(columns=TIMES), rows(whole).drop(columns=TIMES)
    pd.testing.assert_frame_equal(mine, others)
    for path in sorted((whole / "runs").rglob("*.safetensors")):
        assert (folder / path.relative_to(whole)).read_bytes() == path.read_bytes(), path
    assert not list((folder / "runs").rglob("checkpoint*.pt"))
    assert not list((folder / "runs").rglob("*.draft"))


def test_a_late_result_of_a_stopped_process(whole: Path, tmp_path: Path) -> None:
    """Stopped for longer than the grace, it finds its trial trained by another."""
    asked = ("--trials", "2", "--epochs", EPOCHS, "--grace", "3")
    late = start(tmp_path, "search", *STUDY, *asked)
    until(lambda: begun(tmp_path))
    late.send_signal(signal.SIGSTOP)
    other = distilnas(tmp_path, "worker", *GO_ON, "--grace", "3")
    assert other.status == 0, other.err
    equals(tmp_path, whole)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("student.*")}
    late.send_signal(signal.SIGCONT)
    _, err = late.communicate(timeout=300)
    assert late.returncode == 0, err
    equals(tmp_path, whole)
    assert {path: path.stat().st_mtime_ns for path in done} == done


def test_two_resume_at_once(whole: Path, tmp_path: Path) -> None:
    first = start(tmp_path, "search", *STUDY, "--trials", "2", "--epochs", EPOCHS)
    until(lambda: begun(tmp_path))
    first.kill()
    first.communicate()
    both = [start(tmp_path, "resume", *GO_ON) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    equals(tmp_path, whole)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_leave(whole: Path, tmp_path: Path, how: signal.Signals) -> None:
    """Once: after the epoch, with a checkpoint, and what is unfinished is given back."""
    process = start(tmp_path, "search", *STUDY, "--trials", "2", "--epochs", EPOCHS)
    until(lambda: begun(tmp_path))
    process.send_signal(how)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 128 + how
    assert "leaving after this epoch" in err
    assert "distilnas resume s" in err
    assert "Traceback" not in err
    assert list((tmp_path / "runs" / "s").glob("trial*/checkpoint.pt"))
    examined = distilnas(tmp_path, "doctor", "s", "--json").json
    assert examined["workers"] == {"living": [], "dead": []}
    assert examined["findings"] == []
    assert distilnas(tmp_path, "resume", *GO_ON).status == 0
    equals(tmp_path, whole)


def test_asked_twice_it_leaves_at_once(tmp_path: Path) -> None:
    asked = ("--trials", "1", "--epochs", "500")
    process = start(tmp_path, "search", *STUDY, *asked)
    until(lambda: begun(tmp_path))
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode in (130, 143), err
    assert "Traceback" not in err
    assert "distilnas resume s" in err


def test_a_damaged_checkpoint(whole: Path, tmp_path: Path) -> None:
    process = start(tmp_path, "search", *STUDY, "--trials", "2", "--epochs", EPOCHS)
    until(lambda: begun(tmp_path))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    (checkpoint,) = (tmp_path / "runs" / "s").glob("trial*/checkpoint.pt")
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    assert distilnas(tmp_path, "resume", *GO_ON).status == 0
    equals(tmp_path, whole)


def test_the_database_is_away_for_a_while(tmp_path: Path) -> None:
    if postgres_server.missing():
        pytest.skip(f"needs PostgreSQL; missing: {postgres_server.missing()}")
    with Server() as server:
        place = ("--storage", server.address)
        process = start(tmp_path, "search", *STUDY, *place, "--trials", "4", "--epochs", "60")
        until(lambda: list((tmp_path / "runs").rglob("student.safetensors")))
        server.stop("immediate")
        time.sleep(10)
        assert process.poll() is None
        server.start()
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "the study database does not answer" in err
        assert "the study database answers again" in err
        assert "secret" not in err
        frame = table.trials(open_engine(server.address), "s")
    assert list(frame["state"]) == ["COMPLETE"] * 4
    assert list(frame["number"]) == list(range(4))


def test_limits_are_the_study_s(whole: Path, tmp_path: Path) -> None:
    asked = ("--trials", "2", "--epochs", EPOCHS, "--gpu-hours", "0.00001")
    answer = distilnas(tmp_path, "search", *STUDY, *asked)
    assert answer.status == 0, answer.err
    assert "limit reached, --gpu-hours: 0.00 device-hours were used" in answer.err
    assert "distilnas resume s --gpu-hours 2" in answer.err
    assert list(rows(tmp_path)["state"]) == ["RUNNING"]
    answer = distilnas(tmp_path, "resume", *GO_ON, "--gpu-hours", "2")
    assert answer.status == 0, answer.err
    equals(tmp_path, whole)
