"""CONTRIBUTING's steps, followed: a loss of one's own, by the places that the page names."""

from pathlib import Path

import pytest
import torch
from commands import ROOT, inside
from tiny import one_thread  # noqa: F401

import trainers.losses
import trainers.recipe
from trainers.recipe import LossSettings

CONFIG = """
[recipe]
base = "digits"
loss = "squared"
phases = [[0, 0.5]]
"""


def squared(
    logits_NK: torch.Tensor, teacher_NK: torch.Tensor, labels_N: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Mean of the squared differences of logits over the classes."""
    return (logits_NK.float() - teacher_NK.float()).square().mean(1)


def search(folder: Path) -> tuple[int, str]:
    (folder / "settings.toml").write_text(CONFIG)
    flags = ("--trials", "1", "--epochs", "1", "--teacher-epochs", "1", "--device", "cpu")
    answer = inside(
        folder, "search", "--config", "settings.toml", "--name", "s", *flags, "--cache", "cache"
    )
    return answer.status, answer.err


def test_a_loss_is_added_by_a_function_and_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, told = search(tmp_path)
    assert status == 2
    assert "loss must be one of kd, kd-standardised, dkd, dist, wttm, but got 'squared'" in told

    asked: list[float] = []

    def counted(
        logits_NK: torch.Tensor, teacher_NK: torch.Tensor, labels_N: torch.Tensor, t: float
    ) -> torch.Tensor:
        asked.append(t)
        return squared(logits_NK, teacher_NK, labels_N, t)

    monkeypatch.setitem(trainers.losses.LOSSES, "squared", counted)
    published = LossSettings(temperature=3.0, share=0.7)
    monkeypatch.setitem(trainers.recipe.LOSS_SETTINGS, "squared", published)
    status, told = search(tmp_path)
    assert status == 0, told
    assert set(asked) == {3.0}  # it is what the student learned by
    (row,) = inside(tmp_path, "show", "s", "--json").json["trials"]
    assert row["ended"] == "finished"
    assert row["file_accuracy"] > 0.1
    spec = inside(tmp_path, "show", "s", "--json").json["spec"]
    assert spec["recipe"]["loss"] == "squared"


def test_the_page_names_these_places() -> None:
    steps = (
        (ROOT / "CONTRIBUTING.md").read_text().partition("## Add a loss")[2].partition("\n## ")[0]
    )
    for place in ("trainers/losses.py", "`LOSSES`", "trainers/recipe.py", "`LOSS_SETTINGS`"):
        assert place in steps
