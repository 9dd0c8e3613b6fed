"""Photographs without labels in a search and an ablation, and CutMix: by the commands alone."""

import json
import os
import signal
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import Answer, distilnas, inside, refused, rows, start, trials, wait_for_line

COUNTS = {f"{split}/{name}/{{}}.jpg": 8 for split in ("train", "val") for name in ("a", "b")}
PLACE = ("--cache", "cache", "--device", "cpu")
SEARCH = (
    *("search", "--data", "photos", "--size", "8", "--name", "s", "--trials", "2"),
    *("--epochs", "3", "--teacher", "teacher-small", "--teacher-epochs", "1", "--budget", "6KB"),
    *("--pruner", "none", "--sampler", "random", *PLACE),
)
# A second `--teacher` would be one more teacher.
UNTAUGHT = tuple("none" if word == "teacher-small" else word for word in SEARCH)
WITH = ("--unlabelled", "more")
TOML = """\
question = "Do photographs without labels earn anything?"
data = "photos"
unlabelled = "more"
size = 8
budget = "8KB"
seeds = 1
epochs = 2

[baseline]
architecture = "digits-student"

[teachers.small]
network = "teacher-small"
epochs = 1

[factors]
"""
Make = Callable[[Path, Mapping[str, int]], Path]


@pytest.fixture
def folder(tmp_path: Path, make_folder: Make, make_photograph: Callable[..., Path]) -> Path:
    """A folder with `photos` of two classes and `more` without any, in two depths."""
    make_folder(tmp_path / "photos", COUNTS)
    for number in range(12):
        place = f"more/{'deep/er/' if number % 2 else ''}{number}.jpg"
        make_photograph(tmp_path / place, 100 + number)
    return tmp_path


def spec_of(folder: Path, name: str = "s") -> dict[str, Any]:
    with sqlite3.connect(folder / "studies.db") as connection:
        (text,) = connection.execute(
            "SELECT value_json FROM study_user_attributes JOIN studies USING (study_id) "
            "WHERE key = 'spec' AND study_name = ?",
            (name,),
        ).fetchone()
    found: dict[str, Any] = json.loads(text)
    return found


