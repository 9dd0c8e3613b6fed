"""Ablations run: every arm over every seed exactly once, whatever befalls them; the evidence."""

import csv
import io
import shutil
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import Answer, distilnas, inside, refused, start, wait_for_line
from rich.console import Console
from scipy import stats

from search.database import table
from search.database.engine import open_engine
from search.study.folder import Folder
from search.terminal.progress import Display
from trainers import export

FLAGS = ("--cache", "cache", "--device", "cpu")
SPEC = """
question = "Does it?"
budget = "5KB"
epochs = 3
seeds = 3
design = "arms"
recipe = { base = "digits", phases = [[0, 0.5], [0.7, 0]] }
[baseline]
architecture = "digits-student"
[teachers.scratch]
epochs = 1
[[arms]]
name = "no se"
se = 0
[[arms]]
name = "same [x]"
[[arms]]
name = "fp16"
format = "fp16"
[[arms]]
name = "alone"
teacher = "none"
"""
STORED = """
widths = "fixed"
epochs = 2
seeds = 2
[baseline]
architecture = "digits-student"
teacher = "none"
format = "fp32"
[factors]
format = ["fp32", "fp16", "int8"]
"""
UNEQUAL = ["started", "completed", "seconds"]


def rows(folder: Path, name: str = "spec") -> pd.DataFrame:
    return table.trials(open_engine(str(folder / "studies.db")), name).drop(columns=UNEQUAL)


