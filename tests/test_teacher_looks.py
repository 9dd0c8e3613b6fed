"""What a teacher's answers look like on what students see, and what commands warn of."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from commands import inside, refused, trials
from members import quick_train
from PIL import Image
from tiny import CPU, RECIPE, one_thread

from search.terminal.output import no_better
from trainers.data.datasets import Data, load
from trainers.engine.batches import Batches
from trainers.model import Model
from trainers.policies import POLICIES
from trainers.teachers import looks
from trainers.teachers import teacher as teachers

__all__ = ["one_thread"]

PLACE = ("--device", "cpu", "--cache", "cache")
SURE = 0.995  # of one class
SEARCH = ("search", "--trials", "3", "--epochs", "2", "--pruner", "none", "--budget", "6KB", *PLACE)


def constant(path: Path, chances: list[float], accuracy: float | None = 0.5) -> None:
    """Write a teacher of the digits that answers every image with these probabilities."""
    data = load("digits", cache=path.parent / "cache")
    model, info = teachers.untrained("teacher-small", data)
    *_, weight, bias = model.network.parameters()
    with torch.no_grad():
        weight.zero_()
        bias.copy_(torch.tensor(chances).log())
    teachers.save(path, model, replace(info, accuracy=accuracy))


def sure_of_zero() -> list[float]:
    return [SURE, *([(1 - SURE) / 9] * 9)]


def test_entropy_and_one_hot_answers_as_computed_by_hand() -> None:
    chances = torch.tensor(
        [[0.5, 0.25, 0.25], [0.98, 0.01, 0.01], [0.995, 0.0025, 0.0025], [0.4, 0.3, 0.3]]
    )
    found = looks.described(chances.log() + 5, torch.tensor([0, 1, 0, 0]))
    by_hand = [
        0.5 * math.log(2) + 2 * 0.25 * math.log(4),
        -0.98 * math.log(0.98) - 2 * 0.01 * math.log(0.01),
        -0.995 * math.log(0.995) - 2 * 0.0025 * math.log(0.0025),
        -0.4 * math.log(0.4) - 2 * 0.3 * math.log(0.3),
    ]
    assert found.images == 4
    assert found.accuracy == 0.75
    assert found.one_hot == 0.25
    assert found.entropy == pytest.approx(sum(by_hand) / 4, rel=1e-5)
    assert found.relative_entropy == pytest.approx(sum(by_hand) / 4 / math.log(3), rel=1e-5)


def test_a_certain_answer_has_no_entropy() -> None:
    found = looks.described(torch.tensor([[1e4, 0.0], [0.0, 1e4]]), torch.tensor([0, 0]))
    assert (found.entropy, found.one_hot, found.accuracy) == (0.0, 1.0, 0.5)


def test_the_command_tells_of_each_kind_of_image(tmp_path: Path) -> None:
    constant(tmp_path / "t.pt", sure_of_zero())
    answer = inside(tmp_path, "teacher", "test", "t.pt", *PLACE, "--json")
    assert answer.status == 0, answer.err
    document, told = answer.json, answer.json["looks"]
    entropy = -SURE * math.log(SURE) - (1 - SURE) * math.log((1 - SURE) / 9)
    data = load("digits", cache=tmp_path / "cache")
    for kind, split in (
        ("training_views", data.train),
        ("training", data.train),
        ("validation", data.validation),
    ):
        zeros = (split.labels_N == 0).double().mean().item()
        assert told[kind]["images"] == len(split)
        assert told[kind]["accuracy"] == pytest.approx(zeros)
        assert told[kind]["entropy"] == pytest.approx(entropy, rel=1e-5)
        assert told[kind]["relative_entropy"] == pytest.approx(entropy / math.log(10), rel=1e-5)
        assert told[kind]["one_hot"] == 1.0
    assert (told["recipe"], told["views"], told["warnings"]) == ("digits", 1, [])
    assert (document["split"], document["images"]) == ("test", 359)
    assert document["accuracy"] == pytest.approx(0.1, abs=0.01)
    words = inside(tmp_path, "teacher", "test", "t.pt", *PLACE)
    assert "test accuracy" in words.out
    row = next(line for line in words.out.splitlines() if "validation" in line)
    assert row.split()[-4:] == [f"{told['validation']['accuracy']:.1%}", "0.042", "2%", "100.0%"]
    assert "warning" not in words.err


def test_a_uniform_teacher_has_the_entropy_of_knowing_nothing(tmp_path: Path) -> None:
    constant(tmp_path / "t.pt", [0.1] * 10)
    asked = ("teacher", "test", "t.pt", *PLACE, "--json", "--views", "2", "--recipe", "report-sgd")
    told = inside(tmp_path, *asked).json["looks"]
    assert told["validation"]["entropy"] == pytest.approx(math.log(10), rel=1e-5)
    assert told["validation"]["relative_entropy"] == pytest.approx(1)
    assert told["training_views"]["one_hot"] == 0
    assert told["training_views"]["images"] == 2 * told["training"]["images"] == 2 * 1079
    assert (told["recipe"], told["views"]) == ("report-sgd", 2)


# --- which views


def logits_of(model: Model, data: Data, epochs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the views that a student has in these epochs, and their labels."""
    batches, told, labels = Batches(data.train, RECIPE, CPU), [], []
    for epoch in range(epochs):
        batches.begin(epoch)
        batch = batches.batch(torch.arange(len(data.train)))
        with torch.inference_mode():
            told.append(model.eval()(batches.views(batch)))
        labels.append(batch.labels_P)
    return torch.cat(told), torch.cat(labels)


