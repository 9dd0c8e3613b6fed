"""Leases: a trial has one owner, a dead one's trial goes on, a late one changes nothing."""

import json
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from search.database import study_list
from search.database.engine import open_engine
from search.database.leases import FACTS, Lease, all_leases, swap, write_fact
from search.database.storage import backend_of, open_storage
from search.database.transactions import Claim
from search.study.folder import Folder
from search.study.limits import Limits, Spent, account, parse_duration
from search.trials.loop import _Run
from search.workers.stopping import StopRequest
from search.workers.worker import Worker
from space.errors import InputError

GRACE = 1.2  # seconds
Open = Callable[..., Worker]


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return str(tmp_path / "studies.db")
    return str(request.getfixturevalue("postgres"))


@pytest.fixture
def worker(address: str, tmp_path: Path) -> Iterator[Open]:
    """`worker()` joins the one study, as a process would: with connections of its own."""
    made = open_storage(address, create=True)
    optuna.create_study(storage=made, study_name="s", direction="maximize")
    made.engine.dispose()
    with ExitStack() as stack:

        def join(grace: float = GRACE) -> Worker:
            study = optuna.load_study(storage=open_storage(address, create=False), study_name="s")
            stack.callback(backend_of(study).engine.dispose)
            folder = Folder(address, "s", str(tmp_path / "files"))
            return stack.enter_context(Worker(study, folder, grace=grace))

        yield join


def leases(worker: Worker) -> dict[str, Lease]:
    with worker.engine.begin() as connection:
        return all_leases(connection, worker.study_id)


def end(worker: Worker, claim: Claim, value: float = 0.5, publish: Any = lambda: None) -> bool:
    return worker.end(claim, TrialState.COMPLETE, value, {"ended": "finished"}, publish)


