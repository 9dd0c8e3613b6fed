"""The recipe and the storage format are searched with the architecture: [search] in the file."""

import json
import os
import signal
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import ROOT, inside, refused, rows, start, trials, wait_for_line
from tiny import one_thread  # noqa: F401

from dashboards.figures.importances import importances
from dashboards.figures.search import front
from dashboards.figures.trial import facts
from dashboards.filters import Filters
from dashboards.library import Library
from search.study.settings import resolve
from trainers import export
from trainers.ranges import Ranges, with_values
from trainers.recipe import RECIPES, Recipe

USUAL = ("--cache", "cache", "--device", "cpu")
CONFIG = """\
name = "s"
budget = "4KB"
space = "plain"
pruner = "none"
epochs = 2
teacher_epochs = 1
trials = 5

[search]
format = ["int8", "fp16"]
lr = { low = 0.02, high = 0.5, log = true }
batch = { low = 50, high = 70 }
temperature = [1, 2, 4, 8]
optimizer = ["sgd"]
mix = { low = 0.2, high = 0.8 }
augment.shift = [0.0, 0.1]
"""
WORDS = (
    "searched with the architecture: format int8 or fp16; mix 0.2 to 0.8; batch 50 to 70; "
    "lr 0.02 to 0.5 (logarithmic); temperature 1, 2, 4 or 8; augment.shift 0 or 0.1"
)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    (folder / "c.toml").write_text(CONFIG)
    answer = inside(folder, "search", "--config", "c.toml", *USUAL, "--finalists", "1")
    assert answer.status == 0, answer.err
    assert WORDS in answer.err
    return folder


def shown(folder: Path) -> list[dict[str, Any]]:
    found = inside(folder, "show", "s", "--json").json["trials"]
    assert found
    return list(found)


def recipe_of(values: dict[str, Any], seed: int = 0) -> Recipe:
    """The recipe of such a trial, put together by hand."""
    return RECIPES["digits"].with_settings(
        {
            "epochs": 2,
            "seed": seed,
            "lr": values["lr"],
            "batch": values["batch"],
            "temperature": values["temperature"],
            "phases": [[0, values["mix"]]],
            "augment": {"shift": values["augment.shift"]},
        }
    )


def check_file(file: Path, trial: dict[str, Any], seed: int = 0) -> None:
    """The file is in the trial's format, within the budget, and of the trial's recipe."""
    stored = export.read(file)
    assert stored.format == trial["searched"]["format"] == trial["format"]
    assert stored.metadata.recipe == recipe_of(trial["searched"], seed).fingerprint
    assert file.stat().st_size == trial["bytes"] <= 4_000


def test_every_trial_is_trained_and_stored_by_its_own_recipe(searched: Path) -> None:
    found = shown(searched)
    assert {trial["state"] for trial in found} == {"COMPLETE"}
    for trial in found:
        values, number = trial["searched"], trial["number"]
        assert 0.02 <= values["lr"] <= 0.5
        assert 0.2 <= values["mix"] <= 0.8
        assert values["batch"] in range(50, 71)
        assert values["temperature"] in (1, 2, 4, 8)
        assert values["augment.shift"] in (0, 0.1)
        assert "optimizer" not in values
        assert values["lr"] == trial["params_recipe_lr"]
        assert values["augment.shift"] == trial["params_recipe_augment_shift"]
        if trial["duplicate_of"] is None:
            check_file(searched / f"runs/s/trial{number:04d}/student.safetensors", trial)
    assert len({trial["searched"]["lr"] for trial in found}) == 5
    assert {trial["format"] for trial in found} == {"int8", "fp16"}


def test_finalists_keep_their_recipe_and_format(searched: Path) -> None:
    (final,) = inside(searched, "show", "s", "--json").json["finalists"]
    trial = shown(searched)[final["number"]]
    for seed in (1, 2, 3):
        place = f"runs/s/trial{final['number']:04d}/seed{seed}/student.safetensors"
        check_file(searched / place, trial, seed)
    assert inside(searched, "doctor", "s").status == 0


