"""Workers and a database that are killed while they work: nothing is lost, nothing comes twice."""

import os
import random
import signal
from collections import Counter
from pathlib import Path

import forks
import optuna
import pandas as pd
import pytest
from commands import distilnas, epochs, rows, start, states, until, wait_for_line

from benchmarks import chaos, postgres_server
from benchmarks.postgres_server import Server
from search.database import table
from search.database.engine import open_engine
from search.database.storage import open_storage

pytestmark = pytest.mark.slow
STUDY = (
    *("--cache", "cache", "--name", "s", "--device", "cpu", "--teacher", "none"),
    *("--sampler", "random", "--pruner", "none", "--budget", "5KB"),
)
# Too short for measuring how it is computed: on a busy machine two runs would find two modes.
EPOCHS = "26"
TOLD = f"trial 0: epoch 6/{EPOCHS}"  # a line of its progress, which tells every quarter
GO_ON = ("s", "--cache", "cache", "--device", "cpu")


def test_thirty_trials_in_chaos(tmp_path: Path) -> None:
    """Six workers, one killed every few seconds; the database restarted twice."""
    if postgres_server.missing():
        pytest.skip(f"needs PostgreSQL; missing: {postgres_server.missing()}")
    said: list[str] = []
    with Server() as server:
        ordeal = chaos.Ordeal(tmp_path, server, "0", 6, 30, said.append)
        try:
            ordeal.run(chaos.in_short(random.Random(0)))
        finally:
            ordeal.stop()
        assert ordeal.examine() == []
    assert sum("killed" in words for words in said) >= 4
    assert sum("database" in words for words in said) == 2


def test_eighty_queued_trials_are_each_claimed_once(tmp_path: Path) -> None:
    """By six processes on SQLite, ten times over."""
    server = forks.server()
    for turn in range(10):
        place = tmp_path / str(turn)
        place.mkdir()
        address = str(place / "studies.db")
        storage = open_storage(address, create=True)
        study = optuna.create_study(storage=storage, study_name="s", direction="maximize")
        for number in range(80):
            study.enqueue_trial({"x": number})
        storage.engine.dispose()
        begin = server.Event()
        outs = [str(place / f"{number}.txt") for number in range(6)]
        processes = [
            server.Process(target=forks.claim_all, args=(address, str(place / "files"), begin, out))
            for out in outs
        ]
        for process in processes:
            process.start()
        begin.set()
        for process in processes:
            process.join(120)
            assert process.exitcode == 0
        claimed = Counter(n for out in outs for n in map(int, Path(out).read_text().split()))
        assert claimed == Counter(range(80)), turn
        assert states(place) == ["COMPLETE"] * 80
        storage.engine.dispose()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trials that nothing befell."""
    folder = tmp_path_factory.mktemp("whole")
    answer = distilnas(folder, "search", *STUDY, "--trials", "2", "--epochs", EPOCHS)
    assert answer.status == 0, answer.err
    return folder


def equals(folder: Path, whole: Path) -> None:
    """The same rows and the same files, and no traces."""
    pd.testing.assert_frame_equal(rows(folder), rows(whole))
    for path in sorted((whole / "runs").rglob("*.safetensors")):
        assert (folder / path.relative_to(whole)).read_bytes() == path.read_bytes(), path
    assert not list((folder / "runs").rglob("checkpoint*.pt"))
    assert not list((folder / "runs").rglob("*.draft"))


def test_a_late_result_of_a_stopped_process(whole: Path, tmp_path: Path) -> None:
    """Stopped for longer than the grace, it finds its trial trained by another."""
    asked = ("--trials", "2", "--epochs", EPOCHS, "--grace", "3")
    late = start(tmp_path, "search", *STUDY, *asked)
    until(lambda: epochs(tmp_path), late)
    late.send_signal(signal.SIGSTOP)
    assert "RUNNING" in states(tmp_path), "it was stopped too late"
    other = distilnas(tmp_path, "worker", *GO_ON, "--grace", "3")
    assert other.status == 0, other.err
    assert "trained here: " in other.err
    assert "trained here: nothing" not in other.err, "nothing was taken over"
    equals(tmp_path, whole)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("student.*")}
    late.send_signal(signal.SIGCONT)
    _, err = late.communicate(timeout=300)
    assert late.returncode == 0, err
    equals(tmp_path, whole)
    assert {path: path.stat().st_mtime_ns for path in done} == done


def test_two_resume_at_once(whole: Path, tmp_path: Path) -> None:
    first = start(tmp_path, "search", *STUDY, "--trials", "2", "--epochs", EPOCHS)
    until(lambda: epochs(tmp_path), first)
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
    wait_for_line(process, TOLD)
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
    resumed = distilnas(tmp_path, "resume", *GO_ON)
    assert resumed.status == 0, resumed.err
    assert TOLD not in resumed.err, "it has not gone on from its checkpoint"
    equals(tmp_path, whole)


def test_asked_twice_it_leaves_at_once(tmp_path: Path) -> None:
    asked = ("--trials", "1", "--epochs", "500")
    process = start(tmp_path, "search", *STUDY, *asked)
    until(lambda: epochs(tmp_path), process)
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode in (130, 143), err
    assert "Traceback" not in err
    assert "distilnas resume s" in err


def test_a_damaged_checkpoint(whole: Path, tmp_path: Path) -> None:
    process = start(tmp_path, "search", *STUDY, "--trials", "2", "--epochs", EPOCHS)
    wait_for_line(process, TOLD)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    for checkpoint in (tmp_path / "runs" / "s").glob("trial*/checkpoint*.pt"):
        content = bytearray(checkpoint.read_bytes())
        content[len(content) // 2] ^= 1
        checkpoint.write_bytes(content)
    resumed = distilnas(tmp_path, "resume", *GO_ON)
    assert resumed.status == 0, resumed.err
    assert TOLD in resumed.err, "it went on from a damaged checkpoint"
    equals(tmp_path, whole)


def test_the_database_is_away_for_a_while(tmp_path: Path) -> None:
    if postgres_server.missing():
        pytest.skip(f"needs PostgreSQL; missing: {postgres_server.missing()}")
    with Server() as server:
        place = ("--storage", server.address)
        process = start(tmp_path, "search", *STUDY, *place, "--trials", "4", "--epochs", "60")
        until(lambda: list((tmp_path / "runs").rglob("student.safetensors")))
        server.stop("immediate")
        said = wait_for_line(process, "the study database does not answer")
        server.start()
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "the study database answers again" in err
        assert "secret" not in said + err
        frame = table.trials(open_engine(server.address), "s")
    assert list(frame["state"]) == ["COMPLETE"] * 4
    assert list(frame["number"]) == list(range(4))


def test_limits_are_the_study_s(whole: Path, tmp_path: Path) -> None:
    asked = ("--trials", "2", "--epochs", EPOCHS, "--gpu-hours", "0.00001")
    answer = distilnas(tmp_path, "search", *STUDY, *asked)
    assert answer.status == 0, answer.err
    assert "limit reached, --gpu-hours: 0.00 device-hours were used" in answer.err
    assert "distilnas resume s --gpu-hours 2" in answer.err
    assert states(tmp_path) == ["RUNNING"]
    answer = distilnas(tmp_path, "resume", *GO_ON, "--gpu-hours", "2")
    assert answer.status == 0, answer.err
    equals(tmp_path, whole)