def until(true: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def states(worker: Worker) -> list[str]:
    return [trial.state.name for trial in worker.study.get_trials(deepcopy=False)]


def test_never_more_trials_than_asked_for(worker: Open) -> None:
    workers, claimed = [worker(grace=60) for _ in range(4)], list[int]()

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
    trial = one.storage.get_trial(claim.trial_id)
    assert (trial.value, trial.user_attrs) == (0.75, row)
    assert trial.intermediate_values == {1: 0.5}
    assert trial.datetime_complete is not None
    assert trial.datetime_start is not None
    assert trial.datetime_start <= trial.datetime_complete
    assert published == [True]
    assert leases(one) == {}


def test_a_dead_process_s_trial_is_taken_over_at_once(
    worker: Open, address: str, tmp_path: Path
) -> None:
    told = tmp_path / "claimed"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads
        child = os.fork()
    if child == 0:
        dies = worker(grace=3600)
        claim = dies.add(most=9)
        assert claim is not None
        told.write_text(str(claim.number))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert told.read_text() == "0"
    lives = worker(grace=3600)
    claim = lives.take_over()
    assert claim is not None
    assert claim.number == 0
    assert lives.take_over() is None
    assert end(lives, claim)


def test_a_stopped_worker_s_late_result_is_dropped(worker: Open) -> None:
    late, other = worker(), worker()
    claim = late.add(most=1)
    assert claim is not None
    late.stopping.set()  # it beats no more, as a stopped process; its file stays locked
    late.thread.join()
    assert other.take_over() is None  # not before the grace is over
    taken: list[Claim] = []
    until(lambda: (found := other.take_over()) is not None and (taken.append(found) or True))
    assert taken == [claim]
    published: list[bool] = []
    assert not late.report(claim, 1, 0.1)
    assert not end(late, claim, 0.1, lambda: published.append(True))
    late.renew()
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


def test_a_late_draw_is_dropped(worker: Open) -> None:
    """A process was stopped before it drew; its trial has ended when it goes on."""
    late, other = worker(grace=3600), worker(grace=3600)
    claim = late.add(most=1)
    assert claim is not None
    late.study.get_trials(deepcopy=False)
    late._release("trial0000")  # as if its grace were over
    assert other.take_over() == claim
    assert end(other, claim, 0.9)
    listener = MagicMock()
    run = _Run(Drawing(), late, MagicMock(), listener)  # type: ignore[arg-type]
    run.begin(claim)
    listener.message.assert_called_once()
    assert "taken over" in listener.message.call_args.args[0]
    (trial,) = other.study.get_trials()
    assert (trial.value, trial.params) == (0.9, {})


def test_a_living_worker_keeps_its_trial(worker: Open) -> None:
    lives, other = worker(), worker()
    assert lives.add(most=1) is not None
    until_then = time.monotonic() + 2.5 * GRACE
    while time.monotonic() < until_then:
        assert other.take_over() is None
        time.sleep(0.05)
    assert leases(lives)["trial0000"].beat > 5


def test_who_was_away_judges_nobody(worker: Open) -> None:
    """A process that was itself stopped has seen no beat either."""
    owner, away = worker(grace=60), worker()
    claim = owner.add(most=1)
    assert claim is not None
    away.renew()
    away.stopping.set()
    away.thread.join()
    lease, _ = away.still["trial0000"]
    long_ago = time.monotonic() - 3600
    away.still["trial0000"], away.watched = (lease, long_ago), long_ago
    assert away.take_over() is None
    away.renew()  # it looks again: from now on time counts
    assert away.take_over() is None
    assert end(owner, claim)


def test_studies_tell_how_many_work_on_them(worker: Open, address: str) -> None:
    one, two = worker(grace=60), worker(grace=60)
    engine = open_engine(address)
    assert list(study_list.studies(engine)["workers"]) == [0]
    for each in (one, one, two):
        assert each.add(most=3) is not None
    assert list(study_list.studies(engine)["workers"]) == [2]
    with one.engine.begin() as connection:
        for place, lease in all_leases(connection, one.study_id).items():
            assert swap(connection, one.study_id, place, lease, replace(lease, at=LONG_AGO))
    assert list(study_list.studies(engine)["workers"]) == [0]
    with one.engine.begin() as connection:  # as no worker of ours writes them
        odd = ({}, "x", {"at": 3}, {"at": "today"}, {"at": LONG_AGO[:19], "grace": 1}, None)
        for place, told in enumerate(odd):
            write_fact(connection, one.study_id, f"lease:odd{place}", json.dumps(told))
    assert list(study_list.studies(engine)["workers"]) == [0]
    with pytest.raises(InputError, match="must be of this version"), one.engine.begin() as again:
        all_leases(again, one.study_id)
    with one.engine.begin() as connection:
        connection.execute(sa.delete(FACTS).where(FACTS.c.key.startswith("lease:odd")))


LONG_AGO = "2026-01-01T00:00:00+00:00"


def test_what_is_given_back_is_taken_by_the_next(worker: Open) -> None:
    leaves, stays = worker(grace=3600), worker(grace=3600)
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
    one = worker(grace=3600)
    claim = one.add(most=5)
    assert claim is not None
    one.held.clear()
    assert one.add(most=5) == claim
    assert one.add(most=5) != claim
    assert end(one, claim)
    assert end(one, claim)
    assert len(one.study.get_trials()) == 2


def test_the_account_is_the_study_s(worker: Open) -> None:
    one = worker(grace=3600)

    def told(device_seconds: float, training: bool, grace: float = 60) -> Spent:
        time.sleep(0.3)
        with one.engine.begin() as connection:
            return account(connection, one.study_id, device_seconds, training, grace)

    begin = told(0, False)
    first = told(40, True)
    assert 0.25 < first.seconds - begin.seconds < 5
    second = told(2, False)  # what was in training has ended
    assert 0.25 < second.seconds - first.seconds < 5
    assert second.device_seconds == begin.device_seconds + 42
    third = told(0, False)
    assert third.seconds == second.seconds  # nothing was in training
    told(0, True)
    before = told(0, True)
    assert told(0, True, grace=0.1).seconds == before.seconds  # nobody can have been at it


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
    dead, other, heir = worker(grace=60), worker(grace=60), worker(grace=60)
    trained, waiting, twin = dead.add(most=3), dead.add(most=3), other.add(most=3)
    assert trained is not None
    assert waiting is not None
    assert twin is not None
    assert other.announce("trial0002", "one student")
    assert dead.announce("trial0000", "another student")
    assert not dead.announce("trial0001", "one student")
    assert dead.mark is not None
    dead.mark.write(b"Fatal Python error: Segmentation fault\n\nmore\n")
    dead.mark.close()  # which unlocks it, as the end of a process does
    assert [heir.take_over(), heir.take_over()] == [trained, waiting]
    assert heir.crashes("trial0000") == ["Segmentation fault"]
    assert heir.crashes("trial0001") == []


def test_a_crash_in_a_finalist_s_training_is_laid_to_it(worker: Open) -> None:
    dead, heir = worker(grace=60), worker(grace=60)
    assert dead.claim("trial0000/seed1", "finalist:0:1")
    assert dead.mark is not None
    dead.mark.write(b"Fatal Python error: Aborted\n")
    dead.mark.close()
    assert heir.claim("trial0000/seed1", "finalist:0:1")
    assert heir.crashes("trial0000/seed1") == ["Aborted"]
