"""What `distilnas doctor` finds in a study that was tampered with, and what it mends."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from commands import SMALL, Answer, inside, refused
from members import quick_train

from search.database.leases import Lease
from search.workers.presence import boot, host

STUDENT, EXACT = "student.safetensors", "exact.safetensors"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study of three trials and a finalist, trained by a stand-in."""
    monkeypatch.setattr("search.training.objective.train", quick_train)
    flags = ("--teacher", "none", "--finalists", "1", "--pruner", "none", "--seed", "4")
    answer = inside(tmp_path, "search", *SMALL, *flags)
    assert answer.status == 0, answer.err
    return tmp_path


def doctor(folder: Path, *flags: str) -> Answer:
    return inside(folder, "doctor", "s", *flags)


def sql(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "studies.db")) as database, database:
        database.execute(statement, values)


def hold(folder: Path, place: str, lease: Lease) -> None:
    statement = "INSERT INTO study_system_attributes (study_id, key, value_json) VALUES (1, ?, ?)"
    sql(folder, statement, f"lease:{place}", lease.text)


def test_a_sound_study(study: Path) -> None:
    answer = doctor(study)
    assert answer.status == 0, answer.out
    assert "3 trials, 0 living workers, nothing found" in answer.out
    assert doctor(study, "--json").json["findings"] == []


def drop_student(files: Path) -> None:
    (files / "trial0001" / STUDENT).unlink()


def damage_student(files: Path) -> None:
    path = files / "trial0001" / STUDENT
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def drop_best(files: Path) -> None:
    (files / "best.safetensors").unlink()


def forge_best(files: Path) -> None:
    (files / "best.safetensors").write_bytes(b"something else")


def leave_checkpoint(files: Path) -> None:
    (files / "trial0000" / "checkpoint.pt").write_bytes(b"x")


def leave_temporary(files: Path) -> None:
    (files / ".best.safetensors.0123.tmp").write_bytes(b"x")


def leave_draft(files: Path) -> None:
    draft = files / "trial0002" / "gone-1-2.draft"
    draft.mkdir()
    (draft / STUDENT).write_bytes(b"x")
    (draft / f".{EXACT}.0123.tmp").write_bytes(b"x")  # killed in the middle of it


def leave_mark(files: Path) -> None:
    (files / "workers" / "gone-1-2").write_bytes(b"")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (drop_student, f"trial0001/{STUDENT} is missing"),
        (damage_student, f"trial0001/{STUDENT} is not the file that was scored"),
        (drop_best, "best.safetensors is missing"),
        (forge_best, "best.safetensors is none of the students"),
        (leave_checkpoint, "trial0000/checkpoint.pt is left of what has ended"),
        (leave_temporary, ".best.safetensors.0123.tmp was not written to its end"),
        (leave_draft, "gone-1-2.draft is a dead worker's draft"),
        (leave_mark, "workers/gone-1-2 is a dead worker's"),
    ],
)
def test_what_can_be_mended(study: Path, harm: Callable[[Path], None], told: str) -> None:
    files = study / "runs" / "s"
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    harm(files)
    dry = doctor(study, "--dry-run")
    assert dry.status == 1
    assert f"can be mended: {told}" in dry.out or told in dry.out
    answer = doctor(study)
    assert answer.status == 0, answer.out
    assert "mended: " in answer.out
    assert told in answer.out
    assert doctor(study).status == 0
    assert "nothing found" in doctor(study).out
    after = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    students = [path for path in before if path.name != "best.safetensors"]
    assert {path: after.get(path) for path in students} == {p: before[p] for p in students}
    assert after.keys() == before.keys()


def drop_both(folder: Path) -> None:
    for name in (STUDENT, EXACT):
        (folder / "runs" / "s" / "trial0001" / name).unlink()


def edit_architecture(folder: Path) -> None:
    change = "UPDATE trial_user_attributes SET value_json = ? WHERE trial_id = 2 AND key = ?"
    sql(folder, change, json.dumps("0" * 12), "fingerprint")


def renumber(folder: Path) -> None:
    sql(folder, "UPDATE trials SET number = 7 WHERE number = 2")


def edit_hash(folder: Path) -> None:
    change = "UPDATE study_user_attributes SET value_json = ? WHERE key = ?"
    sql(folder, change, json.dumps("0" * 12), "spec_hash")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (drop_both, f"left: trial0001/{STUDENT} is missing"),
        (edit_architecture, "left: trial 1: its architecture's fingerprint is"),
        (renumber, "left: trials must be numbered 0 to 2, each once"),
        (edit_hash, "left: the study's settings have the hash"),
    ],
)
def test_what_only_a_person_can_mend(study: Path, harm: Callable[[Path], None], told: str) -> None:
    harm(study)
    answer = doctor(study)
    assert answer.status == 1
    assert told in answer.out


def test_a_zombie_is_given_back(study: Path) -> None:
    """A worker that died on another machine: nobody here can see that, but its beat stands."""
    sql(study, "UPDATE trials SET state = 'RUNNING' WHERE number = 1")
    hold(study, "trial0001", Lease(worker="far-1-2", host="far", boot="b", grace=1.0))
    answer = doctor(study)
    assert answer.status == 0, answer.out
    assert "trial0001 is held by worker far-1-2, which is dead" in answer.out
    assert "1 trial is unfinished; go on with: distilnas resume s" in answer.out
    assert "nothing found" in doctor(study).out


def test_a_lease_of_what_has_ended_is_removed(study: Path) -> None:
    mine = Lease(worker="here-1-2", host=host(), boot=boot(), grace=1.0)
    hold(study, "trial0002", mine)
    answer = doctor(study)
    assert answer.status == 0
    assert "mended: trial0002 is held by worker here-1-2" in answer.out


def test_a_missing_teacher(tmp_path: Path) -> None:
    answer = inside(tmp_path, "search", *SMALL, "--trials", "1", "--epochs", "1")
    assert answer.status == 0, answer.err
    (tmp_path / "runs" / "s" / "teacher.pt").unlink()
    answer = doctor(tmp_path)
    assert answer.status == 1
    assert "left: teacher 'teacher': " in answer.out


def test_wrong_names(study: Path) -> None:
    refused(inside(study, "doctor", "other"), "no study is named 'other'")
    refused(inside(study, "doctor", "s", "--storage", "none.db"), "none.db does not exist")
    refused(inside(study, "doctor", "s", "--artifacts", "nowhere"), "--artifacts FOLDER")
