"""Leases: a trial has one owner, a dead one's trial goes on, a late one changes nothing."""

import datetime
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import optuna
import pytest
import sqlalchemy as sa
from commands import ROOT, environment, until
from optuna.trial import TrialState

from search.database import study_list
from search.database.engine import open_engine
from search.database.leases import BEATS, FACTS, Lease, all_leases, swap, write_fact
from search.database.storage import backend_of, open_storage
from search.database.transactions import Claim
from search.study.folder import Folder
from search.study.limits import Limits, Spent, account, parse_duration, spent_of
from search.trials.loop import _Run
from search.workers.lease_holder import Clock
from search.workers.stopping import StopRequest
from search.workers.worker import Worker
from space.errors import InputError

GRACE = 60.0  # seconds
Open = Callable[..., Worker]


class Hours:
    """Time that stands still until a test lets it pass; no worker beats by itself."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.clock = Clock(lambda: self.now, lambda stopping, seconds: stopping.wait())

    def beats(self, count: int, *living: Worker) -> None:
        """Let time pass by so many beats of the living workers."""
        for _ in range(count):
            self.now += GRACE / BEATS
            for worker in living:
                worker.holder.renew()


@pytest.fixture
def hours() -> Hours:
    return Hours()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a database without studies, whose tables are made once."""
    if request.param == "sqlite":
        return str(tmp_path_factory.mktemp("database") / "studies.db")
    return str(request.getfixturevalue("postgres_server_address"))


@pytest.fixture
def worker(address: str, tmp_path: Path, hours: Hours) -> Iterator[Open]:
    """`worker()` joins the one study, as a process would: with connections of its own."""
    storage = open_storage(address, create=True)
    optuna.create_study(storage=storage, study_name="s", direction="maximize")
    with ExitStack() as stack:

        def join(clock: Clock = hours.clock) -> Worker:
            study = optuna.load_study(storage=open_storage(address, create=False), study_name="s")
            stack.callback(backend_of(study).engine.dispose)
            folder = Folder(address, "s", str(tmp_path / "files"))
            return stack.enter_context(Worker.joining(study, folder, grace=GRACE, clock=clock))

        yield join
    optuna.delete_study(storage=storage, study_name="s")
    storage.engine.dispose()


def leases(worker: Worker) -> dict[str, Lease]:
    return worker.backend.leases


def end(worker: Worker, claim: Claim, value: float = 0.5, publish: Any = lambda: None) -> bool:
    return worker.end(claim, TrialState.COMPLETE, value, {"ended": "finished"}, publish)


def states(worker: Worker) -> list[str]:
    return [trial.state.name for trial in worker.study.get_trials(deepcopy=False)]


def test_never_more_trials_than_asked_for(worker: Open) -> None:
    workers, claimed = [worker() for _ in range(4)], list[int]()

    def claim_all(one: Worker) -> None:
        while (claim := one.add(most=21)) is not None:
            claimed.append(claim.number)

    threads = [threading.Thread(target=claim_all, args=(one,)) for one in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(21))
    assert states(workers[0]) == ["RUNNING"] * 21
    assert len(leases(workers[0])) == 21


def test_what_was_queued_comes_first(worker: Open) -> None:
    one = worker()
    one.study.enqueue_trial({"x": 3})
    one.study.enqueue_trial({"x": 4})
    first, second = one.add(most=5), one.add(most=5)
    assert first is not None
    assert second is not None
    assert [first.number, second.number] == [0, 1]
    one.study.get_trials(deepcopy=False)
    assert optuna.Trial(one.study, second.trial_id).suggest_int("x", 0, 9) == 4
    third = one.add(most=5)
    assert third is not None
    assert third.number == 2


def test_an_end_is_stored_whole(worker: Open) -> None:
    one = worker()
    claim = one.add(most=1)
    assert claim is not None
    assert one.report(claim, 1, 0.25)
    assert one.report(claim, 1, 0.5)  # the same epoch once more
    row = {"ended": "finished", "confusion": [[1, 2], [3, 4]], "bytes": None}
    published: list[bool] = []
    assert one.end(claim, TrialState.COMPLETE, 0.75, row, lambda: published.append(True))
    trial = one.backend.storage.get_trial(claim.trial_id)
    assert (trial.value, trial.user_attrs) == (0.75, row)
    assert trial.intermediate_values == {1: 0.5}
    assert trial.datetime_complete is not None
    assert trial.datetime_start is not None
    assert trial.datetime_start <= trial.datetime_complete
    assert published == [True]
    assert leases(one) == {}