def rows_in_banks(folder: Path) -> set[int]:
    """Of two logits of two bytes each, behind a seal of 32."""
    files = (folder / "cache" / "banks").glob("*/*.bin")
    return {(file.stat().st_size - 32) // 4 for file in files}


def test_a_search_learns_from_them(folder: Path) -> None:
    answer = inside(folder, *SEARCH, *WITH)
    assert answer.status == 0, answer.err
    assert "16 images to train on, 12 without labels, 16 to validate on" in answer.err
    assert rows_in_banks(folder) == {16 + 12}
    spec = spec_of(folder)
    assert len(spec["unlabelled"]) == 12
    assert spec["unlabelled_source"] == str((folder / "more").resolve())
    # The same without them: neither its settings nor the teacher know of them.
    plain = inside(folder, *SEARCH, "--name", "plain")
    assert plain.status == 0, plain.err
    assert "without labels" not in plain.err
    told = spec_of(folder, "plain")
    assert told.keys() == spec.keys() - {"unlabelled", "unlabelled_source"}
    assert told["teacher"] == spec["teacher"]
    assert len(list((folder / "cache" / "teachers").glob("*.pt"))) == 1
    assert rows_in_banks(folder) == {16, 16 + 12}
    curves = [list(trials(folder, name)["value"]) for name in ("s", "plain")]
    assert all(len(curve) >= 2 for curve in curves)
    # Another folder of the same name is another study, and the name is taken.
    (folder / "more" / "0.jpg").unlink()
    refused(inside(folder, *SEARCH, *WITH), "exists with other settings", "unlabelled")


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(folder: Path) -> None:
    """Beside, the photographs have moved: `resume` is told where they are."""
    longer = (*SEARCH, *WITH, "--epochs", "8")
    killed = folder / "killed"
    killed.mkdir()
    for name in ("photos", "more"):
        (killed / name).symlink_to(folder / name)
    with start(killed, *longer) as process:
        wait_for_line(process, "trial 0: epoch 2")
        os.killpg(process.pid, signal.SIGKILL)
    (folder / "more").rename(folder / "moved")
    refused(inside(killed, "resume", "s", *PLACE), "unlabelled must be a folder", "nothing there")
    again = distilnas(killed, "resume", "s", *PLACE, "--unlabelled", str(folder / "moved"))
    assert again.status == 0, again.err
    assert "12 without labels" in again.err
    whole = inside(folder, *SEARCH, "--epochs", "8", "--unlabelled", "moved")
    assert whole.status == 0, whole.err
    pd.testing.assert_frame_equal(rows(killed), rows(folder))
    best = "runs/s/best.safetensors"
    assert (killed / best).read_bytes() == (folder / best).read_bytes()


def test_workers_have_them_too(folder: Path) -> None:
    prepared = inside(folder, *SEARCH, *WITH, "--prepare")
    assert prepared.status == 0, prepared.err
    (folder / "more").rename(folder / "moved")
    joined = inside(folder, "worker", "s", *PLACE, "--unlabelled", "moved", "--parallel", "1")
    assert joined.status == 0, joined.err
    assert list(trials(folder)["state"]) == ["COMPLETE"] * 2
    assert rows_in_banks(folder) == {16 + 12}
    (folder / "moved" / "0.jpg").unlink()
    resume = ("resume", "s", "--trials", "1", *PLACE, "--unlabelled", "moved")
    refused(inside(folder, *resume), "made with other photographs without labels", "moved")


def test_a_dry_run_counts_and_compares_them(folder: Path) -> None:
    (folder / "more" / "copy.jpg").write_bytes((folder / "photos/val/a/0.jpg").read_bytes())
    (folder / "more" / "notes.txt").write_text("none")
    answer = inside(folder, *SEARCH, *WITH, "--dry-run", "--json")
    assert answer.status == 0, answer.err
    assert "13 without labels" in answer.err
    assert "1 of 14 files is left out" in answer.err
    survey = answer.json["survey"]
    assert survey["unlabelled"] == 13
    assert answer.json["settings"]["unlabelled"] == "more"
    (twin,) = (remark for remark in survey["remarks"] if "without labels" in remark)
    assert twin.startswith("1 photograph of the validation split is also among those")
    planned = ablate(folder, TOML + "se = [0, 8]\n", "--dry-run")
    assert planned.status == 0, planned.err
    assert "13 photographs without labels to train on" in planned.out
    assert twin in planned.out


WRONG: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no such folder": (("--unlabelled", "nowhere"), ("nowhere", "nothing there")),
    "a file": (("--unlabelled", "photos/train/a/0.jpg"), ("0.jpg", "a file")),
    "no photograph": (("--unlabelled", "empty"), ("empty", "holds none", "notes.txt")),
    "no folder": (("--unlabelled", ""), ("unlabelled must be a folder",)),
    "digits": ((*WITH, "--data", "digits"), ("images of one channel",)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_refused(folder: Path, wrong: str) -> None:
    (folder / "empty").mkdir()
    (folder / "empty" / "notes.txt").write_text("no photograph")
    flags, words = WRONG[wrong]
    refused(inside(folder, *SEARCH, *flags), *words)
    assert not (folder / "studies.db").exists()


def test_without_a_teacher_they_are_refused(folder: Path) -> None:
    refused(inside(folder, *UNTAUGHT, *WITH), "need a teacher", "more")
    assert not (folder / "studies.db").exists()


def configured(folder: Path, text: str, *flags: str, search: tuple[str, ...] = SEARCH) -> Answer:
    (folder / "s.toml").write_text(text)
    return inside(folder, *search, "--config", "s.toml", *flags)


def test_settings_in_a_file(folder: Path) -> None:
    hard = 'unlabelled = "more"\n[recipe]\nphases = [[0, 0]]\n'
    refused(configured(folder, hard), "need a teacher and a recipe with a soft share")
    mixed = (
        'unlabelled = "more"\n[recipe]\naugment.mix_probability = 0.7\n'
        "[search]\naugment.cutmix = [0.0, 1.0]\n"
    )
    answer = configured(folder, mixed, "--trials", "3")
    assert answer.status == 0, answer.err
    drawn = trials(folder)
    assert set(drawn["params_recipe_augment_cutmix"]) <= {0.0, 1.0}
    assert spec_of(folder)["recipe"]["augment"]["mix_probability"] == 0.7
    assert len(list((folder / "cache" / "banks").iterdir())) == len(
        set(drawn["params_recipe_augment_cutmix"])
    )
    assert rows_in_banks(folder) == {16 + 12}


def test_a_range_of_cutmix_is_searched_without_a_teacher(folder: Path) -> None:
    ranged = "[search]\naugment.cutmix = { low = 0.1, high = 2.0 }\n"
    refused(configured(folder, ranged), "augment.cutmix must be a list")
    answer = configured(folder, ranged, search=UNTAUGHT)
    assert answer.status == 0, answer.err
    assert trials(folder)["params_recipe_augment_cutmix"].between(0.1, 2.0).all()


def ablate(folder: Path, text: str, *flags: str) -> Answer:
    (folder / "a.toml").write_text(text)
    return inside(folder, "ablate", "a.toml", "--name", "a", *PLACE, *flags)


def test_an_ablation_says_what_they_earn(folder: Path) -> None:
    factors = "unlabelled = [true, false]\naugment.cutmix = [0, 1]\n"
    answer = ablate(folder, TOML + factors, "--json")
    assert answer.status == 0, answer.err
    assert "12 without labels" in answer.err
    assert str(folder / "more") in answer.err  # in the plan's words
    spec = spec_of(folder, "a")
    arms = {arm["name"]: arm for arm in spec["arms"]}
    assert [arm.get("labelled_only", False) for arm in arms.values()] == [False, True, False]
    assert [arm["recipe"]["augment"].get("cutmix", 0) for arm in arms.values()] == [0, 0, 1]
    assert rows_in_banks(folder) == {16, 16 + 12}
    found = trials(folder, "a")
    assert list(found["state"]) == ["COMPLETE"] * 3
    more = inside(folder, "resume", "a", "--seeds", "2", *PLACE)
    assert more.status == 0, more.err
    assert list(trials(folder, "a")["state"]) == ["COMPLETE"] * 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TOML + "teacher = ['none']\nse = [0, 8]\n", ()),
        (TOML.replace('unlabelled = "more"\n', "") + "unlabelled = [true, false]\n", ("add:",)),
        (TOML + "unlabelled = [1, 0]\n", ("true or false",)),
        (
            TOML.replace("[baseline]\n", '[baseline]\nteacher = "none"\n') + "se = [0, 8]\n",
            ("need a teacher", "more"),
        ),
    ],
)
def test_what_an_ablation_refuses(folder: Path, text: str, words: tuple[str, ...]) -> None:
    answer = ablate(folder, text, "--dry-run")
    if words:
        refused(answer, *words)
    else:
        assert answer.status == 0, answer.err