def write(folder: Path, text: str, name: str = "spec") -> str:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.toml").write_text(text)
    return f"{name}.toml"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """An ablation that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    answer = distilnas(folder, "ablate", write(folder, SPEC), *FLAGS)
    assert answer.status == 0, answer.err
    return folder, answer


def shown(folder: Path) -> Any:
    return inside(folder, "ablate", "show", "spec", "--json").json


def test_every_arm_is_trained_over_every_seed_once(whole: tuple[Path, Answer]) -> None:
    frame = rows(whole[0])
    assert set(frame["state"]) == {"COMPLETE"}
    arms = ["baseline", "no se", "same [x]", "fp16", "alone"]
    cells = [(arm, seed) for seed in range(3) for arm in arms]
    assert list(zip(frame["params_arm"], frame["params_seed"], strict=True)) == cells
    assert (frame["bytes"] <= 5000).all()
    assert (frame["budget_share"] > 0.97).all()
    for number, size in zip(frame["number"], frame["bytes"], strict=True):
        file = Folder(str(whole[0] / "studies.db"), "spec").student(number)
        assert file.stat().st_size == size


def test_the_plan_comes_before_the_trainings(whole: tuple[Path, Answer]) -> None:
    plan, _, rest = whole[1].err.partition("time: about")
    assert "'same [x]' is the same student as 'baseline'" in plan
    assert "teacher scratch" in rest
    assert "seed 0" in rest
    assert "seed 0" not in plan


def test_two_names_for_one_thing_are_trained_once(whole: tuple[Path, Answer]) -> None:
    frame = rows(whole[0])
    assert list(frame["trained_as"].dropna()) == [0, 5, 10]
    (again,) = (a for a in shown(whole[0])["arms"] if a["arm"] == "same [x]")
    assert again["difference"] == 0
    assert again["verdict"] == "no difference shown"


def test_the_table_is_what_the_rows_say(whole: tuple[Path, Answer]) -> None:
    """Recomputed from the rows of the database."""
    frame = rows(whole[0])
    wide = frame.pivot(index="params_seed", columns="params_arm", values="value")
    step = 1 / shown(whole[0])["plan"]["validation"]
    raw = {}
    for arm in shown(whole[0])["arms"]:
        own = wide[arm["arm"]].to_numpy(float)
        assert arm["mean"] == pytest.approx(own.mean())
        assert arm["sd"] == pytest.approx(own.std(ddof=1))
        assert arm["n"] == 3
        if arm["arm"] != "baseline":
            differences = own - wide["baseline"].to_numpy(float)
            error = max(differences.std(ddof=1), step / np.sqrt(6)) / np.sqrt(3)
            reach = stats.t.ppf(0.975, 2) * error
            assert arm["difference"] == pytest.approx(differences.mean(), abs=1e-12)
            assert arm["difference_low"] == pytest.approx(differences.mean() - reach)
            assert arm["difference_high"] == pytest.approx(differences.mean() + reach)
            raw[arm["arm"]] = 2 * stats.t.sf(abs(differences.mean()) / error, 2)
            assert arm["p"] == pytest.approx(raw[arm["arm"]])
    order = sorted(raw, key=lambda name: raw[name])
    holm = 0.0
    corrected = {arm["arm"]: arm["p_holm"] for arm in shown(whole[0])["arms"]}
    for place, name in enumerate(order):
        holm = max(holm, min(1.0, raw[name] * (len(order) - place)))
        assert corrected[name] == pytest.approx(holm)


def test_the_evidence_comes_in_four_forms(whole: tuple[Path, Answer]) -> None:
    folder, answer = whole
    table_of = csv.DictReader(io.StringIO(inside(folder, "ablate", "show", "spec", "--csv").out))
    means = {row["arm"]: float(row["mean"]) for row in table_of}
    assert means == {arm["arm"]: arm["mean"] for arm in shown(folder)["arms"]}
    each = list(csv.DictReader(io.StringIO(inside(folder, "ablate", "show", "spec", "--rows").out)))
    assert [float(row["value"]) for row in each] == rows(folder)["value"].to_list()
    marked = inside(folder, "ablate", "show", "spec", "--markdown").out
    assert "| no se |" in marked
    assert all(
        line.count("|") == marked.splitlines()[0].count("|") for line in marked.splitlines()[:7]
    )
    told = inside(folder, "ablate", "show", "spec").out
    assert "same [x]" in told
    assert "no difference shown" in told
    assert told.splitlines()[0] in answer.out
    assert "15 of 15" in told


def test_other_commands_know_an_ablation(whole: tuple[Path, Answer]) -> None:
    folder = whole[0]
    (study,) = inside(folder, "studies", "--json").json
    assert (study["space"], study["complete"]) == ("ablation", 15)
    assert "distilnas ablate show spec" in inside(folder, "show", "spec").out
    trial = inside(folder, "show", "spec", "3", "--json").json
    assert sum(layer["bytes"] for layer in trial["layers"]) < trial["bytes"] <= 5000
    assert inside(folder, "show", "spec", "3").status == 0
    answer = inside(folder, "export", "spec", "--trial", "2", "--out", "own.safetensors", "--json")
    assert answer.json["format"] == "int8"
    assert answer.json["bytes"] == (folder / "own.safetensors").stat().st_size


def test_more_seeds_come_behind_the_others(whole: tuple[Path, Answer], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(whole[0], folder)
    refused(inside(folder, "resume", "spec", "--seeds", "2", *FLAGS), "3 to", "2")
    assert inside(folder, "resume", "spec", "--seeds", "4", *FLAGS).status == 0
    frame = rows(folder)
    pd.testing.assert_frame_equal(frame.iloc[:15], rows(whole[0]), check_dtype=False)
    assert list(frame["params_seed"][15:]) == [3] * 5
    assert [arm["n"] for arm in shown(folder)["arms"]] == [4] * 5
    assert any("raised from 3 to 4" in note for note in shown(folder)["notes"])
    assert not any("raised" in note for note in shown(whole[0])["notes"])


def test_what_an_ablation_cannot_be_asked(whole: tuple[Path, Answer]) -> None:
    folder = whole[0]
    refused(inside(folder, "resume", "spec", "--trials", "2", *FLAGS), "--trials", "--seeds")
    refused(inside(folder, "resume", "spec", "--budget", "1MB", *FLAGS), "--budget")
    refused(inside(folder, "ablate", "spec.toml", *FLAGS), "exists", "distilnas resume spec")
    refused(inside(folder, "ablate", "spec.toml", "--seeds", "9", *FLAGS), "distilnas resume spec")
    refused(inside(folder, "ablate", "spec.toml", "--epochs", "9", *FLAGS), "epochs")
    refused(inside(folder, "ablate", "show", "nothing"), "no study", "spec")
    assert len(rows(folder)) == 15


def test_of_one_student_in_three_formats_one_is_trained(tmp_path: Path) -> None:
    answer = inside(tmp_path, "ablate", write(tmp_path, STORED), *FLAGS)
    assert answer.status == 0, answer.err
    frame = rows(tmp_path)
    assert list(frame["params_format"]) == ["fp32", "fp16", "int8"] * 2
    assert frame["trained_as"].isna().tolist() == [True, False, False] * 2
    assert frame["params"].nunique() == 1
    assert frame.groupby("format")["bytes"].nunique().tolist() == [1, 1, 1]
    assert frame["bytes"][0] > 1.7 * frame["bytes"][1] > 1.7 * frame["bytes"][2]
    folder = Folder(str(tmp_path / "studies.db"), "spec")
    for number, size in zip(frame["number"], frame["bytes"], strict=True):
        assert folder.student(number).stat().st_size == size
    converted = inside(tmp_path, "export", "spec", "--trial", "1", "--format", "fp32", "--out", "x")
    assert converted.status == 0
    assert (tmp_path / "x").read_bytes() == folder.student(0).read_bytes()


def test_a_format_that_cannot_hold_the_weights_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_student = export.write

    def write_to(student: Any, metadata: Any, format: str, path: Path) -> int:
        if format == "fp16":
            raise OverflowError("a weight of 70,000 is too large for fp16")
        return write_student(student, metadata, format, path)

    monkeypatch.setattr(export, "write", write_to)
    text = STORED.replace('["fp32", "fp16", "int8"]', '["fp16", "fp32", "int8"]')
    text = text.replace('format = "fp32"', 'format = "fp16"')
    answer = inside(tmp_path, "ablate", write(tmp_path, text), *FLAGS)
    assert answer.status == 0, answer.err
    frame = rows(tmp_path)
    assert list(frame["state"]) == ["FAIL", "COMPLETE", "COMPLETE"] * 2
    assert list(frame["ended"]) == ["unstorable", "finished", "finished"] * 2
    assert frame["trained_as"].dropna().tolist() == [0, 0, 3, 3]
    assert frame["value"].isna().tolist() == [True, False, False] * 2
    told = inside(tmp_path, "ablate", "show", "spec").out
    assert "2 of 2 seeds of arm 'format=fp16' could not be stored" in told
    assert "of trial 0, not trained again" in inside(tmp_path, "show", "spec", "1").out


HOSTILE = """
question = "Is [/bold] it [red]?"
epochs = 1
seeds = 1
budget = "5KB"
baseline = { architecture = "digits-student", teacher = "none", name = "a[/x]b" }
[factors."[/y]"]
"[bold]" = { se = 0 }
":smile:" = { se = 8 }
"""


def test_names_are_text_whatever_they_look_like(tmp_path: Path) -> None:
    answer = inside(tmp_path, "ablate", write(tmp_path, HOSTILE), *FLAGS)
    assert answer.status == 0, answer.err
    for out in (
        inside(tmp_path, "ablate", "show", "spec").out,
        inside(tmp_path, "ablate", "show", "spec", "--markdown").out,
    ):
        assert "Differences to a[/x]b" in out
        assert "[/y]=[bold]" in out
        assert "[/y]=:smile:" in out
    for out in (
        inside(tmp_path, "ablate", "show", "spec").out,
        inside(tmp_path, "show", "spec").out,
    ):
        assert "Is [/bold] it [red]?" in out
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Display(console, trials=1, done=0) as display:
        display.began("a[/x]b, seed 0", "conv [/y]", 8)


def test_an_ablation_without_trials_is_shown(whole: tuple[Path, Answer], tmp_path: Path) -> None:
    """Killed before the first training began."""
    database = tmp_path / "studies.db"
    shutil.copy(whole[0] / "studies.db", database)
    with sqlite3.connect(database) as connection:
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'trial%'"
        ).fetchall():
            connection.execute(f"DELETE FROM {name}")
    for form in ("--json", "--csv", "--rows", "--markdown"):
        assert inside(tmp_path, "ablate", "show", "spec", form).status == 0
    assert "0 of 15" in inside(tmp_path, "ablate", "show", "spec").out


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(
    whole: tuple[Path, Answer], tmp_path: Path, workers: str
) -> None:
    spec = write(tmp_path, SPEC)
    moments = ["teacher scratch:", "baseline, seed 0:", "no se, seed 0 complete", "alone, seed 1"]
    run = ("ablate", spec, *FLAGS, "--workers", workers)
    for moment in moments:
        process = start(tmp_path, *run)
        wait_for_line(process, moment)
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (tmp_path / "studies.db").exists() and inside(tmp_path, "show", "spec").status == 0:
            run = ("resume", "spec", *FLAGS, "--workers", workers)
    answer = distilnas(tmp_path, *run)
    assert answer.status == 0, answer.err
    pd.testing.assert_frame_equal(rows(tmp_path), rows(whole[0]), check_dtype=False)
    assert not list((tmp_path / "runs").rglob("checkpoint.pt"))


def test_ctrl_c_says_how_to_go_on(whole: tuple[Path, Answer], tmp_path: Path) -> None:
    process = start(tmp_path, "ablate", write(tmp_path, SPEC), *FLAGS)
    wait_for_line(process, "no se, seed 0:")
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "distilnas resume spec" in rest
    half = inside(tmp_path, "ablate", "show", "spec")
    assert half.status == 0
    assert "of 15 trainings are complete" in half.out
    assert "verdicts may still change" in half.out
    assert inside(tmp_path, "resume", "spec", *FLAGS).status == 0
    found, expected = rows(tmp_path), rows(whole[0])
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


PLANTED = """
epochs = 12
seeds = 4
teachers.scratch.epochs = 1
[baseline]
architecture = "digits-student"
teacher = "none"
[factors.training]
whole = { epochs = 12 }
"a fourth" = { epochs = 3 }
"""


@pytest.mark.slow
def test_a_planted_effect_is_found(tmp_path: Path) -> None:
    answer = inside(tmp_path, "ablate", write(tmp_path, PLANTED), *FLAGS, "--budget", "5KB")
    assert answer.status == 0, answer.err
    whole, fourth = inside(tmp_path, "ablate", "show", "spec", "--json").json["arms"]
    assert (whole["arm"], whole["verdict"]) == ("training=whole", "baseline")
    assert fourth["verdict"] == "worse"
    assert fourth["difference"] < 0


def test_a_search_s_winner_is_ablated_on_its_own_ground(tmp_path: Path) -> None:
    search = ("--trials", "2", "--epochs", "2", "--teacher-epochs", "1", "--budget", "6KB")
    assert inside(tmp_path, "search", "--name", "won", *search, *FLAGS).status == 0
    spec = write(tmp_path, '[baseline]\nstudy = "won"\n[factors]\nse = [0, 4]\n')
    plan = inside(tmp_path, "ablate", spec, "--dry-run", "--json", "--cache", "cache").json
    trials = inside(tmp_path, "show", "won", "--json").json["trials"]
    winner = max(trials, key=lambda trial: (trial["value"] or 0, -trial["number"]))
    ours = plan["arms"][0]["architecture"]["stages"]
    for mine, won in zip(ours, winner["architecture"]["stages"], strict=True):
        assert mine | {"width": 0} == won | {"width": 0}
    assert plan["arms"][0]["recipe"]["epochs"] == 2
    assert {arm["teacher"] for arm in plan["arms"]} == {"own"}
    assert all(0.9 < arm["budget_share"] <= 1 for arm in plan["arms"])
    missing = spec.replace("spec", "other")
    (tmp_path / missing).write_text('[baseline]\nstudy = "lost"\n[factors]\nse = [0, 4]\n')
    refused(inside(tmp_path, "ablate", missing, *FLAGS), "lost", "won")


def test_the_command_to_go_on_names_no_folder_of_new_studies(tmp_path: Path) -> None:
    """`--artifacts` is the folder of all studies to `ablate`, and one study's own to `resume`."""
    (tmp_path / "two.toml").write_text(TWO)
    flags = ("--artifacts", "files", "--cache", "cache", "--device", "cpu")
    answer = inside(tmp_path, "ablate", "two.toml", *flags)
    assert answer.status == 0, answer.err
    (again,) = (line for line in answer.out.splitlines() if "distilnas resume" in line)
    assert "--artifacts" not in again
    assert inside(tmp_path, *again.split()[1:]).status == 0


TWO = """\
data = "digits"
epochs = 1
seeds = 1
budget = "8KB"
recipe = "digits"
[baseline]
architecture = "digits-student"
teacher = "none"
[factors]
se = [0, 4]
"""
