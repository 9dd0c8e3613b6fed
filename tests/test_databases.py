"""Databases: a real PostgreSQL, a full disk, damaged files, studies by other programs."""

import math
import shutil
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from commands import SMALL, distilnas, environment, inside, refused
from optuna.storages import RDBStorage

from benchmarks import synthetic_studies
from search.database import table
from search.database.engine import open_engine
from search.database.storage import open_storage


def close(storage: RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


WRITER = """
import os, subprocess, sys
from optuna.study import StudyDirection
from search.database.storage import open_storage

first = open_storage("studies.db", create=True)
first.get_all_studies()
storage = open_storage("studies.db", create=False)
storage.create_new_study([StudyDirection.MAXIMIZE], "before")
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
storage.create_new_study([StudyDirection.MAXIMIZE], "after")
os.kill(os.getpid(), 9)
"""
VISITOR = """
from search.database.storage import open_storage

storage = open_storage("studies.db", create=False)
assert len(storage.get_all_studies()) == 1
storage.engine.dispose()
"""


def test_a_file_that_is_opened_twice_loses_nothing(tmp_path: Path) -> None:
    """A process that closed the file beside SQLite would have no locks left.

    Then the next visitor takes itself for the last one, and removes the log that is written to.
    """
    program = [sys.executable, "-c", WRITER, VISITOR]
    done = subprocess.run(
        program, cwd=tmp_path, env=environment(), capture_output=True, check=False
    )
    assert done.returncode == -9, done.stderr
    assert [study["name"] for study in inside(tmp_path, "studies", "--json").json] == [
        "before",
        "after",
    ]


@pytest.mark.slow
def test_a_search_on_postgresql(tmp_path: Path, postgres: str) -> None:
    answer = distilnas(tmp_path, "search", *SMALL, "--storage", postgres, "--json")
    assert answer.status == 0, answer.err
    assert "secret" not in answer.out + answer.err
    arguments = ("--trials", "1", "--cache", "cache", "--storage", postgres, "--json")
    resumed = distilnas(tmp_path, "resume", "s", *arguments)
    assert resumed.status == 0, resumed.err
    assert sum(resumed.json["states"].values()) >= 4
    storage = open_storage(postgres, create=False)
    study = optuna.load_study(study_name="s", storage=storage)
    frame = table.trials(open_engine(postgres), "s")
    assert [trial.value for trial in study.trials] == list(frame["value"])
    assert study.trials[0].user_attrs["words"] == frame["words"][0]
    close(storage)
    assert inside(tmp_path, "studies", "--storage", postgres, "--json").json[0]["name"] == "s"
    assert inside(tmp_path, "show", "s", "0", "--storage", postgres).status == 0


@pytest.mark.slow
def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        arguments = (*SMALL, "--pruner", "none", "--cache", str(tmp_path / "cache"))
        assert distilnas(disk, "search", *arguments, "--trials", "1").status == 0
        before = table.trials(open_engine(str(disk / "studies.db")), "s")
        ballast = disk / "ballast"
        free = shutil.disk_usage(disk).free
        ballast.write_bytes(b"\0" * (free - 64 * 1024))
        resume = ("resume", "s", "--trials", "2", "--cache", str(tmp_path / "cache"))
        refused(distilnas(disk, *resume))
        ballast.unlink()
        assert distilnas(disk, *resume[:2], *resume[4:]).status == 0
        after = table.trials(open_engine(str(disk / "studies.db")), "s")
        assert after["value"][0] == before["value"][0]
        assert "RUNNING" not in set(after["state"])
        assert after["number"].is_unique
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_study_by_another_program_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "studies.db"), create=True)
    study = optuna.create_study(study_name="foreign", storage=storage)
    distributions = {
        "x": optuna.distributions.FloatDistribution(0, 1),
        "k": optuna.distributions.IntDistribution(1, 9, step=2),
        "c": optuna.distributions.CategoricalDistribution(("red", None, 3, True)),
    }
    for params, value in (
        ({"x": 0.5, "k": 3, "c": "red"}, 1.5),
        ({"x": 0.25, "k": 5, "c": 3}, math.inf),
        ({"x": 0.125, "k": 7, "c": True}, -math.inf),
    ):
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, value=value)
        )
    study.ask()
    frame = table.trials(open_engine(str(tmp_path / "studies.db")), "foreign")
    assert list(frame["value"])[:3] == [1.5, math.inf, -math.inf]
    for trial, (_, row) in zip(study.trials[:3], frame.iterrows(), strict=False):
        assert {name: row[f"params_{name}"] for name in trial.params} == trial.params
    close(storage)
    assert inside(tmp_path, "show", "foreign").status == 0
    assert inside(tmp_path, "show", "foreign", "1").status == 0
    assert len(inside(tmp_path, "studies", "--json").json) == 1
    refused(inside(tmp_path, "resume", "foreign"), "not made by DistilNAS")