def test_it_is_asked_about_the_views_of_the_first_epochs() -> None:
    model, data = tiny.teacher().model, tiny.data()
    found = looks.look(model, data, RECIPE, 2, CPU)
    assert found.views == looks.described(*logits_of(model, data, 2))
    assert found.views != looks.described(*logits_of(model, data, 1))
    assert found.training.images == 70
    assert found.training != found.views
    still = looks.look(model, data, replace(RECIPE, augment=POLICIES["none"]), 1, CPU)
    assert still.views == still.training == found.training


def test_of_many_training_images_a_part_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "MOST_ASKED", 10)
    model, data = tiny.teacher().model, tiny.data()
    found = looks.look(model, data, RECIPE, 1, CPU)
    assert (found.views.images, found.training.images, found.validation.images) == (10, 10, 60)
    told_NK, labels_N = logits_of(model, data, 1)
    places = [7 * place for place in range(10)]  # of 70
    assert found.views == looks.described(told_NK[places], labels_N[places])


def test_a_mixed_view_counts_as_what_most_of_it_shows() -> None:
    """A teacher that is right about every image is right about its mixtures, by that rule."""
    mixing = replace(RECIPE, augment=replace(POLICIES["none"], mixup=1.0))
    data = tiny.data()
    batches = Batches(data.train, mixing, CPU)
    batch = batches.batch(torch.arange(70))
    own_N, other_N = batch.labels_P.split(70)
    shown_N = torch.where(batch.weight_N >= 0.5, own_N, other_N)

    class Told(Model):
        def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
            count = len(images_NCHW)
            return torch.nn.functional.one_hot(shown_N[:count], 3).float()

    model = Told(torch.nn.Identity(), size=8, mean=(0.5,), std=(0.5,))
    assert (own_N != shown_N).any()
    assert looks.look(model, data, mixing, 1, CPU).views.accuracy == 1.0


# --- knows its training images by heart


@pytest.fixture
def shades(tmp_path: Path) -> Callable[..., Path]:
    """`shades({"train": "ab", "val": "ba"})`: of each split one class dark, then one bright."""

    def make(splits: dict[str, str]) -> Path:
        random = np.random.default_rng(0)
        for split, names in splits.items():
            for name, level in zip(names, (30, 200), strict=True):
                (tmp_path / "photos" / split / name).mkdir(parents=True)
                for number in range(20):
                    pixels = level + random.integers(0, 20, (9, 9, 3), dtype=np.uint8)
                    path = tmp_path / "photos" / split / name / f"{number}.png"
                    Image.fromarray(pixels).save(path)
        return tmp_path

    return make


def taught(folder: Path, sharper: float) -> None:
    """A teacher of dark and bright, its answers made sharper."""
    flags = ("--data", "photos", "--network", "teacher-small", "--size", "8", "--epochs", "6")
    answer = inside(folder, "teacher", "train", *flags, *PLACE, "--lr", "0.05", "--out", "t.pt")
    assert answer.status == 0, answer.err
    teacher = teachers.load(folder / "t.pt")
    *_, weight, bias = teacher.model.network.parameters()
    with torch.no_grad():
        weight.mul_(sharper)
        bias.mul_(sharper)
    teachers.save(folder / "t.pt", teacher.model, teacher.info)


def asked(folder: Path) -> Any:
    flags = ("--data", "photos", "--recipe", "default", *PLACE)
    answer = inside(folder, "teacher", "test", "t.pt", *flags)
    told = inside(folder, "teacher", "test", "t.pt", *flags, "--json").json
    assert answer.status == 0, answer.err
    warned = [line for line in answer.err.splitlines() if line.startswith("warning: ")]
    assert [line.removeprefix("warning: ") for line in warned] == told["looks"]["warnings"]
    return told, answer


def test_a_teacher_that_knows_its_training_images_by_heart(shades: Callable[..., Path]) -> None:
    """Validation contradicts what training says: right there, wrong here, and sure of it."""
    folder = shades({"train": "ab", "val": "ba"})
    taught(folder, 100)
    told, answer = asked(folder)
    (warning,) = told["looks"]["warnings"]
    for words in ("by heart", "--keep", "100.0% of their views right, 0.0% of validation"):
        assert words in warning
    assert told["looks"]["training_views"]["accuracy"] == 1
    assert told["looks"]["validation"]["accuracy"] == 0
    # There is no test split.
    assert (told["split"], told["accuracy"], told["images"]) == ("test", None, None)
    assert "there is no test split" in answer.out
    assert "nearly one-hot" in answer.out
    # Where its answers are soft, they teach.
    taught(folder, 0.5)
    told, _ = asked(folder)
    assert told["looks"]["training_views"]["accuracy"] == 1
    assert told["looks"]["warnings"] == []


