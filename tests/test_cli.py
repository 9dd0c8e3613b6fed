"""The command line from outside: what it does, and what it says to wrong input."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import optuna
import pytest
from commands import SMALL, Answer, distilnas, inside, refused

from search.cli.main import cli
from search.database import table
from search.database.engine import open_engine
from space import count
from space.architecture import Architecture
from space.summary import summary


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """A small search on the digits with two finalists, its answer as JSON."""
    folder = tmp_path_factory.mktemp("searched")
    answer = distilnas(folder, "search", *SMALL, "--finalists", "1", "--json")
    assert answer.status == 0, answer.err
    return folder, answer


def test_search_writes_a_file_within_its_budget(searched: tuple[Path, Answer]) -> None:
    folder, answer = searched
    size = (folder / "runs/s/best.safetensors").stat().st_size
    assert answer.json["file"]["bytes"] == size
    assert 0.95 * 20_000 <= size <= 20_000


def test_the_row_is_what_the_file_scores(searched: tuple[Path, Answer]) -> None:
    from trainers import export
    from trainers.data.datasets import load
    from trainers.engine.evaluation import choose_device, evaluate

    folder, answer = searched
    best = answer.json["best"][0]
    path = folder / f"runs/s/trial{best['number']:04d}/student.safetensors"
    data = load("digits", cache=folder / "cache")
    accuracy = evaluate(export.read(path).model, data.validation, choose_device("cpu"))
    assert accuracy == best["value"] == best["file_accuracy"]
    assert path.stat().st_size == best["bytes"]


def test_finalists_are_three_further_seeds(searched: tuple[Path, Answer]) -> None:
    folder, answer = searched
    (finalist,) = answer.json["finalists"]
    assert finalist["seeds"] == [1, 2, 3]
    assert finalist["mean"] == pytest.approx(sum(finalist["accuracies"]) / 3)
    files = [folder / f"runs/s/trial{finalist['number']:04d}/seed{k}" for k in (1, 2, 3)]
    best = max(range(3), key=lambda k: finalist["accuracies"][k])
    chosen = (files[best] / "student.safetensors").read_bytes()
    assert (folder / "runs/s/best.safetensors").read_bytes() == chosen


def test_resume_adds_trials_and_keeps_the_rest(
    searched: tuple[Path, Answer], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"  # a study may move with its folder
    shutil.copytree(searched[0], folder)
    before = table.trials(open_engine(str(folder / "studies.db")), "s")
    assert distilnas(folder, "resume", "s", "--trials", "1", "--cache", "cache").status == 0
    after = table.trials(open_engine(str(folder / "studies.db")), "s")
    assert len(after) >= len(before) + 1
    assert after["value"].head(len(before)).equals(before["value"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--budget", "30KB"), ("20 KB", "30 KB")),
        (("--epochs", "9"), ("3", "9")),
        (("--space", "plain"), ("mixed", "plain")),
    ],
)
def test_resume_refuses_another_spec(
    searched: tuple[Path, Answer], arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    refused(inside(searched[0], "resume", "s", "--cache", "cache", *arguments), *words)


def test_a_taken_name_prints_the_difference(searched: tuple[Path, Answer]) -> None:
    answer = inside(searched[0], "search", *SMALL, "--budget", "40KB")
    refused(answer, "exists with other settings", "20000", "40000")
    refused(inside(searched[0], "search", *SMALL), "distilnas resume s")


def test_optuna_opens_the_database(searched: tuple[Path, Answer]) -> None:
    url = f"sqlite:///{searched[0] / 'studies.db'}"
    study = optuna.load_study(study_name="s", storage=url)
    frame = table.trials(open_engine(str(searched[0] / "studies.db")), "s")
    assert len(study.trials) == len(frame)
    for trial, (_, row) in zip(study.trials, frame.iterrows(), strict=True):
        assert trial.state.name == row["state"]
        assert trial.value == row["value"]
        assert trial.user_attrs["architecture"] == row["architecture"]
        # Stored, not read from the words, which only rows of earlier versions are.
        short = summary(Architecture.from_dict(trial.user_attrs["architecture"]))._asdict()
        assert trial.user_attrs["summary"] == short == dict(row[list(short)])
        assert {name: row[f"params_{name}"] for name in trial.params} == trial.params
        steps = sorted(trial.intermediate_values)
        assert [trial.intermediate_values[k] for k in steps] == row["accuracies"]
    optuna.visualization.plot_optimization_history(study)
    optuna.visualization.plot_intermediate_values(study)
    optuna.visualization.plot_slice(study)
    assert study.best_value == frame["value"].max()


def test_the_file_alone_is_enough(searched: tuple[Path, Answer], tmp_path: Path) -> None:
    shutil.copy(searched[0] / "runs/s/best.safetensors", tmp_path / "s.safetensors")
    tested = distilnas(tmp_path, "test", "s.safetensors", "--data", "digits", "--json")
    assert tested.json["images"] == 359
    assert 0.1 < tested.json["accuracy"] <= 1
    from PIL import Image

    Image.new("L", (20, 20), 128).save(tmp_path / "grey.png")
    predicted = distilnas(tmp_path, "predict", "s.safetensors", "grey.png", "--top", "10", "--json")
    (document,) = predicted.json
    assert sum(guess["probability"] for guess in document["classes"]) == pytest.approx(1, abs=1e-4)
    sized = distilnas(tmp_path, "size", "s.safetensors", "--json")
    assert sized.json["bytes"]["int8"] == (tmp_path / "s.safetensors").stat().st_size


@pytest.mark.parametrize("format", ["int8", "fp16", "fp32"])
def test_export(searched: tuple[Path, Answer], tmp_path: Path, format: str) -> None:
    out = tmp_path / "out.safetensors"
    answer = inside(searched[0], "export", "s", "--format", format, "--out", str(out), "--json")
    assert answer.json == {"file": str(out), "bytes": out.stat().st_size, "format": format}


def test_views_are_json_or_tables(searched: tuple[Path, Answer]) -> None:
    folder = searched[0]
    (study,) = inside(folder, "studies", "--json").json
    assert study["name"] == "s"
    assert study["trials"] >= 3
    shown = inside(folder, "show", "s", "--json").json
    assert len(shown["trials"]) == study["trials"]
    trial = inside(folder, "show", "s", "0", "--json").json
    assert sum(layer["parameters"] for layer in trial["layers"]) == trial["params"]
    assert sum(layer["macs"] for layer in trial["layers"]) == trial["macs"]
    assert "head.fc" in inside(folder, "show", "s", "0").out
    assert "finalist" not in inside(folder, "show", "s").err


def test_dry_run_trains_nothing(tmp_path: Path) -> None:
    answer = inside(tmp_path, "search", "--dry-run", "--cache", "cache", "--json")
    assert len(answer.json["shares"]) == 200
    assert max(answer.json["shares"]) <= 1
    assert not (tmp_path / "studies.db").exists()
    assert not (tmp_path / "runs").exists()


def test_dry_run_says_what_students_cost(tmp_path: Path) -> None:
    flags = (
        *("--space", "pyramid", "--budget", "30KB", "--ram", "5KB", "--epochs", "3"),
        *("--trials", "4", "--teacher", "none", "--device", "cpu", "--cache", "cache"),
    )
    answer = inside(tmp_path, "search", "--dry-run", *flags, "--json")
    document = answer.json
    cheapest, median, dearest = document["costs"].values()
    assert list(document["costs"]) == ["cheapest", "median", "dearest"]
    assert cheapest["macs"] < median["macs"] < dearest["macs"] <= 10 * median["macs"]
    assert document["remark"] is None
    for cost in document["costs"].values():
        network = Architecture.from_dict(cost["architecture"])
        assert cost["macs"] == count.macs(network, 8)
        assert cost["ram"] == count.activation_peak(network, 8) <= 5_000
        assert cost["cost"] <= 30_000
        assert cost["seconds"] == pytest.approx(3 * cost["seconds_per_epoch"])
    assert document["seconds"] == pytest.approx(4 * median["seconds"])


UNEVEN = """\
[space]
base = "plain"
early = ["conv"]
late = ["conv"]
depths = [1]
growths = [3.0]
widths = [0.01, 1.0, 1.1]
kernels = [3]
placings = ["late"]
"""


def test_dry_run_warns_of_students_that_cost_far_more_than_most(
    tmp_path: Path, make_folder: Callable[[Path, Mapping[str, int]], Path]
) -> None:
    make_folder(
        tmp_path / "photos",
        {f"{where}/{{}}.jpg": 8 for where in ("train/a", "train/b", "val/a", "val/b")},
    )
    (tmp_path / "c.toml").write_text(UNEVEN)
    flags = (
        *("search", "--config", "c.toml", "--data", "photos", "--size", "32", "--dry-run"),
        *("--teacher", "none", "--device", "cpu", "--cache", "cache"),
    )
    answer = inside(tmp_path, *flags)
    assert all(f"\n {name} " in answer.out for name in ("cheapest", "median", "dearest"))
    assert "for 16 trials of " in answer.out
    assert "each as the median, one after the other, none stopped early" in answer.out
    (told,) = [line for line in answer.out.splitlines() if "--macs" in line]
    assert told.startswith("warning: the dearest student takes 1")
    limit = int(told.split("--macs ")[1].split()[0])
    limited = inside(tmp_path, *flags, "--macs", str(limit), "--json").json
    assert limited["costs"]["dearest"]["macs"] <= limit
    assert limited["remark"] is None


def test_flags_override_the_config(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('budget = "30KB"\ntrials = 7\n[recipe]\nlr = 0.05\n')
    answer = inside(
        tmp_path, "search", "--config", "c.toml", "--trials", "2", "--dry-run", "--json"
    )
    assert answer.json["budget"]["limit"] == 30_000
    assert answer.json["settings"]["trials"] == 2
    assert answer.json["recipe"]["lr"] == 0.05


WRONG = [
    (("search", "--budget", "300"), ("unit", "300KB")),
    (("search", "--budget", "-1MB"), ("more than 0",)),
    (("search", "--budget", "abc"), ("number and a unit",)),
    (("search", "--budget", "500B"), ("cannot be met", "takes")),
    (("search", "--format", "fp8"), ("fp16",)),
    (("search", "--space", "huge"), ("mixed",)),
    (("search", "--sampler", "magic"), ("tpe",)),
    (("search", "--pruner", "magic"), ("halving",)),
    (("search", "--recipe", "magic"), ("report-sgd",)),
    (("search", "--device", "tpu"), ("cpu",)),
    (("search", "--trials", "0"), ("at least 1",)),
    (("search", "--epochs", "0"), ("at least 1",)),
    (("search", "--parallel", "0"), ("--parallel must be at least 1", "auto", "'0'")),
    (("search", "--workers", "0"), ("--parallel must be at least 1", "auto", "'0'")),
    (("search", "--workers", "-2"), ("at least 1", "auto", "'-2'")),
    (("search", "--workers", "many"), ("at least 1", "auto", "'many'")),
    (("search", "--config", "workers.toml"), ("workers", "a whole number or text", "2.5")),
    (("resume", "nowhere", "--workers", "0"), ("at least 1", "auto")),
    (("search", "--size", "2"), ("4",)),
    (("search", "--name", "../x"), ("letters",)),
    (("search", "--name", ""), ("letters",)),
    (("search", "--data", "nowhere"), ("nowhere",)),
    (("search", "--data", "empty"), ("training split",)),
    (("search", "--teacher", "nowhere.pt"), ("nowhere.pt",)),
    (("search", "--teacher", "text.db"), ("text",)),
    (("search", "--storage", "text.db"), ("SQLite",)),
    (("search", "--storage", "empty"), ("empty",)),
    (("search", "--storage", "nonsense://x"), ("nonsense",)),
    (("search", "--config", "nowhere.toml"), ("nowhere.toml",)),
    (("search", "--config", "text.db"), ("TOML",)),
    (("search", "--config", "key.toml"), ("colour", "budget")),
    (("search", "--config", "type.toml"), ("trials", "a whole number")),
    (("search", "--no-such-flag"), ("--no-such-flag",)),
    (("resume", "nowhere"), ("does not exist", "distilnas search")),
    (("show", "nowhere"), ("does not exist",)),
    (("studies", "--storage", "text.db"), ("text.db",)),
    (("test", "text.db", "--data", "digits"), ("text.db",)),
    (("predict", "nowhere.safetensors", "x.png"), ("nowhere.safetensors",)),
    (("size", "groups.json"), ("groups must divide",)),
    (("size", "nothing"), ("ntu-ml2020",)),
    (("teacher", "train", "--network", "resnet17"), ("resnet18",)),
    (("nonsense",), ("nonsense",)),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=lambda value: " ".join(value))
def test_wrong_input_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.db").write_text("this is no database\n" * 20)
    (tmp_path / "key.toml").write_text('colour = "red"\n')
    (tmp_path / "workers.toml").write_text("workers = 2.5\n")
    (tmp_path / "type.toml").write_text('trials = "many"\n')
    stage = {"width": 10, "block": "group", "groups": 4}
    document = {"schema": 1, "classes": 2, "stem": {"width": 6}, "stages": [stage]}
    (tmp_path / "groups.json").write_text(json.dumps(document))
    cache = ("--cache", "cache") if arguments[0] in ("search", "resume", "test") else ()
    refused(inside(tmp_path, *arguments, *cache), *words)
    assert (tmp_path / "text.db").read_text().startswith("this is no database")
    assert not (tmp_path / "studies.db").exists()


def test_a_database_password_is_never_shown(tmp_path: Path) -> None:
    url = "postgresql+psycopg://user:verysecret@127.0.0.1:9/studies"
    for arguments in (("search", "--cache", "cache"), ("studies",), ("show", "x")):
        answer = inside(tmp_path, *arguments, "--storage", url)
        refused(answer, "cannot be used")
        assert "verysecret" not in answer.err + answer.out


def test_every_command_and_option_is_explained() -> None:
    import click

    readme = (Path(__file__).parents[1] / "README.md").read_text()

    def check(command: click.Command, path: str) -> None:
        assert command.help, path
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{path} {option.name}"
        if isinstance(command, click.Group):
            for name, child in command.commands.items():
                check(child, f"{path} {name}")
        else:
            first = path.split()[1]
            assert f"distilnas {first}" in readme, path

    check(cli, "distilnas")