def test_a_plain_study_beside_ours_is_listed_by_its_direction(tmp_path: Path) -> None:
    synthetic_studies.make(tmp_path / "studies.db", 9)
    storage = open_storage(str(tmp_path / "studies.db"), create=False)
    for direction in ("minimize", "maximize"):
        study = optuna.create_study(study_name=direction, storage=storage, direction=direction)
        for value in (7.25, -3.5, math.inf if direction == "minimize" else -math.inf):
            study.add_trial(optuna.trial.create_trial(value=value))
    optuna.create_study(study_name="empty", storage=storage)
    close(storage)
    answer = inside(tmp_path, "studies")
    assert answer.status == 0, answer.err
    rows = {line.split()[0]: line for line in answer.out.splitlines() if line.split()}
    assert "-3.5 " in rows["minimize"]
    assert "7.25 " in rows["maximize"]
    assert "%" not in rows["minimize"] + rows["maximize"]
    assert "%" in rows["synthetic"]
    found = {row["name"]: row["best"] for row in inside(tmp_path, "studies", "--json").json}
    assert (found["minimize"], found["maximize"], found["empty"]) == (-3.5, 7.25, None)
    for direction, best in (("minimize", "-3.5"), ("maximize", "7.25")):
        shown = inside(tmp_path, "show", direction).out
        assert "accuracy" not in shown
        assert "%" not in shown
        cells = [line.split() for line in shown.splitlines() if " complete " in line]
        finite = [value for _, _, value in cells if value not in ("inf", "-inf")]
        assert finite[0] == best, shown
        assert "value" in inside(tmp_path, "show", direction, "0").out
    values = [row["value"] for row in inside(tmp_path, "show", "minimize", "--json").json["trials"]]
    assert values == [7.25, -3.5, "inf"]


def test_an_empty_study_and_two_objectives(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "studies.db"), create=True)
    optuna.create_study(study_name="empty", storage=storage)
    two = optuna.create_study(study_name="two", storage=storage, directions=["minimize"] * 2)
    two.add_trial(optuna.trial.create_trial(values=[1.0, 2.0]))
    close(storage)
    for name in ("empty", "two"):
        assert inside(tmp_path, "show", name).status == 0
        assert inside(tmp_path, "show", name, "--json").json["study"] == name
    assert {row["name"] for row in inside(tmp_path, "studies", "--json").json} == {"empty", "two"}
    refused(inside(tmp_path, "show", "empty", "0"), "no trials")
    refused(inside(tmp_path, "show", "three"), "empty, two")


@pytest.mark.parametrize("kept", [100, 5000, 50_000])
def test_a_truncated_database_is_one_line(tmp_path: Path, kept: int) -> None:
    whole = tmp_path / "whole.db"
    storage = RDBStorage(f"sqlite:///{whole}")
    study = optuna.create_study(study_name="s", storage=storage)
    study.set_user_attr("long", "x" * 100_000)
    close(storage)
    content = whole.read_bytes()[:kept]
    (tmp_path / "studies.db").write_bytes(content)
    for arguments in (("search", "--cache", "cache"), ("studies",), ("resume", "s"), ("show", "s")):
        refused(inside(tmp_path, *arguments))
    assert (tmp_path / "studies.db").read_bytes() == content


