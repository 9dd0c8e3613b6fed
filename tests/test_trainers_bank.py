"""The bank of teacher logits: what it keeps is what the teacher says, and is asked for once."""

import random
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from tiny import CPU, SOFT, one_thread
from torch import nn
from views import mixed_views

from space.errors import InputError
from trainers.data.datasets import Data
from trainers.engine.training import train
from trainers.model import weights_hash
from trainers.recipe import Recipe
from trainers.teachers import bank as banks
from trainers.teachers.bank import LogitBank, claimed
from trainers.teachers.bank import bank_key as key_of
from trainers.teachers.teacher import Teacher

__all__ = ["one_thread"]

DATA = tiny.data()
RECIPE = SOFT.with_settings({"augment": "standard", "view_seed": 3})
MIXED = SOFT.with_settings({"augment": {"mixup": 1.0}, "view_seed": 3})
CUT = SOFT.with_settings({"augment": {"cutmix": 1.0, "mix_probability": 0.8}, "view_seed": 3})


def bank_key(teacher: Teacher, data: Data, recipe: Recipe, precision: str = "fp32") -> str:
    return key_of(teacher, data, recipe, precision)


class Counted(nn.Module):
    """Counts the images that it is shown."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.seen = network, 0

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        self.seen += len(images_NCHW)
        logits_NK: torch.Tensor = self.network(images_NCHW)
        return logits_NK


def counted() -> tuple[Teacher, Counted]:
    network = Counted(tiny.teacher().model.network)
    return tiny.teacher(network), network


def make(folder: Path, recipe: Recipe = RECIPE, teacher: Teacher | None = None) -> LogitBank:
    return LogitBank(folder, teacher or tiny.teacher(), DATA, recipe, CPU)


@pytest.mark.parametrize("recipe", [RECIPE, MIXED, CUT], ids=["views", "mixup", "cutmix"])
def test_kept_logits_are_those_of_the_live_teacher_for_the_same_view(
    tmp_path: Path, recipe: Recipe
) -> None:
    teacher = tiny.teacher()
    bank = make(tmp_path, recipe, teacher)
    for epoch in (0, 3):
        first = bank.epoch_logits(epoch)
        kept = make(tmp_path, recipe).epoch_logits(epoch)
        assert torch.equal(first, kept)
        assert kept.dtype == torch.float32
        assert kept.shape == (70, 3)
        # In the engine's batches, not the bank's: views depend on nothing but the image.
        for index_N in torch.randperm(70).split(16):
            views_NCHW, _, _ = mixed_views(
                DATA.train.images_NCHW, index_N, seed=3, epoch=epoch, augment=recipe.augment
            )
            with torch.no_grad():
                live = teacher.model.eval()(views_NCHW)
            torch.testing.assert_close(kept[index_N], live, rtol=1e-3, atol=1e-3)
    spread = bank.epoch_logits(0)
    assert spread.std(0).min() > 0.05  # the teacher does tell images apart
    assert (bank.epoch_logits(1) - spread).abs().max() > 0.05  # and epochs


def test_the_teacher_is_asked_once_for_all_trials(tmp_path: Path) -> None:
    teacher, network = counted()
    told: list[int] = []
    recipe = RECIPE.with_settings({"epochs": 2})
    for trial in range(3):
        seeded = recipe.with_settings({"seed": trial, "lr": 0.1 / (1 + trial), "temperature": 2.0})
        bank = LogitBank(tmp_path, teacher, DATA, seeded, CPU, told.append)
        train(tiny.model(seed=trial), seeded, DATA, device=CPU, teacher=bank)
        assert network.seen == 2 * 70
    assert told == [0, 1]


def test_the_teacher_is_asked_in_evaluation_mode_and_without_gradients(tmp_path: Path) -> None:
    teacher = tiny.teacher()
    before = weights_hash(teacher.model)
    teacher.model.train()
    logits = make(tmp_path, teacher=teacher).live_logits(0)
    assert not logits.requires_grad
    assert weights_hash(teacher.model) == before
    assert torch.equal(logits, make(tmp_path).live_logits(0))


def test_the_teacher_sees_images_at_its_own_size(tmp_path: Path) -> None:
    bank = make(tmp_path, teacher=tiny.teacher(size=16))
    sizes: list[int] = []
    bank.teacher.model.network.register_forward_pre_hook(
        lambda _, images: sizes.append(images[0].shape[-1])
    )
    bank.epoch_logits(0)
    assert set(sizes) == {16}


def test_memory_for_a_few_images_is_enough(tmp_path: Path) -> None:
    teacher = tiny.teacher()
    whole = make(tmp_path / "whole").epoch_logits(0)

    def refuse(_: nn.Module, images: tuple[torch.Tensor]) -> None:
        if len(images[0]) > 9:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    teacher.model.network.register_forward_pre_hook(refuse)
    parts = make(tmp_path / "parts", teacher=teacher).epoch_logits(0)
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-3)


# --- the key


def test_the_key_hangs_on_all_that_the_logits_hang_on() -> None:
    teacher = tiny.teacher()
    info = teacher.info
    keys = {
        bank_key(teacher, DATA, RECIPE),
        bank_key(tiny.teacher(seed=8), DATA, RECIPE),
        bank_key(replace(teacher, info=replace(info, size=16)), DATA, RECIPE),
        bank_key(replace(teacher, info=replace(info, mean=(0.4,))), DATA, RECIPE),
        bank_key(replace(teacher, info=replace(info, std=(0.4,))), DATA, RECIPE),
        bank_key(replace(teacher, info=replace(info, network="report-student")), DATA, RECIPE),
        bank_key(teacher, tiny.data(fingerprint="ba9876543210"), RECIPE),
        bank_key(teacher, DATA, RECIPE.with_settings({"view_seed": 1})),
        bank_key(teacher, DATA, RECIPE.with_settings({"augment": {"flip": 0.1}})),
        bank_key(teacher, DATA, RECIPE.with_settings({"augment": {"mixup": 0.1}})),
        bank_key(teacher, DATA, RECIPE.with_settings({"augment": {"cutmix": 0.1}})),
        bank_key(teacher, DATA, RECIPE.with_settings({"augment": {"mix_probability": 0.5}})),
        bank_key(teacher, DATA, RECIPE, "bf16"),
    }
    assert len(keys) == 13


def test_banks_of_version_0_1_are_found() -> None:
    known = replace(tiny.teacher(), hash="0123")
    assert bank_key(known, DATA, SOFT) == "bffb8e530f6c32a4"
    mixed = SOFT.with_settings({"augment": {"mixup": 0.4}})
    assert bank_key(known, DATA, mixed) == "405dfbbf1a2ffb63"


def test_the_key_changes_with_the_version_of_the_views(monkeypatch: pytest.MonkeyPatch) -> None:
    before = bank_key(tiny.teacher(), DATA, RECIPE)
    monkeypatch.setattr(banks, "VIEWS", banks.VIEWS + 1)
    assert bank_key(tiny.teacher(), DATA, RECIPE) != before


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 5},
        {"epochs": 90},
        {"batch": 32},
        {"lr": 0.05},
        {"loss": "dkd"},
        {"temperature": 2.0},
        {"phases": [[0, 1]]},
        {"ema": 0.5},
        {"augment": {"rotation": 15}},  # the same as before, written as a whole number
    ],
)
def test_the_key_hangs_on_nothing_else(settings: dict[str, object]) -> None:
    teacher = tiny.teacher()
    changed = RECIPE.with_settings(settings)
    assert bank_key(teacher, DATA, changed) == bank_key(teacher, DATA, RECIPE)
    there_and_back = Recipe.from_dict(RECIPE.to_dict())
    assert bank_key(teacher, DATA, there_and_back) == bank_key(teacher, DATA, RECIPE)
    assert bank_key(replace(teacher, info=replace(teacher.info, accuracy=0.5)), DATA, RECIPE) == (
        bank_key(teacher, DATA, RECIPE)
    )


# --- the files


def test_damaged_files_are_computed_again(tmp_path: Path) -> None:
    teacher, network = counted()
    bank = make(tmp_path / "bank", teacher=teacher)
    expected = bank.epoch_logits(0)
    path = bank.path(0)
    content = path.read_bytes()
    chance = random.Random(0)
    damaged = [content[: chance.randrange(len(content))] for _ in range(20)]
    for _ in range(60):
        flipped = bytearray(content)
        flipped[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        damaged.append(bytes(flipped))
    damaged += [b"", chance.randbytes(500), content + b"\0", content[1:]]
    for bytes_ in damaged:
        path.write_bytes(bytes_)
        network.seen = 0
        assert torch.equal(bank.epoch_logits(0), expected)
        assert network.seen == 70
        assert path.read_bytes() == content


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="choose another --cache") as error:
        make(tmp_path / "file").epoch_logits(0)
    assert "\n" not in str(error.value)


def test_a_bank_of_many_epochs_takes_two_bytes_a_logit(tmp_path: Path) -> None:
    bank = make(tmp_path)
    for epoch in range(3):
        bank.epoch_logits(epoch)
    sizes = [path.stat().st_size for path in bank.folder.glob("*.bin")]
    assert len(sizes) == 3
    assert max(sizes) == 70 * 3 * 2 + 32


# --- several processes

HOLD = """
import sys
from pathlib import Path
from trainers.teachers.bank import claimed
with claimed(Path(sys.argv[1]), 0) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