def test_it_is_shown_wherever_trials_are(searched: Path) -> None:
    table = inside(searched, "show", "s").out
    assert WORDS in table
    assert "budget 4 KB in int8 or fp16" in table
    assert "4 KB in int8 or fp16" in inside(searched, "studies").out
    trial = shown(searched)[0]
    own = f"lr {trial['searched']['lr']:.4g}, temperature {trial['searched']['temperature']}"
    one = inside(searched, "show", "s", "0").out
    assert f"searched      format {trial['format']}, mix " in one
    assert own in one
    library = Library(str(searched / "studies.db"))
    page = dict(facts(library.trial(1, 0)))
    assert own in page["searched"]
    assert "lr" not in page["architecture"]
    view = library.view(1, Filters.parse(""))
    assert own in front(view).data.set_index("trial")["architecture"][0]
    assert {"recipe_lr", "recipe_batch", "format"} <= {*importances(view).data["parameter"]}
    assert inside(searched, "report", "s", "--out", "page.html").status == 0
    assert WORDS in (searched / "page.html").read_text()


def test_an_ablation_takes_the_recipe_that_won(searched: Path) -> None:
    (final,) = inside(searched, "show", "s", "--json").json["finalists"]
    values = shown(searched)[final["number"]]["searched"]
    (searched / "a.toml").write_text('[baseline]\nstudy = "s"\n[factors]\nse = [0, 4]\n')
    plan = inside(searched, "ablate", "a.toml", "--dry-run", "--json", *USUAL).json
    baseline = plan["arms"][0]
    assert baseline["format"] == values["format"]
    assert baseline["recipe"]["lr"] == values["lr"]
    assert baseline["recipe"]["phases"] == [[0, values["mix"]]]
    assert baseline["recipe"]["augment"]["shift"] == values["augment.shift"]


def test_resume_goes_on_with_what_is_searched(searched: Path) -> None:
    """And the same command in another folder ends in the same numbers."""
    before = rows(searched)
    again = searched / "again"
    again.mkdir()
    (again / "c.toml").write_text(CONFIG.replace("trials = 5", "trials = 4"))
    flags = ("--cache", str(searched / "cache"), "--device", "cpu")
    assert inside(again, "search", "--config", "c.toml", *flags).status == 0
    assert inside(again, "resume", "s", "--trials", "1", *flags).status == 0
    pd.testing.assert_frame_equal(rows(again), before)
    (again / "c.toml").write_text(CONFIG.replace("0.5, log", "0.4, log"))
    answer = inside(again, "search", "--config", "c.toml", *flags)
    refused(answer, "exists with other settings", "ranges.lr.high", "0.5", "0.4")


def test_a_dry_run_lists_what_is_searched(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CONFIG)
    answer = inside(tmp_path, "search", "--config", "c.toml", "--dry-run", *USUAL)
    assert WORDS in answer.out
    assert "logits: computed for 2 augmentations" in answer.out
    assert "of 4 KB in int8 or fp16" in answer.out
    answer = inside(tmp_path, "search", "--config", "c.toml", "--dry-run", "--json", *USUAL)
    assert answer.json["searched"]["lr"] == {"low": 0.02, "high": 0.5, "log": True}
    assert answer.json["recipe"]["optimizer"] == "sgd"
    assert not (tmp_path / "studies.db").exists()


ONE_STUDENT = """\
name = "s"
teacher = "none"
budget = "4KB"
epochs = 1
trials = 2
sampler = "random"
[space]
base = "plain"
early = ["conv"]
late = ["conv"]
growths = [2.0]
depths = [1]
widths = [1.0]
kernels = [3]
se = [0]
residual = [false]
activations = ["relu"]
[search]
optimizer = ["sgd", "adam"]
lr = [0.05]
"""