def test_a_sure_teacher_that_is_right_everywhere(shades: Callable[..., Path]) -> None:
    folder = shades({"train": "ab", "val": "ab", "test": "ab"})
    taught(folder, 100)
    told, answer = asked(folder)
    assert told["looks"]["validation"]["one_hot"] == 1
    assert told["looks"]["warnings"] == []
    assert (told["accuracy"], told["images"]) == (1.0, 40)
    assert "test accuracy 100.00% on 40 images" in answer.out


# --- no better than students


def test_students_that_are_as_good() -> None:
    assert no_better(0.5, 0.499) == no_better(None, 0.5) == ""
    assert "(49.3%) is no better than its students (50.1%)" in no_better(0.493, 0.501)
    assert no_better(0.5, 0.5)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Searches with a teacher of 1 % and one of 100 %, and what they said."""
    folder = tmp_path_factory.mktemp("studies")
    said = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.training.objective.train", quick_train)
        for name, accuracy in (("bad", 0.01), ("good", 1.0), ("unknown", None)):
            constant(folder / f"{name}.pt", sure_of_zero(), accuracy)
            said[name] = inside(folder, *SEARCH, "--name", name, "--teacher", f"{name}.pt")
            assert said[name].status == 0, said[name].err
        said["none"] = inside(folder, *SEARCH, "--name", "none", "--teacher", "none")
        said["json"] = inside(folder, "resume", "bad", "--trials", "1", *PLACE, "--json")
    return folder, said


def test_a_search_says_that_its_teacher_is_no_better(studies: tuple[Path, dict[str, Any]]) -> None:
    _, said = studies
    (warning,) = said["json"].json["warnings"]
    best = said["json"].json["best"][0]["value"]
    assert warning.startswith("the teacher (1.0%) is no better than its students (")
    assert f"({best:.1%})" in warning
    assert "distilnas teacher finetune" in warning
    assert said["bad"].err.count("warning: the teacher (1.0%) is no better than") == 1
    for name in ("good", "unknown", "none"):
        assert "no better" not in said[name].err + said[name].out


def test_a_teacher_is_compared_with_a_study_s_best(studies: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = studies
    best = trials(folder, "good").query("state == 'COMPLETE'")["value"].max()
    flags = ("teacher", "test", "bad.pt", *PLACE, "--json")
    for study, storage in (("good", ()), ("none", ("--storage", "studies.db"))):
        told = inside(folder, *flags, "--study", study, *storage).json["looks"]
        (warning,) = told["warnings"]
        assert f"no better than the students of '{study}'" in warning
    told = inside(folder, *flags, "--study", "good").json["looks"]
    assert told["compared"] == {"the students of 'good'": best}


@pytest.mark.parametrize(("than", "warns"), [("9%", False), ("0.5", True), ("99.5 %", True)])
def test_a_teacher_is_compared_with_a_number(
    studies: tuple[Path, dict[str, Any]], than: str, warns: bool
) -> None:
    flags = ("teacher", "test", "bad.pt", *PLACE, "--json", "--than", than)
    assert bool(inside(studies[0], *flags).json["looks"]["warnings"]) == warns


WRONG = {
    "views": (("--views", "0"), ("--views must be at least 1", "0")),
    "recipe": (("--recipe", "fast"), ("recipe must be one of", "'fast'", "report-sgd")),
    "than": (("--than", "52"), ("--than must be an accuracy", "52%", "'52'")),
    "more than all": (("--than", "120%"), ("--than must be an accuracy", "'120%'")),
    "study": (("--study", "nowhere"), ("nowhere",)),
    "waiting": (("--study", "waiting"), ("'waiting' has no complete trial", "resume waiting")),
    "database": (("--study", "s", "--storage", "no.db"), ("no.db",)),
    "classes": (("--study", "other"), ("'other'", "10 classes", "2 others (a, b, ...)")),
}


@pytest.mark.parametrize("case", WRONG)
def test_one_line_for_what_is_wrong(studies: tuple[Path, dict[str, Any]], case: str) -> None:
    folder, (flags, words) = studies[0], WRONG[case]
    if case in ("waiting", "classes"):
        data: tuple[str, ...] = ("--name", "waiting")
        if case == "classes":
            for split in ("train", "val"):
                for name in "ab":
                    path = folder / "photos" / split / name / "0.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.new("RGB", (9, 9), len(split) * ord(name)).save(path)
            data = ("--name", "other", "--data", "photos", "--size", "16")
        made = inside(folder, *SEARCH, *data, "--teacher", "none", "--prepare")
        assert made.status == 0, made.err
    refused(inside(folder, "teacher", "test", "bad.pt", *PLACE, *flags), *words)


def test_nothing_but_json_on_standard_output(studies: tuple[Path, dict[str, Any]]) -> None:
    answer = inside(studies[0], "teacher", "test", "bad.pt", *PLACE, "--than", "1", "--json")
    assert json.loads(answer.out)["looks"]["warnings"]
    assert "warning: the teacher" in answer.err