@pytest.mark.slow
def test_a_diverged_student_does_not_end_the_search(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        'teacher = "none"\n[recipe]\nlr = 1e30\nlr_end = 1e30\nwarmup = 0.0\nema = 0.0\n'
    )
    answer = distilnas(tmp_path, "search", "--config", "c.toml", *SMALL)
    assert answer.status == 0, answer.err
    assert "no student was trained to its end" in answer.out
    frame = table.trials(open_engine(str(tmp_path / "studies.db")), "s")
    assert list(frame["state"]) == ["FAIL"] * 3
    assert set(frame["ended"]) == {"diverged"}
    assert frame["reason"].str.contains("loss").all()


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    import torch

    from space.build import build
    from space.references import reference
    from trainers.model import Model
    from trainers.teachers.description import TeacherInfo
    from trainers.teachers.teacher import save

    network = build(reference("teacher-small", classes=3, channels=1), seed=0)
    info = TeacherInfo(
        network="teacher-small",
        classes=("a", "b", "c"),
        channels=1,
        size=8,
        mean=(0.5,),
        std=(0.5,),
    )
    save(tmp_path / "t.pt", Model(network, size=8, mean=(0.5,), std=(0.5,)), info)
    refused(inside(tmp_path, "search", "--teacher", "t.pt", "--cache", "c"), "10 classes", "3")
    torch.save({"x": torch.zeros(2)}, tmp_path / "t.pt")
    refused(inside(tmp_path, "search", "--teacher", "t.pt", "--cache", "c"), "teacher-small")
    assert not (tmp_path / "studies.db").exists()


def test_a_network_is_not_trained_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A space of two shapes: the search trains two students and ends."""
    from dataclasses import replace

    from search.study import spec as specs
    from space.spaces import search_space

    def tiny(name: str, *, size: int, compressed_stem: bool = False) -> object:
        whole = search_space(name, size=size, compressed_stem=compressed_stem)
        choices = {key: values[:1] for key, values in whole.choices.items()}
        choices["stage1_depth"] = (1, 2)
        return replace(whole, choices=choices)

    monkeypatch.setattr(specs, "search_space", tiny)
    arguments = (*SMALL, "--epochs", "1", "--trials", "5", "--teacher", "none", "--pruner", "none")
    answer = inside(tmp_path, "search", *arguments)
    assert answer.status == 0, answer.err
    frame = table.trials(open_engine(str(tmp_path / "studies.db")), "s")
    assert frame["duplicate_of"].isna().sum() == 2
    twins = frame[frame["duplicate_of"].notna()]
    for _, row in twins.iterrows():
        first = frame[frame["number"] == row["duplicate_of"]].iloc[0]
        assert first["fingerprint"] == row["fingerprint"]
        assert first["value"] == row["value"]
    assert "not trained again" in answer.err


def test_a_stranger_s_study_in_a_folder_with_a_strange_name(tmp_path: Path) -> None:
    folder = tmp_path / "a#b?c%20d"
    folder.mkdir()
    study = optuna.create_study(study_name="x", storage=f"sqlite:///{tmp_path}/studies.db")
    study.set_user_attr("spec", "some text")
    study.optimize(lambda trial: trial.suggest_float("a", 0, 1), n_trials=2)
    (tmp_path / "studies.db").rename(folder / "studies.db")
    assert [known["name"] for known in inside(folder, "studies", "--json").json] == ["x"]
    assert "x: 2 complete" in inside(folder, "show", "x").out
    assert "trial 1 of x" in inside(folder, "show", "x", "1").out
    refused(inside(folder, "resume", "x"), "was not made by DistilNAS")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a#b?c%20d"]
