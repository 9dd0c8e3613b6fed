"""Input size as a choice of a search, and as a factor of an ablation: by the commands alone."""

import io
import os
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import distilnas, inside, refused, start, wait_for_line
from PIL import Image

from dashboards.filters import Filters, misread
from dashboards.library import Library
from dashboards.pages import study as study_page
from trainers import export
from trainers.engine.training import train

FLAGS = ("--cache", "cache", "--device", "cpu")
SEARCH = (
    *("search", "--name", "s", "--trials", "3", "--epochs", "2", "--sizes", "12,8"),
    *("--teacher-epochs", "1", "--pruner", "none", "--budget", "6KB", *FLAGS),
)
# One shape, so that the input size is all that trials choose.
ONE_SHAPE = """\
budget = "3k params"
teacher = "none"
trials = 2
epochs = 1
finalists = 1

[space]
base = "plain"
depths = [1]
widths = [1.0]
growths = [2.0]
kernels = [3]
early = ["conv"]
late = ["conv"]
se = [0]
residual = [false]
activations = ["relu"]
sizes = [12, 8]
"""


def rows(folder: Path, name: str = "s") -> list[dict[str, Any]]:
    return list(inside(folder, "show", name, "--json").json["trials"])


def file_of(folder: Path, number: int, name: str = "s") -> Path:
    return folder / "runs" / name / f"trial{number:04d}" / "student.safetensors"


def size_of(file: Path) -> int:
    """Pixels, as the file's own header says."""
    return export.read(file).metadata.size


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished search over two sizes."""
    folder = tmp_path_factory.mktemp("sizes")
    answer = distilnas(folder, *SEARCH)
    assert answer.status == 0, answer.err
    assert "10 classes, 8, 12 pixels" in answer.err
    return folder


def test_every_trial_has_its_own_input(searched: Path) -> None:
    """Parameter, row, file and what `predict` and `test` do with it say the same size."""
    trials = rows(searched)
    assert {row["size"] for row in trials} == {8, 12}
    image = io.BytesIO()
    Image.new("L", (20, 20), 90).save(image, "PNG")
    (searched / "grey.png").write_bytes(image.getvalue())
    for row in trials:
        file = file_of(searched, row["number"])
        assert row["params_size"] == row["size"] == size_of(file)
        assert 0.95 * 6_000 <= file.stat().st_size == row["bytes"] <= 6_000
        (layer, *_) = inside(searched, "show", "s", str(row["number"]), "--json").json["layers"]
        assert layer["output"][1] == row["size"]  # the stem does not halve so small an image
        assert f"{row['size']} pixels" in inside(searched, "show", "s", str(row["number"])).out
    for size in (8, 12):
        number = next(row["number"] for row in trials if row["size"] == size)
        path = str(file_of(searched, number))
        told = inside(searched, "predict", path, "grey.png", "--json")
        assert told.status == 0, told.err
        tested = inside(searched, "test", path, "--data", "digits", "--cache", "cache", "--json")
        assert tested.status == 0, tested.err
    shown = inside(searched, "show", "s").out
    assert "data digits at 8 or 12 pixels" in shown
    assert "pixels" in shown.split("accuracy")[1].splitlines()[0]


def test_one_bank_serves_students_of_all_sizes(searched: Path) -> None:
    """The teacher is asked at its own size about crops that are the same at every size."""
    assert len(list((searched / "cache" / "banks").iterdir())) == 1


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(searched: Path, tmp_path: Path) -> None:
    with start(tmp_path, *SEARCH) as process:
        wait_for_line(process, "trial 1: epoch 1")
        os.killpg(process.pid, signal.SIGKILL)
    answer = distilnas(tmp_path, "resume", "s", *FLAGS)
    assert answer.status == 0, answer.err
    times = ("started", "completed", "seconds")

    def lasting(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k not in times} for row in trials]

    assert lasting(rows(tmp_path)) == lasting(rows(searched))
    for row in rows(searched):
        whole, again = file_of(searched, row["number"]), file_of(tmp_path, row["number"])
        assert whole.read_bytes() == again.read_bytes()


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Of every training: pixels of the network's input, of the data, of the images themselves."""
    seen: list[tuple[int, int, int]] = []

    def watched(model: Any, recipe: Any, data: Any, *rest: Any, **named: Any) -> Any:
        seen.append((model.size, data.size, data.train.images_NCHW.shape[-1]))
        return train(model, recipe, data, *rest, **named)

    monkeypatch.setattr("search.training.objective.train", watched)
    return seen


