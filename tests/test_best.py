"""`distilnas best`: the user's first question, as it is typed."""

import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from commands import inside, refused
from members import quick_train
from statsmodels.stats.proportion import proportion_confint
from test_databases import close
from test_search_ties import tie

from search.database.storage import open_storage
from search.study.ranking import FURTHER_SEEDS, wilson

HERE = ("--cache", "cache", "--device", "cpu")
SEARCH = (
    *("search", "--trials", "4", "--epochs", "1", "--pruner", "none", "--teacher", "none"),
    *HERE,
)
PLAN = """
data = "digits"
budget = "5KB"
epochs = 2
seeds = 2
[baseline]
architecture = "digits-student"
teacher = "none"
[factors]
budget = ["5KB", "3KB"]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Searches of students of 4 and 12 KB, one with finalists, an ablation, a stranger's study."""
    place = tmp_path_factory.mktemp("best")
    (place / "plan.toml").write_text(PLAN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.training.objective.train", quick_train)
        for arguments in (
            (*SEARCH, "--name", "s", "--budget", "12KB"),
            (*SEARCH, "--name", "small", "--budget", "4KB"),
            (*SEARCH, "--name", "final", "--finalists", "2"),
            (*SEARCH, "--name", "waiting", "--prepare"),
            ("ablate", "plan.toml", *HERE, "--name", "arms"),
        ):
            answer = inside(place, *arguments)
            assert answer.status == 0, answer.err
    storage = open_storage(str(place / "studies.db"), create=False)
    optuna.create_study(storage=storage, study_name="strange").add_trials([])
    return place


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def complete(folder: Path, name: str) -> list[dict[str, Any]]:
    """Students of a study as `show --json` tells them, the best first by the rule of ties."""
    rows = inside(folder, "show", name, "--json").json["trials"]
    done = [r for r in rows if r["state"] == "COMPLETE" and r["duplicate_of"] is None]
    return sorted(done, key=lambda r: (-r["value"], r["bytes"], r["number"]))


def test_the_best_in_one_line(made: Path) -> None:
    best = complete(made, "s")[0]
    answer = inside(made, "best", "s")
    assert answer.status == 0, answer.err
    low, high = proportion_confint(round(best["value"] * 359), 359, method="wilson")
    words = (
        f"s: trial {best['number']}, {best['value']:.1%} [{100 * low:.1f}, {100 * high:.1f}] "
        f"on 359 validation images, {best['bytes']:,} bytes, "
    )
    assert answer.out.startswith(words)
    file = f"runs/s/trial{best['number']:04d}/student.safetensors"
    assert answer.out.endswith(f" MACs, {file}\n")
    assert answer.out.count("\n") == 1
    told = inside(made, "best", "s", "--json").json
    same = {"trial": "number", "accuracy": "value", "bytes": "bytes", "macs": "macs"}
    assert {key: told[key] for key in same} == {key: best[own] for key, own in same.items()}
    assert (told["images"], told["low"], told["high"]) == (
        359,
        pytest.approx(low),
        pytest.approx(high),
    )
    assert (told["study"], told["file"]) == ("s", file)


def test_the_interval_is_wilson_s() -> None:
    for right, count in ((0, 10), (5, 10), (10, 10), (350, 359), (1, 2)):
        expected = proportion_confint(right, count, method="wilson")
        assert wilson(right / count, count) == pytest.approx(expected)


@pytest.mark.parametrize("limit", [3_000, 3_700, 4_000, 11_800, 12_000])
def test_it_fits_and_is_copied(made: Path, tmp_path: Path, limit: int) -> None:
    for name in ("s", "small"):
        out = tmp_path / name / "student.safetensors"
        answer = inside(made, "best", name, "--max", f"{limit}B", "--out", str(out), "--json")
        fitting = [row for row in complete(made, name) if row["bytes"] <= limit]
        if not fitting:
            smallest = min(row["bytes"] for row in complete(made, name))
            refused(answer, f"at most {limit:,} bytes", f"takes {smallest:,}", "raise --max")
            assert not out.parent.exists()
            continue
        best = fitting[0]
        assert (answer.json["trial"], answer.json["file"]) == (best["number"], str(out))
        own = made / f"runs/{name}/trial{best['number']:04d}/student.safetensors"
        assert out.read_bytes() == own.read_bytes()
        assert len(out.read_bytes()) == best["bytes"]
        assert list(out.parent.iterdir()) == [out]  # nothing half written


def test_of_equals_the_smaller_then_the_earlier(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.training.objective.train", quick_train)
        inside(folder, *SEARCH, "--storage", "tied.db", "--name", "s")
    smallest = tie(folder / "tied.db")
    told = inside(folder, "best", "s", "--storage", "tied.db", "--json").json
    assert told["trial"] == smallest


def test_a_finalist_is_the_one_that_the_search_ships(made: Path, tmp_path: Path) -> None:
    told = inside(made, "best", "final", "--out", str(tmp_path / "o"), "--json").json
    shown = inside(made, "show", "final", "--json").json["finalists"][0]
    assert (told["trial"], told["mean"]) == (shown["number"], shown["mean"])
    assert told["seed"] in FURTHER_SEEDS
    assert told["accuracy"] == max(shown["accuracies"])
    assert told["images"] == 359
    assert (tmp_path / "o").read_bytes() == (made / "runs/final/best.safetensors").read_bytes()


def test_an_ablation_s(made: Path) -> None:
    told = inside(made, "best", "arms", "--max", "3KB", "--json").json
    fitting = [row for row in complete(made, "arms") if row["bytes"] <= 3_000]
    assert (told["trial"], told["arm"]) == (fitting[0]["number"], "budget=3KB")
    assert (told["accuracy"], told["images"]) == (fitting[0]["value"], 359)
    assert Path(made / told["file"]).exists()


def test_of_several_studies(made: Path) -> None:
    both = [(row["value"], name) for name in ("s", "small") for row in complete(made, name)]
    told = inside(made, "best", "s", "small", "s", "--json").json
    assert (told["accuracy"], told["study"]) == max(both)
    assert inside(made, "best", "s", "small", "--max", "4KB", "--json").json["study"] == "small"
    smallest = min(row["bytes"] for row in complete(made, "small"))
    refused(inside(made, "best", "s", "small", "--max", "1KB"), f"{smallest:,}", "'small'")


def test_studies_of_other_data_are_not_compared(folder: Path) -> None:
    storage = open_storage(str(folder / "studies.db"), create=False)
    identity = storage.get_study_id_from_name("small")
    spec = storage.get_study_user_attrs(identity)["spec"]
    moved = {"data": spec["data"], "source": "/elsewhere"}
    larger = {"data": "another", "source": spec["source"], "size": spec["size"] + 2}
    for same in (moved, larger):
        storage.set_study_user_attr(identity, "spec", spec | same)
        assert inside(folder, "best", "s", "small").status == 0
    for other in ({"data": "another"}, {"classes": ["a", "b"]}):
        storage.set_study_user_attr(identity, "spec", spec | other)
        refused(inside(folder, "best", "s", "small"), "the same data", "'s'", "'small'")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("s", "--max", "15"), ("--max must be a size in bytes", "15KB", "but got '15'")),
        (("s", "--max", "256k params"), ("--max must be a size in bytes",)),
        (("s", "--max", "0B"), ("--max must be a size in bytes",)),
        (("strange",), ("'strange' was not made by DistilNAS",)),
        (("waiting",), ("'waiting' must have a complete trial", "distilnas resume waiting")),
        (("waiting", "--max", "9KB"), ("'waiting' must have a complete trial",)),
        (("nowhere",), ("nowhere", "there are: ")),
        (("s", "--out", "."), ("--out must be a file",)),
        ((), ("NAME",)),
    ],
)
def test_what_is_refused(made: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    refused(inside(made, "best", *arguments), *words)


def test_a_file_that_is_not_here(folder: Path) -> None:
    shutil.rmtree(folder / "runs" / "s")
    answer = inside(folder, "best", "s")
    assert answer.status == 0
    assert answer.out.endswith(", its file is not on this machine\n")
    assert inside(folder, "best", "s", "--json").json["file"] is None
    refused(inside(folder, "best", "s", "--out", "o"), "runs/s/trial", "copy it there")


def test_a_store_s_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.training.objective.train", quick_train)
    monkeypatch.setenv("DISTILNAS_CACHE", str(tmp_path / "cache"))
    store = f"file://{tmp_path}/store"
    made = inside(tmp_path, *SEARCH, "--name", "s", "--artifacts", store)
    assert made.status == 0, made.err
    shutil.rmtree(tmp_path / "cache")
    told = inside(tmp_path, "best", "s", "--json").json
    assert told["file"] == f"{store}/s/trial{told['trial']:04d}/student.safetensors"
    assert inside(tmp_path, "best", "s", "--out", "o").status == 0
    kept = Path(told["file"].removeprefix("file://"))
    assert (tmp_path / "o").read_bytes() == kept.read_bytes()


def test_on_postgresql(made: Path, tmp_path: Path, postgres: str) -> None:
    storage = open_storage(postgres, create=True)
    optuna.copy_study(
        from_study_name="s", from_storage=f"sqlite:///{made}/studies.db", to_storage=storage
    )
    close(storage)
    flags = ("--storage", postgres, "--json")
    answer = inside(made, "best", "s", *flags, "--out", str(tmp_path / "o"))
    assert answer.status == 0, answer.err
    shown = inside(made, "show", "s", *flags).json["answer"]["best"]
    assert answer.json == {"study": "s", "file": str(tmp_path / "o")} | shown
    assert (tmp_path / "o").exists()