DIES = """
import os, signal, sys
import optuna
from search.database.storage import open_storage
from search.study.folder import Folder
from search.workers.worker import Worker

address, files = sys.argv[1:]
study = optuna.load_study(storage=open_storage(address, create=False), study_name="s")
with Worker.joining(study, Folder(address, "s", files), grace=3600) as worker:
    print(worker.add(most=9).number, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_dead_process_s_trial_is_taken_over_at_once(
    worker: Open, address: str, tmp_path: Path
) -> None:
    program = [sys.executable, "-c", DIES, address, str(tmp_path / "files")]
    dead = subprocess.run(
        program, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert (dead.returncode, dead.stdout) == (-signal.SIGKILL, "0\n"), dead.stderr
    lives = worker()
    claim = lives.take_over()
    assert claim is not None
    assert claim.number == 0
    assert lives.take_over() is None
    assert end(lives, claim)


def test_a_stopped_worker_s_late_result_is_dropped(worker: Open, hours: Hours) -> None:
    late, other = worker(), worker()
    claim = late.add(most=1)
    assert claim is not None
    other.holder.renew()
    hours.beats(BEATS, other)  # of the late one none; its file stays locked
    assert other.take_over() is None  # not before the grace is over
    hours.beats(1, other)
    assert other.take_over() == claim
    published: list[bool] = []
    assert not late.report(claim, 1, 0.1)
    assert not end(late, claim, 0.1, lambda: published.append(True))
    late.holder.renew()
    assert not late.holds("trial0000")
    assert end(other, claim, 0.9)
    assert not end(late, claim, 0.1, lambda: published.append(True))
    (trial,) = other.study.get_trials()
    assert trial.value == 0.9
    assert published == []


class Drawing:
    """A source that draws one parameter; it begins nothing by itself."""

    training_attribute, pruner = "fingerprint", None

    def sampler(self, number: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.RandomSampler(number)

    def draw(self, trial: optuna.Trial) -> Any:
        return trial.suggest_int("x", 0, 9)


def test_a_late_draw_is_dropped(worker: Open, hours: Hours) -> None:
    """A process was stopped before it drew; its trial has ended when it goes on."""
    late, other = worker(), worker()
    claim = late.add(most=1)
    assert claim is not None
    late.study.get_trials(deepcopy=False)
    other.holder.renew()
    hours.beats(BEATS + 1, other)
    assert other.take_over() == claim
    assert end(other, claim, 0.9)
    listener = MagicMock()
    run = _Run(Drawing(), late, MagicMock(), listener)  # type: ignore[arg-type]
    run.begin(claim)
    listener.message.assert_called_once()
    assert "taken over" in listener.message.call_args.args[0]
    (trial,) = other.study.get_trials()
    assert (trial.value, trial.params) == (0.9, {})


def test_a_living_worker_keeps_its_trial(worker: Open, hours: Hours) -> None:
    lives, other = worker(), worker()
    assert lives.add(most=1) is not None
    for _ in range(3 * BEATS):
        hours.beats(1, lives, other)
        assert other.take_over() is None
    assert leases(lives)["trial0000"].beat == 3 * BEATS


def test_a_worker_beats_by_itself(worker: Open) -> None:
    asked, beat = list[float](), threading.Semaphore(0)

    def wait(stopping: threading.Event, seconds: float) -> bool:
        asked.append(seconds)
        while not stopping.is_set():
            if beat.acquire(timeout=0.02):
                return False
        return True

    one = worker(clock=Clock(wait=wait))
    assert one.add(most=1) is not None
    beat.release(3)
    until(lambda: len(asked) == 4)
    assert leases(one)["trial0000"].beat == 3
    assert set(asked) == {GRACE / BEATS}


def test_who_was_away_judges_nobody(worker: Open, hours: Hours) -> None:
    """A process that was itself stopped has seen no beat either."""
    owner, away = worker(), worker()
    claim = owner.add(most=1)
    assert claim is not None
    away.holder.renew()
    hours.now += 3600
    assert away.take_over() is None
    away.holder.renew()  # it looks again: from now on time counts
    assert away.take_over() is None
    hours.beats(BEATS, away)
    assert away.take_over() is None
    hours.beats(1, away)
    assert away.take_over() == claim


def test_device_seconds_are_those_of_training(worker: Open, hours: Hours) -> None:
    one = worker()
    one.holder.usage.devices = 3
    hours.now += 100
    claim = one.add(most=1)
    assert claim is not None
    hours.now += 7
    one.holder.renew()
    hours.now += 2
    assert end(one, claim)
    hours.now += 100
    one.holder.renew()
    assert spent_of(one.study).device_seconds == 3 * (7 + 2)


def test_studies_tell_how_many_work_on_them(worker: Open, address: str) -> None:
    one, two = worker(), worker()
    engine = open_engine(address)
    assert list(study_list.studies(engine)["workers"]) == [0]
    for each in (one, one, two):
        assert each.add(most=3) is not None
    assert list(study_list.studies(engine)["workers"]) == [2]
    with one.backend.engine.begin() as connection:
        for place, lease in all_leases(connection, one.backend.study_id).items():
            assert swap(connection, one.backend.study_id, place, lease, replace(lease, at=LONG_AGO))
    assert list(study_list.studies(engine)["workers"]) == [0]
    with one.backend.engine.begin() as connection:  # as no worker of ours writes them
        odd: tuple[object, ...] = (
            {},
            "x",
            {"at": 3},
            {"at": "today"},
            {"at": LONG_AGO[:19], "grace": 1},
            None,
        )
        for number, told in enumerate(odd):
            write_fact(connection, one.backend.study_id, f"lease:odd{number}", json.dumps(told))
    assert list(study_list.studies(engine)["workers"]) == [0]
    with (
        pytest.raises(InputError, match="must be of this version"),
        one.backend.engine.begin() as again,
    ):
        all_leases(again, one.backend.study_id)
    with one.backend.engine.begin() as connection:
        connection.execute(sa.delete(FACTS).where(FACTS.c.key.startswith("lease:odd")))


LONG_AGO = "2026-01-01T00:00:00+00:00"


def test_what_is_given_back_is_taken_by_the_next(worker: Open) -> None:
    leaves, stays = worker(), worker()
    claim = leaves.add(most=1)
    assert claim is not None
    leaves.release("trial0000")
    assert stays.take_over() == claim
    assert not end(leaves, claim)
    assert end(stays, claim)


def test_one_worker_trains_what_two_have_drawn(worker: Open) -> None:
    one, two = worker(), worker()
    first, second = one.add(most=2), two.add(most=2)
    assert first is not None
    assert second is not None
    assert two.announce("trial0001", "the same network")
    assert not one.announce("trial0000", "the same network")
    assert one.announce("trial0000", "another network")
    assert end(two, second)
    assert one.announce("trial0000", "the same network")


def test_a_finalist_is_trained_once(worker: Open) -> None:
    one, two = worker(), worker()
    assert one.claim("trial0003/seed1", "finalist-3-1")
    assert not two.claim("trial0003/seed1", "finalist-3-1")
    published: list[bool] = []
    row = {"file_accuracy": 0.5}
    assert one.end_finalist("trial0003/seed1", "finalist-3-1", row, lambda: published.append(True))
    assert not two.claim("trial0003/seed1", "finalist-3-1")
    assert two.study.user_attrs["finalist-3-1"] == row
    assert published == [True]
    assert leases(one) == {}


def test_an_unheard_success_is_found_again(worker: Open) -> None:
    """The database commits, and is gone before it can say so: the same is asked once more."""
    one = worker()
    claim = one.add(most=5)
    assert claim is not None
    one.holder.let_go("trial0000")
    assert one.add(most=5) == claim
    assert one.add(most=5) != claim
    assert end(one, claim)
    assert end(one, claim)
    assert len(one.study.get_trials()) == 2


def test_time_counts_once_and_while_something_trains() -> None:
    began = Spent(at=1000.0)
    first = began.after(1010.0, 40, training=True, grace=60)  # of one worker
    assert first == Spent(10, 40, 1010, True)
    second = first.after(1015.0, 2, training=False, grace=60)  # another's; training has ended
    assert second == Spent(15, 42, 1015, False)
    third = second.after(1035.0, 0, training=False, grace=60)
    assert third == Spent(15, 42, 1035, False)
    again = third.after(1036.0, 0, training=True, grace=60)
    assert again == Spent(16, 42, 1036, True)
    assert again.after(1096.0, 0, training=True, grace=60).seconds == 76
    assert again.after(1097.0, 0, training=True, grace=60).seconds == 16  # nobody was at it
    assert again.after(1030.0, 0, training=True, grace=60).seconds == 16  # the clock was set back


def test_the_account_is_kept_by_the_database_s_clock(worker: Open) -> None:
    one = worker()

    def told(device_seconds: float) -> Spent:
        with one.backend.engine.begin() as connection:
            return account(connection, one.backend.study_id, device_seconds, True, 60)

    begin, end = told(0), told(40)
    assert abs(begin.at - datetime.datetime.now().timestamp()) < 60
    assert end.seconds - begin.seconds == pytest.approx(end.at - begin.at, abs=1e-6)
    assert end.device_seconds == begin.device_seconds + 40
    assert spent_of(one.study) == end


@pytest.mark.parametrize(
    ("spent", "told"),
    [
        (Spent(59, 0), None),
        (Spent(60, 0), "--timeout"),
        (Spent(0, 3600), "--gpu-hours: 1.00 device-hours"),
    ],
)
def test_limits(spent: Spent, told: str | None) -> None:
    reached = Limits(60, 3600).reached(spent)
    assert (told is None) == (reached is None)
    assert told is None or told in str(reached)
    assert Limits().reached(Spent(1e9, 1e9)) is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30 min", 1800), ("2h", 7200), ("1.5d", 129600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "0s", "1w", "1e3s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(InputError, match="--timeout must be a time like"):
        parse_duration(text)


def test_the_first_signal_asks_and_the_second_leaves(capfd: pytest.CaptureFixture[str]) -> None:
    stop_request = StopRequest()
    with stop_request.handling_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop_request.asked
        with pytest.raises(KeyboardInterrupt) as second:
            os.kill(os.getpid(), signal.SIGTERM)
    assert second.value.status == 128 + signal.SIGTERM  # type: ignore[attr-defined]
    assert "leaving after this epoch" in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        stop_request.raise_if_stopped()


def test_a_crash_is_laid_to_what_was_in_training_alone(worker: Open, tmp_path: Path) -> None:
    """Not to a trial of the dead worker that waited for another worker's student."""
    dead, other, heir = worker(), worker(), worker()
    trained, waiting, twin = dead.add(most=3), dead.add(most=3), other.add(most=3)
    assert trained is not None
    assert waiting is not None
    assert twin is not None
    assert other.announce("trial0002", "one student")
    assert dead.announce("trial0000", "another student")
    assert not dead.announce("trial0001", "one student")
    dead.holder.mark.write(b"Fatal Python error: Segmentation fault\n\nmore\n")
    dead.holder.mark.close()  # which unlocks it, as the end of a process does
    assert [heir.take_over(), heir.take_over()] == [trained, waiting]
    assert heir.crashes("trial0000") == ["Segmentation fault"]
    assert heir.crashes("trial0001") == []


def test_a_crash_in_a_finalist_s_training_is_laid_to_it(worker: Open) -> None:
    dead, heir = worker(), worker()
    assert dead.claim("trial0000/seed1", "finalist:0:1")
    dead.holder.mark.write(b"Fatal Python error: Aborted\n")
    dead.holder.mark.close()
    assert heir.claim("trial0000/seed1", "finalist:0:1")
    assert heir.crashes("trial0000/seed1") == ["Aborted"]
