"""What a search asks its teacher, by the commands alone: at its own size, each view once."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import distilnas, inside

from trainers.data.datasets import load
from trainers.engine.batches import Batches
from trainers.files import unsealed
from trainers.recipe import Recipe
from trainers.teachers import teacher as teachers

HERE = ("--cache", "cache", "--device", "cpu")
TEACHER = ("--data", "digits", "--network", "teacher-small", "--epochs", "2", *HERE)
TOML = """\
data = "digits"
size = 8
budget = "5KB"
trials = 2
epochs = 5
pruner = "none"
teacher = "teacher.pt"

[recipe]
base = "digits"
views = 2
"""


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search at 8 pixels whose teacher sees 16."""
    folder = tmp_path_factory.mktemp("taught")
    answer = distilnas(folder, "teacher", "train", "--input-size", "16", *TEACHER)
    assert answer.status == 0, answer.err
    (folder / "s.toml").write_text(TOML)
    answer = distilnas(folder, "search", "--config", "s.toml", "--name", "s", *HERE)
    assert answer.status == 0, answer.err
    return folder


def banks(folder: Path) -> dict[str, list[Path]]:
    """Key of each bank -> its epochs of views."""
    found = (folder / "cache" / "banks").iterdir()
    return {bank.name: sorted(bank.glob("*.bin")) for bank in found}


def answers(folder: Path, size: int, view_epoch: int) -> torch.Tensor:
    """What the teacher says of the study's views, drawn at a size, N x K."""
    teacher = teachers.load(folder / "teacher.pt")
    data = load("digits", size, cache=folder / "cache")
    recipe = Recipe.from_dict(spec(folder)["recipe"])
    batches = Batches(data.train, recipe, torch.device("cpu"))
    batches.begin(view_epoch)
    batch = batches.batch(torch.arange(len(data.train)))
    with torch.inference_mode():
        logits_NK: torch.Tensor = teacher.model.eval()(batches.views(batch))
    return logits_NK


def spec(folder: Path) -> dict[str, Any]:
    return dict(inside(folder, "show", "s", "--json").json["spec"])


def kept(file: Path) -> torch.Tensor:
    content = unsealed(file)
    assert content is not None
    return torch.frombuffer(bytearray(content), dtype=torch.float16).view(-1, 10).float()


def test_a_teacher_is_asked_at_its_own_resolution(searched: Path) -> None:
    """Trained, asked and kept at 16 pixels, though its students see 8."""
    assert json.loads((searched / "teacher.json").read_text())["size"] == 16
    assert spec(searched)["size"] == 8
    ((_, files),) = banks(searched).items()
    for epoch, file in enumerate(files):
        told = kept(file)
        torch.testing.assert_close(told, answers(searched, 16, epoch), rtol=1e-2, atol=2e-2)
        assert (told - answers(searched, 8, epoch)).abs().max() > 0.1  # blown up, it sees less


def test_views_are_asked_about_once_and_taken_in_turn(searched: Path) -> None:
    """Five epochs of two trials, two epochs of views."""
    ((_, files),) = banks(searched).items()
    assert [file.name for file in files] == ["0000.bin", "0001.bin"]
    assert spec(searched)["recipe"]["views"] == 2


def test_a_study_of_version_0_1_goes_on_as_it_was(searched: Path, tmp_path: Path) -> None:
    """Its copy of the teacher does not say a size: it is asked about what the students see."""
    answer = inside(searched, "resume", "s", "--trials", "1", *HERE)
    assert answer.status == 0, answer.err
    (new,) = banks(searched)
    copy = searched / "runs" / "s" / "teacher.json"
    facts = json.loads(copy.read_text())
    assert facts.pop("asked_at") == 16
    copy.write_text(json.dumps(facts))
    answer = inside(searched, "resume", "s", "--trials", "1", *HERE)
    assert answer.status == 0, answer.err
    (old,) = banks(searched).keys() - {new}
    told = kept(banks(searched)[old][0])
    torch.testing.assert_close(told, answers(searched, 8, 0), rtol=1e-2, atol=2e-2)