def test_one_shape_at_two_sizes_is_two_students(
    tmp_path: Path, taught: list[tuple[int, int, int]]
) -> None:
    """Sizes of one's own space; duplicates, finalists and ablations of a winner know the size."""
    (tmp_path / "own.toml").write_text(ONE_SHAPE)
    search = ("search", "--config", "own.toml", "--sampler", "random", "--name", "s", *FLAGS)
    answer = inside(tmp_path, *search)
    assert answer.status == 0, answer.err
    trained = [row for row in rows(tmp_path) if row["duplicate_of"] is None]
    assert sorted(row["size"] for row in trained) == [8, 12]
    assert len({row["fingerprint"] for row in trained}) == 1
    for row in rows(tmp_path):
        if row["duplicate_of"] is not None:
            first = next(r for r in trained if r["number"] == row["duplicate_of"])
            assert first["size"] == row["size"]
    (final,) = inside(tmp_path, "show", "s", "--json").json["finalists"]
    winner = next(row for row in trained if row["number"] == final["number"])
    seeds = file_of(tmp_path, winner["number"]).parent.glob("seed*/student.safetensors")
    assert [size_of(file) for file in seeds] == [winner["size"]] * 3

    (tmp_path / "won.toml").write_text(
        'baseline = { study = "s" }\nseeds = 1\nfactors.size = [8, 12, 16]\n'
    )
    plan = inside(tmp_path, "ablate", "won.toml", "--dry-run", "--json", *FLAGS[:2]).json
    assert plan["size"] == winner["size"]
    others = sorted({8, 12, 16} - {winner["size"]})
    assert [arm.get("size") for arm in plan["arms"]] == [None, *others]
    answer = inside(tmp_path, "ablate", "won.toml", *FLAGS)
    assert answer.status == 0, answer.err
    assert "pixels" in answer.err
    assert "at 8, 12 or 16 pixels" in answer.err
    arms = rows(tmp_path, "won")
    assert [row["size"] for row in arms] == [winner["size"], *others]
    assert [size_of(file_of(tmp_path, n, "won")) for n in range(3)] == [r["size"] for r in arms]
    assert len({row["macs"] for row in arms}) == 3
    # Images are decoded at a student's own size, not made smaller or larger for it.
    assert set(taught) == {(size, size, size) for size in (8, 12, 16)}


@pytest.mark.slow
def test_workers_beside_each_other_train_mixed_sizes(tmp_path: Path) -> None:
    answer = distilnas(tmp_path, *SEARCH, "--parallel", "2")
    assert answer.status == 0, answer.err
    for row in rows(tmp_path):
        assert size_of(file_of(tmp_path, row["number"])) == row["size"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--sizes", ""), "--sizes must be a list of pixels"),
        (("--sizes", "8;16"), "--sizes must be a list of pixels"),
        (("--sizes", "8,8"), "sizes must be a list of 1 to 16 different values"),
        (("--sizes", "2,8"), "sizes must be 4 to 1024 pixels, but got 2"),
        (("--sizes", "8,2000"), "sizes must be 4 to 1024 pixels, but got 2000"),
        (("--sizes", "8,16", "--size", "8"), "size and sizes cannot be stated together"),
        (("--sizes", "8,64", "--macs", "10k"), "at 64 pixels takes"),
    ],
)
def test_sizes_that_cannot_be_are_one_line(
    tmp_path: Path, flags: tuple[str, ...], told: str
) -> None:
    refused(inside(tmp_path, "search", *flags, *FLAGS), told)
    assert not (tmp_path / "studies.db").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sizes = []", "sizes must be a list of pixels"),
        ("size = 8\n[space]\nsizes = [8, 16]", "size and sizes cannot be stated together"),
        ("sizes = 8", "sizes must be a list"),
    ],
)
def test_a_file_s_sizes_that_cannot_be_are_one_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "own.toml").write_text(text)
    refused(inside(tmp_path, "search", "--config", "own.toml", *FLAGS), told)


@pytest.mark.parametrize("size", ["3", '"12"', "8.5", "true"])
def test_an_arm_s_size_that_cannot_be_is_one_line(tmp_path: Path, size: str) -> None:
    text = 'baseline = { architecture = "digits-student" }\nfactors.size = [8, SIZE]\n'
    (tmp_path / "a.toml").write_text(text.replace("SIZE", size))
    refused(inside(tmp_path, "ablate", "a.toml", *FLAGS), "size must be a whole number from 4")


def test_pages_filter_by_size(searched: Path) -> None:
    library = Library(str(searched / "studies.db"))
    (identity,) = library.studies()["identity"]
    view = library.view(identity, Filters.parse("?pixels=8"))
    sizes = pd.Series({row["number"]: row["size"] for row in rows(searched)})
    assert list(view.trials["number"]) == list(sizes[sizes == 8].index)
    assert view.filters.query == "pixels=8"
    assert Filters.parse("?pixels=wide").pixels == ()
    assert "pixels 'wide': not known" in misread("?pixels=wide")
    assert "at 8 or 12 pixels" in study_page.what(view)
    page = str(study_page.search_page(view, ""))
    assert "Pixels" in page
    cards = study_page.other_cards(view.subject.goal, several_sizes=len(view.subject.sizes) > 1)
    assert "'headerName': 'pixels'" in str(cards)
    assert "'headerName': 'pixels'" not in str(study_page.other_cards(view.subject.goal))
    assert "size" in view.study(list(view.all["number"])).trials[0].params