def test_the_same_student_by_another_recipe_is_another_trial(tmp_path: Path) -> None:
    """The same by the same recipe is a duplicate, which is not trained; one value is fixed."""
    (tmp_path / "c.toml").write_text(ONE_STUDENT)
    answer = inside(tmp_path, "search", "--config", "c.toml", "--seed", "10", *USUAL)
    assert answer.status == 0, answer.err
    document = inside(tmp_path, "show", "s", "--json").json
    assert document["spec"]["recipe"]["lr"] == 0.05
    assert document["spec"]["ranges"] == {"optimizer": ["sgd", "adam"]}
    found = document["trials"]
    assert len({trial["fingerprint"] for trial in found}) == 1
    trained = {t["number"]: t["searched"] for t in found if t["duplicate_of"] is None}
    assert [*trained.values()] in (
        [{"optimizer": "sgd"}, {"optimizer": "adam"}],
        [{"optimizer": "adam"}, {"optimizer": "sgd"}],
    )
    copies = [trial for trial in found if trial["duplicate_of"] is not None]
    assert copies, "another seed would draw a duplicate"
    for trial in copies:
        assert trial["searched"] == trained[trial["duplicate_of"]]


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(searched: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CONFIG)
    flags = ("--cache", str(searched / "cache"), "--device", "cpu")
    process = start(tmp_path, "search", "--config", "c.toml", *flags)
    wait_for_line(process, "trial 1: epoch 1")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "RUNNING" in set(trials(tmp_path)["state"])
    assert inside(tmp_path, "resume", "s", *flags).status == 0
    pd.testing.assert_frame_equal(rows(tmp_path), rows(searched))


@pytest.mark.slow
def test_processes_train_by_each_trials_recipe(searched: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CONFIG)
    flags = ("--cache", str(searched / "cache"), "--device", "cpu", "--parallel", "2")
    assert inside(tmp_path, "search", "--config", "c.toml", "--prepare", *flags[:4]).status == 0
    answer = inside(tmp_path, "worker", "s", *flags)
    assert answer.status == 0, answer.err
    for trial in shown(tmp_path):
        if trial["duplicate_of"] is None:
            check_file(tmp_path / f"runs/s/trial{trial['number']:04d}/student.safetensors", trial)


WRONG = [
    ("colour = [1]", "search: unknown setting 'colour'; known: format, mix, switch, batch, "),
    ("augment.colour = [1]", "search: unknown setting 'augment.colour'; known: "),
    ("lr = { low = 0.2, high = 0.1 }", "search: lr must be a range whose low is below its high"),
    ("lr = { low = 0.1, high = 0.1 }", "low is below its high"),
    ("lr = { low = 0, high = 0.1, log = true }", "search: lr must be a range above 0 where log"),
    ("lr = { low = 0.1 }", "search: lr: setting 'high' is missing"),
    ("lr = { low = 0.1, high = 1, step = 2 }", "search: lr: unknown setting 'step'; known: low"),
    ("lr = { low = 'a', high = 1 }", "search: lr: low must be a whole number or a number"),
    ("lr = 0.1", "search: lr must be a list of values, or a table of low and high, but got 0.1"),
    ("lr = { low = -1.0, high = 0.1 }", "search: a trial may have lr -1, but lr must be above 0"),
    ("lr = { low = 1e-4, high = 0.1 }", "may have lr 0.0001, but lr_end must be from 0 to lr"),
    ("lr = { low = 0.1, high = inf }", "may have lr inf, but lr must be finite"),
    ("lr = []", "search: lr must be a list of 1 to 16 different values, but got []"),
    ("lr = [0.1, 0.1]", "1 to 16 different values"),
    ("lr = ['fast', 'slow']", "may have lr fast, but recipe: lr must be a number, but got 'fast'"),
    ("lr = [2020-01-01, 0.1]", "recipe: lr must be a number"),
    ("batch = { low = 0.5, high = 8 }", "search: batch must be from one whole number to another"),
    ("batch = { low = 1, high = 8 }", "may have batch 1, but batch must be at least 2 images"),
    ("optimizer = ['sgd', 'lion']", "may have optimizer lion, but optimizer must be one of sgd"),
    ("optimizer = { low = 1, high = 2 }", "search: optimizer must be a list of values, but got"),
    ("schedule = ['step', 'cosine']\nlr_end = [0.0, 0.01]", "may have lr_end 0, schedule step"),
    ("warmup = { low = 0.0, high = 1.0 }", "warmup must be from 0 to below 1"),
    ("format = ['int8', 'int3']", "storage format must be one of fp32, fp16, int8"),
    ("format = [8]", "search: format must be a list of storage formats, but got 8"),
    ("epochs = [10, 20]", "search: epochs cannot be searched: the pruner compares"),
    ("seed = [1, 2]", "search: seed cannot be searched: the best of many seeds is luck"),
    ("view_seed = [1, 2]", "search: view_seed cannot be searched: the teacher's logits"),
    ("augment.flip = { low = 0, high = 1 }", "search: augment.flip must be a list, not a range"),
    ("switch = [0.0, 0.5]", "may have switch 0, but switch must be above 0, up to 1"),
]