def test_what_another_process_computes_is_waited_for_by_computing_what_comes_next(
    tmp_path: Path,
) -> None:
    recipe = RECIPE.with_settings({"epochs": 4, "phases": [[0, 0.5], [0.7, 0]]})
    bank = make(tmp_path, recipe)
    expected = [make(tmp_path / "alone", recipe).epoch_logits(epoch) for epoch in range(3)]
    bank.folder.mkdir()
    command = [sys.executable, "-c", HOLD, str(bank.folder / "lock")]
    answers: list[torch.Tensor] = []
    with subprocess.Popen(command, stdin=-1, stdout=-1, cwd=Path(__file__).parents[1]) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"True\n"
        asking = threading.Thread(target=lambda: answers.append(bank.epoch_logits(0)))
        asking.start()
        deadline = time.monotonic() + 30
        while not bank.path(2).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [bank.path(epoch).exists() for epoch in range(4)] == [False, True, True, False]
        assert asking.is_alive()
        other.kill()  # and the kernel lets go of its claim
        asking.join(30)
    answers += [bank.epoch_logits(epoch) for epoch in (1, 2)]
    assert all(map(torch.equal, answers, expected))


def test_a_claim_is_free_again_when_it_ends(tmp_path: Path) -> None:
    for _ in range(2):
        with claimed(tmp_path / "lock", 3) as mine:
            assert mine