@pytest.mark.parametrize(("table", "words"), WRONG, ids=[table for table, _ in WRONG])
def test_what_cannot_be_searched_is_one_line(tmp_path: Path, table: str, words: str) -> None:
    (tmp_path / "c.toml").write_text(f"[search]\n{table}\n")
    refused(inside(tmp_path, "search", "--config", "c.toml", *USUAL), words)
    assert not [*tmp_path.glob("*.db"), *tmp_path.glob("cache/*")]


def test_what_contradicts_the_table_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[search]\nformat = ['int8', 'fp16']\n")
    answer = inside(tmp_path, "search", "--config", "c.toml", "--format", "fp32")
    refused(answer, "format must be stated once", "[search]")
    (tmp_path / "c.toml").write_text("[search]\ntemperature = [1, 4]\n")
    answer = inside(tmp_path, "search", "--config", "c.toml", "--teacher", "none")
    refused(answer, "search: temperature needs a teacher")


def test_what_changes_views_may_be_a_range_where_no_teacher_sees_them(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        "teacher = 'none'\n[search]\naugment.mixup = { low = 0, high = 1 }\n"
    )
    settings = resolve(tmp_path / "c.toml", {})
    assert settings.searched.to_dict() == {"augment.mixup": {"low": 0.0, "high": 1.0}}


def test_a_teacher_is_trained_where_some_recipe_listens() -> None:
    table = {"phases": [[[0, 0]], [[0, 0.5], [0.6, 0]]]}
    assert resolve(None, {"search": table, "recipe": {"phases": [[0, 0]]}}).needs_teacher
    hard = {"search": {"lr": [0.1, 0.2]}, "recipe": {"phases": [[0, 0]]}}
    assert not resolve(None, hard).needs_teacher


def test_the_readmes_example(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    table = text[text.index("    [search]\n") :].split("\n\n")[0]
    (tmp_path / "c.toml").write_text(textwrap.dedent(table))
    searched = resolve(tmp_path / "c.toml", {}).searched
    augmented = ["augment.flip", "augment.cutmix"]
    assert [*searched.settings] == ["format", "lr", "temperature", *augmented]
    assert searched.formats == ("int8", "fp16")


def test_there_and_back_through_json_and_a_trials_parameters() -> None:
    table = {
        "phases": [[[0, 0.5]], [[0, 0.5], [0.6, 0]]],
        "augment": ["none", {"flip": 0.5}],
        "lr": {"low": 0.01, "high": 1},
        "format": ["fp16", "int8"],
    }
    ranges = Ranges.from_dict(table)
    assert Ranges.from_dict(json.loads(json.dumps(ranges.to_dict()))).words == ranges.words
    labels = {
        "recipe_phases": "[[0, 0.5], [0.6, 0]]",
        "recipe_augment": '{"flip": 0.5}',
        "recipe_lr": 0.25,
        "format": "int8",
    }
    values = ranges.meant(labels)
    recipe = with_values(RECIPES["default"], values)
    assert recipe.phases == ((0, 0.5), (0.6, 0))
    assert recipe.augment.flip == 0.5
    assert recipe.lr == 0.25
