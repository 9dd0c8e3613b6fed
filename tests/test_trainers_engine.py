"""The training loop: it learns, repeats itself to the bit, goes on exactly, and survives."""

import math
import os
import platform
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny import CPU, RECIPE, SOFT, one_thread, same
from torch import nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from views import mixed_views

from trainers.data.datasets import Data, load
from trainers.engine import averaging
from trainers.engine import training as engine
from trainers.engine.batches import Batches
from trainers.engine.checkpoint import Checkpoint
from trainers.engine.evaluation import evaluate, predict
from trainers.engine.learner import Learner, StepScalars
from trainers.engine.memory import is_out_of_memory
from trainers.engine.modes import ComputeMode
from trainers.engine.result import TrialResult
from trainers.engine.steps import batch_indices, make_optimizer, steps_per_epoch
from trainers.engine.training import _Training, train
from trainers.model import Model, weights_hash
from trainers.policies import Augment
from trainers.recipe import LOSS_SETTINGS, RECIPES, Recipe
from trainers.schedules import learning_rate
from trainers.teachers.bank import LogitBank

__all__ = ["one_thread"]

DATA = tiny.data()


class Logits:
    """A teacher's fixed answers; counts how often it is asked."""

    key = "fixed"

    def __init__(self, logits_NK: torch.Tensor) -> None:
        self.logits_NK = logits_NK
        self.asked: list[int] = []

    def epoch_logits(self, epoch: int) -> torch.Tensor:
        self.asked.append(epoch)
        return self.logits_NK


class StoppedError(Exception):
    """What a report raises to end a run at just that epoch."""


def run(
    recipe: Recipe, *, network: nn.Module | None = None, **options: Any
) -> tuple[Model, TrialResult]:
    model = tiny.model(network)
    result = train(model, recipe, DATA, device=CPU, **options)
    return model, result


def learned(result: TrialResult) -> list[tuple[int, float, float]]:
    return [(epoch.epoch, epoch.accuracy, epoch.loss) for epoch in result.history]


def stop_at(epoch: int) -> Callable[[Any], bool]:
    def report(done: Any) -> bool:
        if done.epoch == epoch:
            raise StoppedError
        return False

    return report


# --- it learns


def test_learns_the_digits() -> None:
    data = load("digits", cache=Path("unused"))
    recipe = RECIPES["digits"].with_settings({"epochs": 8, "phases": [[0, 0]]})
    model = tiny.model(tiny.build(replace(tiny.ARCHITECTURE, classes=10), seed=0))
    result = train(model, recipe, data, device=CPU)
    assert result.ended == "finished"
    assert result.reason == ""
    assert result.epochs == 8
    assert result.accuracy > 0.6  # chance: 0.1
    assert result.history[-1].loss < 0.7 * result.history[0].loss
    # What is reported is what the returned model scores.
    assert evaluate(model, data.validation, CPU) == result.accuracy
    assert result.micro_batch == recipe.batch


def test_learns_from_the_teacher_alone() -> None:
    """Soft loss only, from a teacher that says nothing but the mirrored classes."""
    mirrored_N = 2 - DATA.train.labels_N
    teacher = Logits(torch.nn.functional.one_hot(mirrored_N, 3).float() * 20)
    recipe = RECIPE.with_settings({"epochs": 10, "phases": [[0, 1]]})
    _, result = run(recipe, teacher=teacher)
    # Class 1 is its own mirror image; the other two are learned wrong, as the teacher says.
    assert result.accuracy < 0.45
    wrong = replace(
        DATA, validation=replace(DATA.validation, labels_N=2 - DATA.validation.labels_N)
    )
    model = tiny.model()
    assert train(model, recipe, wrong, device=CPU, teacher=teacher).accuracy > 0.8


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("loss", LOSS_SETTINGS)
def test_every_loss_and_optimizer_trains(loss: str, optimizer: str) -> None:
    rate = 0.1 if optimizer == "sgd" and loss != "dist" else 0.01
    given = {"loss": loss, "temperature": 4.0, "phases": SOFT.phases}
    settings = {"optimizer": optimizer, **given, "lr": rate, "epochs": 12, "ema": 0.0}
    target = Logits(torch.nn.functional.one_hot(DATA.train.labels_N, 3).float() * 4)
    _, result = run(SOFT.with_settings(settings), teacher=target)
    assert result.history[-1].loss < 0.7 * result.history[0].loss
    assert result.accuracy > 0.6


# --- it repeats itself


def test_same_seed_same_bits_whatever_the_global_generators_say() -> None:
    torch.manual_seed(1)
    first, one = run(RECIPE)
    torch.manual_seed(2)
    second, other = run(RECIPE)
    assert learned(one) == learned(other)
    assert same(first.state_dict(), second.state_dict())
    third, _ = run(RECIPE.with_settings({"seed": 1}))  # another order of the images
    assert not same(first.state_dict(), third.state_dict())
    fourth, _ = run(RECIPE.with_settings({"view_seed": 1}))
    assert not same(first.state_dict(), fourth.state_dict())


def dropping() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(tiny.SIZE**2, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3)
    )


def test_dropout_is_drawn_from_the_recipe_s_seed() -> None:
    first, _ = run(RECIPE, network=dropping())
    torch.manual_seed(99)
    second, _ = run(RECIPE, network=dropping())
    assert same(first.state_dict(), second.state_dict())
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    network = dropping  # seeds the global generator, so build it first
    built = network()
    torch.manual_seed(5)
    run(RECIPE, network=built)
    assert torch.equal(torch.rand(3), expected)  # and the global generator stays where it was


# --- it goes on exactly


def repeating() -> nn.Module:
    """The small student with a block that is applied three times."""
    *first, last = tiny.ARCHITECTURE.stages
    changed = replace(tiny.ARCHITECTURE, stages=(*first, replace(last, repeat=3)))
    return tiny.build(changed, seed=0)


@pytest.mark.parametrize(
    "network", [None, dropping, repeating], ids=["student", "dropout", "repeat"]
)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_stopped_behind_any_epoch_and_gone_on_with_equals_uninterrupted(
    tmp_path: Path, optimizer: str, network: Any
) -> None:
    make = network or (lambda: None)
    recipe = SOFT.with_settings({"optimizer": optimizer, "lr": 0.05, "epochs": 4, "clip": 1.0})
    teacher = Logits(torch.randn(70, 3, generator=torch.Generator().manual_seed(0)) * 3)
    whole, expected = run(recipe, network=make(), teacher=teacher)
    for stop in range(1, 5):
        checkpoint = Checkpoint(tmp_path / f"{stop}" / "checkpoint.pt")
        options = {"teacher": teacher, "checkpoint": checkpoint}
        with pytest.raises(StoppedError):
            run(recipe, network=make(), report=stop_at(stop), **options)
        assert checkpoint.path.exists() == (stop > 1)
        reported: list[int] = []
        model, result = run(
            recipe, network=make(), report=lambda e, r=reported: bool(r.append(e.epoch)), **options
        )
        # The epoch whose report failed is trained, and reported, again.
        assert reported == list(range(stop, 5))
        assert learned(result) == learned(expected)
        assert same(model.state_dict(), whole.state_dict())


def test_stopped_at_every_epoch_in_turn(tmp_path: Path) -> None:
    whole, expected = run(RECIPE)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt")
    for stop in (2, 3):
        with pytest.raises(StoppedError):
            run(RECIPE, report=stop_at(stop), checkpoint=checkpoint)
    model, result = run(RECIPE, checkpoint=checkpoint)
    assert learned(result) == learned(expected)
    assert same(model.state_dict(), whole.state_dict())


def test_finished_training_is_not_done_again(tmp_path: Path) -> None:
    """Killed between the last checkpoint and the storing of the outcome."""
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt")
    whole, expected = run(RECIPE, checkpoint=checkpoint)
    model, result = run(RECIPE, checkpoint=checkpoint, report=stop_at(3))
    assert result._replace(seconds=0) == expected._replace(seconds=0)
    assert result.seconds == pytest.approx(expected.seconds)
    assert same(model.state_dict(), whole.state_dict())


KILLED = """
import sys, torch
torch.set_num_threads(1)
sys.path[:0] = sys.argv[1:3]
import tiny
from pathlib import Path
from trainers.engine.checkpoint import Checkpoint
from trainers.engine.training import train
model, recipe = tiny.model(), tiny.RECIPE.with_settings({"epochs": 60})
checkpoint = Checkpoint(Path(sys.argv[3]))
report = lambda epoch: print(epoch.epoch, flush=True)
result = train(model, recipe, tiny.data(), report, device=tiny.CPU, checkpoint=checkpoint)
history = [(e.epoch, e.accuracy, e.loss) for e in result.history]
torch.save([model.state_dict(), history], sys.argv[4])
"""


def test_killed_at_random_moments_equals_uninterrupted(tmp_path: Path) -> None:
    recipe = RECIPE.with_settings({"epochs": 60})
    whole, expected = run(recipe)
    chance, done = random.Random(0), tmp_path / "done.pt"
    tests = Path(__file__).parent
    command = [sys.executable, "-c", KILLED, str(tests.parent), str(tests)]
    command += [str(tmp_path / "checkpoint.pt"), str(done)]
    begun = []
    for kill in (True, True, False):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        begun.append(int(process.stdout.readline()))
        if kill:
            time.sleep(chance.uniform(0, 0.25))
            process.send_signal(signal.SIGKILL)
        process.stdout.read()
        process.stdout.close()
        process.wait()
        if done.exists():  # the machine was quick: nothing is left to kill
            break
    assert begun == sorted(begun)
    assert begun[-1] > 1  # it did go on from a checkpoint
    state, history = torch.load(done)
    assert history == learned(expected)
    assert same(state, whole.state_dict())


def test_checkpoints_that_are_not_this_run_s_are_ignored(tmp_path: Path) -> None:
    whole, expected = run(RECIPE)
    teacher = Logits(torch.zeros(70, 3))
    shuffled = replace(
        tiny.ARCHITECTURE,
        stages=tuple(replace(s, activation="silu") for s in tiny.ARCHITECTURE.stages),
    )
    foreign = {
        "seed": (tiny.model(seed=1), RECIPE, DATA, None),
        "recipe": (tiny.model(), RECIPE.with_settings({"lr": 0.2}), DATA, None),
        "data": (tiny.model(), RECIPE, tiny.data(fingerprint="ba9876543210"), None),
        "teacher": (tiny.model(), SOFT, DATA, teacher),
        "network": (tiny.model(dropping()), RECIPE, DATA, None),
        "activation": (tiny.model(tiny.build(shuffled, seed=0)), RECIPE, DATA, None),
    }
    for name, (model, recipe, data, asked) in foreign.items():
        checkpoint = Checkpoint(tmp_path / name)
        train(model, recipe, data, device=CPU, teacher=asked, checkpoint=checkpoint)
        if name == "teacher":
            other = Logits(torch.ones(70, 3))
            other.key = "another"
            assert _Training(tiny.model(), SOFT, DATA, CPU, other).identity != (
                _Training(tiny.model(), SOFT, DATA, CPU, teacher).identity
            )
        model, result = run(RECIPE, checkpoint=checkpoint)
        assert learned(result) == learned(expected), name
        assert same(model.state_dict(), whole.state_dict()), name


def test_damaged_checkpoints_are_ignored(tmp_path: Path) -> None:
    whole, _ = run(RECIPE)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt")
    with pytest.raises(StoppedError):
        run(RECIPE, report=stop_at(3), checkpoint=checkpoint)
    content = checkpoint.path.read_bytes()
    identity = _Training(tiny.model(), RECIPE, DATA, CPU, None).identity
    kept = checkpoint.read(identity)
    assert kept is not None
    epochs = len(kept["history"])
    chance = random.Random(0)
    damaged = [content[: chance.randrange(len(content))] for _ in range(40)]
    for _ in range(200):
        flipped = bytearray(content)
        flipped[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        damaged.append(bytes(flipped))
    damaged += [b"", b"\x80\x04K\x01.", chance.randbytes(500), b"PK\x03\x04" + chance.randbytes(99)]
    for bytes_ in damaged:
        checkpoint.path.write_bytes(bytes_)
        kept = checkpoint.read(identity)
        assert kept is not None
        assert len(kept["history"]) == epochs - 1  # the one before it
        checkpoint.before.rename(tmp_path / "aside")
        assert checkpoint.read(identity) is None
        (tmp_path / "aside").rename(checkpoint.before)
    model, result = run(RECIPE, checkpoint=checkpoint)
    assert result.epochs == 3
    assert same(model.state_dict(), whole.state_dict())


def test_a_checkpoint_that_is_not_due_costs_epochs_and_changes_nothing(tmp_path: Path) -> None:
    whole, expected = run(RECIPE)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", every=60.0)
    with pytest.raises(StoppedError):
        run(RECIPE, report=stop_at(3), checkpoint=checkpoint)
    assert not checkpoint.path.exists()
    checkpoint.written -= 60
    with pytest.raises(StoppedError):
        run(RECIPE, report=stop_at(3), checkpoint=checkpoint)
    reported: list[int] = []
    model, found = run(
        RECIPE, report=lambda epoch: reported.append(epoch.epoch), checkpoint=checkpoint
    )
    assert reported == [2, 3]  # the second epoch's checkpoint was not due
    assert learned(found) == learned(expected)
    assert same(model.state_dict(), whole.state_dict())


def test_a_full_disk_is_an_os_error_and_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt")
    checkpoint.write({"a": "b"}, {"steps": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            checkpoint.write({"a": "b"}, {"steps": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint.read({"a": "b"}) == {"steps": 1}
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-before.pt", "checkpoint.pt"]
    checkpoint.remove()
    checkpoint.remove()
    assert os.listdir(tmp_path) == []
    assert checkpoint.read({"a": "b"}) is None


def test_pruned_at_a_word_of_the_report() -> None:
    model, result = run(RECIPE, report=lambda epoch: epoch.epoch == 2)
    assert (result.ended, result.epochs) == ("pruned", 2)
    assert "epoch 2" in result.reason
    assert evaluate(model, DATA.validation, CPU) == result.accuracy


# --- the teacher


def test_the_teacher_stays_what_it_was(tmp_path: Path) -> None:
    teacher = tiny.teacher()
    before = weights_hash(teacher.model)
    teacher.model.train()  # even handed over in training mode
    bank = LogitBank(tmp_path, teacher, DATA, SOFT, CPU)
    run(SOFT, teacher=bank)
    assert weights_hash(teacher.model) == before
    assert not any(part.training for part in teacher.model.modules())
    assert all(p.grad is None for p in teacher.model.parameters())


def test_without_a_teacher_a_soft_share_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a teacher"):
        run(SOFT)


def test_hard_phases_neither_use_nor_ask_the_teacher() -> None:
    recipe = RECIPE.with_settings({"epochs": 4, "phases": [[0.0, 0.5], [0.5, 0.0]]})
    teachers = [Logits(torch.full((70, 3), value)) for value in (0.0, math.nan)]
    run(recipe, teacher=teachers[0])
    assert teachers[0].asked == [0, 1]  # not in the two epochs of hard loss
    whole, _ = run(RECIPE)
    model, _ = run(RECIPE, teacher=teachers[1])
    assert teachers[1].asked == []
    assert same(model.state_dict(), whole.state_dict())


def test_a_phase_that_begins_within_an_epoch_asks_the_teacher_there() -> None:
    teacher = Logits(torch.zeros(70, 3))
    run(RECIPE.with_settings({"epochs": 2, "phases": [[0, 0], [0.7, 1]]}), teacher=teacher)
    assert teacher.asked == [1]


def learner_of(
    recipe: Recipe,
    *,
    model: nn.Module | None = None,
    data: Data = DATA,
    epoch: int = 0,
    teacher_NK: torch.Tensor | None = None,
    share: float = 0.0,
) -> Learner:
    """A learner before its first step, at a soft share."""
    batches = Batches(data.train, recipe, CPU)
    batches.begin(epoch, teacher_NK)
    learner = Learner(model or tiny.model(), recipe, batches, ComputeMode())
    learner.scalars.copy_(torch.tensor([0.0, 1 - share, share, 0.0]))
    return learner


def loss_of(recipe: Recipe, share: float, teacher_NK: torch.Tensor | None = None) -> torch.Tensor:
    """Summed over the first five images, of a model in evaluation mode."""
    model = tiny.model().eval()
    learner = learner_of(recipe, model=model, epoch=1, teacher_NK=teacher_NK, share=share)
    return learner.loss(learner.batches.batch(torch.arange(5)))


def test_the_mix_is_one_minus_share_hard_plus_share_soft() -> None:
    teacher_NK = torch.randn(70, 3, generator=torch.Generator().manual_seed(3))
    hard, mixed, soft = (loss_of(SOFT, share, teacher_NK) for share in (0.0, 0.25, 1.0))
    assert hard != soft
    torch.testing.assert_close(mixed, 0.75 * hard + 0.25 * soft)


def test_mixup_mixes_the_labels_as_it_mixes_the_views() -> None:
    recipe = SOFT.with_settings({"augment": {"mixup": 1.0}})
    index_N = torch.arange(5)
    views_NCHW, partner_N, weight_N = mixed_views(
        DATA.train.images_NCHW, index_N, seed=0, epoch=1, augment=recipe.augment
    )
    chances_NK = torch.log_softmax(tiny.model().eval()(views_NCHW), 1)
    labels_N = DATA.train.labels_N
    own_N, other_N = labels_N[index_N], labels_N[partner_N]
    assert (own_N != other_N).any()
    picked = zip(range(5), own_N, other_N, weight_N, strict=True)
    expected = sum(-w * chances_NK[i, a] - (1 - w) * chances_NK[i, b] for i, a, b, w in picked)
    torch.testing.assert_close(loss_of(recipe, 0.0), expected)


# --- memory


class Greedy(nn.Module):
    """Runs out of memory above so many images at once, in whatever mode."""

    def __init__(self, network: nn.Module, most: int, error: Exception) -> None:
        super().__init__()
        self.network, self.most, self.error = network, most, error
        self.sizes: list[int] = []
        self.failures = 0

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        if len(images_NCHW) > self.most and self.training:
            self.failures += 1
        if len(images_NCHW) > self.most:
            raise self.error
        self.sizes.append(len(images_NCHW))
        logits_NK: torch.Tensor = self.network(images_NCHW)
        return logits_NK


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize(("most", "micro"), [(16, 16), (15, 8), (8, 8), (5, 4), (3, 2), (2, 2)])
def test_out_of_memory_is_answered_by_smaller_parts_of_the_same_batch(
    most: int, micro: int
) -> None:
    network = Greedy(tiny.build(tiny.ARCHITECTURE, seed=0), most, OUT_OF_MEMORY)
    _, result = run(RECIPE, network=network)
    assert (result.ended, result.epochs, result.micro_batch) == ("finished", 3, micro)
    assert max(network.sizes) <= most


def test_a_batch_that_is_cut_for_memory_never_leaves_one_image() -> None:
    """On maps of one pixel, batch norm refuses to learn from a single image."""
    network = nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(1, 4, 1),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    greedy = Greedy(network, 3, OUT_OF_MEMORY)
    data = tiny.data(25)  # batches of 16 and of 9 images; the 9 do not go into parts of 2
    result = train(tiny.model(greedy), RECIPE, data, device=CPU)
    assert result.ended == "finished"
    learner = learner_of(RECIPE, model=tiny.model(network), data=data)
    for splits in (1, 2, 4, 8):
        learner.splits = splits
        for count in range(2, 17):
            batch = learner.batches.batch(torch.arange(count))
            parts = list(learner.parts(batch))
            assert min(map(len, parts)) >= 2
            assert torch.equal(torch.cat([part.pixels_PCHW for part in parts]), batch.pixels_PCHW)
            assert max(map(len, parts)) <= max(3, math.ceil(count / splits))


def test_memory_for_not_even_two_images_ends_the_run() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        run(RECIPE, network=Greedy(tiny.build(tiny.ARCHITECTURE, seed=0), 1, OUT_OF_MEMORY))


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    network = Greedy(tiny.build(tiny.ARCHITECTURE, seed=0), 8, RuntimeError("size mismatch"))
    with pytest.raises(RuntimeError, match="size mismatch"):
        run(RECIPE, network=network)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OUT_OF_MEMORY, True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("Expected more than 1 value per channel"), False),
    ],
)
def test_what_says_that_memory_ran_out(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_real_allocation_that_fails_is_recognised() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(error.value)


def without_norm() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(tiny.SIZE**2, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.mark.parametrize("mixup", [0.0, 1.0])
@pytest.mark.parametrize("count", [16, 13, 5])
def test_gradients_of_the_parts_are_those_of_the_whole_batch(count: int, mixup: float) -> None:
    recipe = SOFT.with_settings({"augment": {"mixup": mixup}})
    index_N = torch.arange(count)
    teacher_NK = torch.randn(70, 3, generator=torch.Generator().manual_seed(3))
    gradients, losses = [], []
    for splits in (1, 2, 4, 8):
        model = tiny.model(without_norm())
        learner = learner_of(recipe, model=model, teacher_NK=teacher_NK, share=0.5)
        learner.splits = splits
        losses.append(learner.accumulate(learner.batches.batch(index_N)))
        gradients.append([p.grad for p in model.parameters()])
    for loss, parts in zip(losses[1:], gradients[1:], strict=True):
        torch.testing.assert_close(loss, losses[0])
        torch.testing.assert_close(parts, gradients[0])


def test_running_out_half_way_through_a_batch_counts_nothing_twice() -> None:
    """The parts that went well before the failure must not stay in the gradient."""
    whole, _ = run(RECIPE, network=without_norm())

    class OnceOut(Greedy):
        def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
            if len(images_NCHW) == 8 and self.sizes.count(8) == 1:
                self.sizes.append(8)
                raise self.error
            return super().forward(images_NCHW)

    greedy = OnceOut(without_norm(), 8, OUT_OF_MEMORY)
    model, result = run(RECIPE, network=greedy)
    assert result.micro_batch == 4
    for left, right in zip(model.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def test_predicting_takes_fewer_images_at_once_where_memory_ends() -> None:
    network = Greedy(tiny.build(tiny.ARCHITECTURE, seed=0), 7, OUT_OF_MEMORY)
    images = DATA.train.images_NCHW
    parts = torch.cat(list(predict(tiny.model(network), images, CPU)))
    whole = torch.cat(list(predict(tiny.model(), images, CPU)))
    torch.testing.assert_close(parts, whole)
    network.most = 0
    with pytest.raises(torch.OutOfMemoryError):
        list(predict(tiny.model(network), images, CPU))


def test_smaller_parts_are_kept_over_a_resume(tmp_path: Path) -> None:
    def network() -> Greedy:
        return Greedy(tiny.build(tiny.ARCHITECTURE, seed=0), 5, OUT_OF_MEMORY)

    whole, expected = run(RECIPE, network=network())
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt")
    with pytest.raises(StoppedError):
        run(RECIPE, network=network(), report=stop_at(2), checkpoint=checkpoint)
    gone_on = network()
    model, result = run(RECIPE, network=gone_on, checkpoint=checkpoint)
    assert gone_on.failures == 0  # what fits was known
    assert learned(result) == learned(expected)
    assert result.micro_batch == expected.micro_batch == 4
    assert same(model.state_dict(), whole.state_dict())


# --- divergence


class Sick(nn.Module):
    """Its logits are worth nothing from some forward pass in training mode on."""

    def __init__(self, network: nn.Module, factor: float, after: int) -> None:
        super().__init__()
        self.network, self.factor, self.left = network, factor, after

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        self.left -= self.training
        logits_NK: torch.Tensor = self.network(images_NCHW)
        return logits_NK if self.left >= 0 else logits_NK * self.factor


@pytest.mark.parametrize("factor", [math.nan, math.inf, 1e8])
def test_divergence_is_an_outcome_with_a_reason(tmp_path: Path, factor: float) -> None:
    network = Sick(tiny.build(tiny.ARCHITECTURE, seed=0), factor, after=7)  # in the second epoch
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt")
    _, result = run(RECIPE, network=network, checkpoint=checkpoint)
    assert (result.ended, result.epochs) == ("diverged", 1)
    assert "epoch 2" in result.reason
    assert "\n" not in result.reason
    assert result.accuracy == result.history[0].accuracy


def test_diverged_before_the_first_epoch_was_over() -> None:
    _, result = run(RECIPE, network=Sick(tiny.build(tiny.ARCHITECTURE, seed=0), math.nan, 0))
    assert (result.ended, result.epochs, result.accuracy) == ("diverged", 0, 0.0)


def test_a_learning_rate_that_is_absurd_diverges() -> None:
    _, result = run(RECIPE.with_settings({"lr": 1e20, "warmup": 0.0, "epochs": 5}))
    assert result.ended == "diverged"


def test_clipping_bounds_the_step() -> None:
    recipe = RECIPE.with_settings(
        {"clip": 1e-3, "momentum": 0.0, "weight_decay": 0.0, "warmup": 0.0, "lr": 1.0}
    )
    learner = learner_of(recipe)
    before = [p.detach().clone() for p in learner.model.parameters()]
    learner.model.train()
    learner.step(learner.batches.batch(torch.arange(16)), StepScalars(1.0, 1.0, 0.0, 0.0))
    moved = zip(learner.model.parameters(), before, strict=True)
    length = math.sqrt(sum((p.detach() - b).square().sum().item() for p, b in moved))
    assert length == pytest.approx(1e-3, rel=1e-2)


# --- batches and steps


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(70, [16, 16, 16, 16, 6]), (64, [16] * 4), (65, [16] * 4), (66, [16] * 4 + [2]), (5, [5])],
)
def test_the_last_batch_is_used_unless_it_is_one_image(count: int, sizes: list[int]) -> None:
    found = list(batch_indices(count, RECIPE, 0))
    assert [len(index_N) for index_N in found] == sizes
    assert len(set(torch.cat(found).tolist())) == sum(sizes)
    assert steps_per_epoch(tiny.data(count), RECIPE) == len(sizes)
    again, other, seeded = (
        torch.cat(list(batch_indices(count, recipe, epoch)))
        for recipe, epoch in ((RECIPE, 0), (RECIPE, 1), (RECIPE.with_settings({"seed": 1}), 0))
    )
    assert torch.equal(again, torch.cat(found))
    if count > 5:
        assert not torch.equal(other, again)
        assert not torch.equal(seeded, again)


def test_every_step_has_the_learning_rate_of_its_progress() -> None:
    recipe = RECIPE.with_settings({"epochs": 2, "warmup": 0.2})
    used = []

    def seen(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        used.append([float(group["lr"]) for group in optimizer.param_groups])

    with register_optimizer_step_pre_hook(seen):
        run(recipe)
    rates = [
        learning_rate("cosine", step / 10, start=0.1, end=0.001, warmup=0.2) for step in range(10)
    ]
    assert [pytest.approx([rate, rate]) for rate in rates] == used


def test_one_batch_of_the_loss_is_its_mean_over_the_images() -> None:
    learner = learner_of(RECIPE, model=tiny.model().eval(), epoch=1)
    five = learner.accumulate(learner.batches.batch(torch.arange(5)))
    torch.testing.assert_close(five, loss_of(SOFT, 0.0).detach() / 5)


# --- weights


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_weight_decay_spares_biases_and_norms(name: str) -> None:
    """Without any gradient, only decayed parameters move."""
    model = tiny.model()
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
            p.grad = torch.zeros_like(p)
    settings = {"optimizer": name, "weight_decay": 0.1, "lr": 0.1}
    make_optimizer(model, RECIPE.with_settings(settings), 0.1).step()
    kinds: dict[str, set[bool]] = {"bias": set(), "norm.weight": set(), "weight": set()}
    for parameter, values in model.named_parameters():
        kind = next(kind for kind in ("bias", "norm.weight", "weight") if parameter.endswith(kind))
        kinds[kind].add(bool((values < 1).all()))
    assert kinds == {"bias": {False}, "norm.weight": {False}, "weight": {True}}


def test_frozen_parameters_stay() -> None:
    model = tiny.model()
    frozen = next(iter(model.parameters())).requires_grad_(False)
    before = frozen.clone()
    train(model, RECIPE.with_settings({"epochs": 1}), DATA, device=CPU)
    assert torch.equal(frozen, before)


def test_the_average_follows_the_weights_as_written() -> None:
    """a <- d a + (1 - d) p, d = min(decay, (1 + step) / (10 + step))."""
    values = iter(torch.randn(40, 4).double())
    model, average = nn.Linear(4, 1, bias=False).double(), nn.Linear(4, 1, bias=False).double()
    expected = average.weight.detach().clone()
    for step in range(40):
        with torch.no_grad():
            model.weight.copy_(next(values))
        averaging.update(average, model, torch.tensor(averaging.weight(0.6, step)).double())
        d = min(0.6, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * model.weight.detach()
        torch.testing.assert_close(average.weight.detach(), expected)


def test_what_is_returned_is_the_average_where_there_is_one() -> None:
    states = {}
    for ema in (0.0, 0.9):
        model = tiny.model()
        current: list[torch.Tensor] = []
        with register_optimizer_step_post_hook(
            lambda *_, c=current, m=model: c.append(next(m.parameters()).detach().clone())
        ):
            train(model, RECIPE.with_settings({"ema": ema}), DATA, device=CPU)
        states[ema] = current[-1]
        returned = next(model.parameters()).detach()
        assert torch.equal(returned, current[-1]) == (ema == 0)
    assert torch.equal(*states.values())  # averaging does not touch the training itself


def test_recalibration_gives_the_plain_means_over_the_batches() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout(0.5), nn.BatchNorm2d(4), nn.ReLU())
    norm: Any = network[2]
    with torch.no_grad():
        norm.running_mean.fill_(50)  # of other weights
    batches_ = [torch.randn(n, 1, 8, 8) * n for n in (5, 9, 6)]
    momentum = norm.momentum
    averaging.recalibrate(network, batches_, ComputeMode().autocast(CPU))
    seen = [network[0](batch).detach() for batch in batches_]
    means = torch.stack([part.mean((0, 2, 3)) for part in seen]).mean(0)
    variances = torch.stack([part.var((0, 2, 3)) for part in seen]).mean(0)
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)
    assert norm.momentum == momentum
    assert not network.training
    assert not norm.training


def test_every_epoch_is_evaluated_on_statistics_of_the_recipe_s_batches() -> None:
    recipe = RECIPE.with_settings({"ema": 0.0, "bn_batches": 3, "epochs": 1})
    model, _ = run(recipe)
    stem = next(part for part in model.modules() if isinstance(part, nn.BatchNorm2d))
    assert stem.num_batches_tracked == 3
    seen: list[torch.Tensor] = []
    before = next(part for part in model.modules() if isinstance(part, nn.Conv2d))
    before.register_forward_hook(lambda *args: seen.append(args[2].mean((0, 2, 3))))
    model.eval()
    for index_N in list(batch_indices(70, recipe, 0))[:3]:
        views, _, _ = mixed_views(
            DATA.train.images_NCHW, index_N, seed=0, epoch=0, augment=recipe.augment
        )
        model(views)
    torch.testing.assert_close(stem.running_mean, torch.stack(seen).detach().mean(0))


# --- the GPU


@pytest.mark.gpu
def test_learns_on_the_gpu_in_bfloat16(tmp_path: Path) -> None:
    device = torch.device("cuda")
    teacher = LogitBank(tmp_path, tiny.teacher(), DATA, SOFT, device)
    model = tiny.model()
    recipe = SOFT.with_settings({"epochs": 10, "phases": [[0, 0.1]]})
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt")
    with pytest.raises(StoppedError):
        train(
            tiny.model(),
            recipe,
            DATA,
            stop_at(5),
            device=device,
            teacher=teacher,
            checkpoint=checkpoint,
        )
    result = train(model, recipe, DATA, device=device, teacher=teacher, checkpoint=checkpoint)
    assert (result.ended, result.epochs) == ("finished", 10)
    assert result.accuracy > 0.6
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert "bf16, graphs" in result.mode


def test_bars_need_no_augmentation() -> None:
    """A check of `tiny`: its data can be learned, so that the rest means something."""
    _, result = run(RECIPE.with_settings({"epochs": 10, "augment": Augment().to_dict()}))
    assert result.accuracy > 0.9


# --- what a run costs besides its steps


def test_only_the_last_epoch_is_evaluated_in_float32_where_steps_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enabled = []
    original = evaluate

    def evaluated(model: Any, split: Any, device: Any, autocast: Any) -> float:
        enabled.append(autocast._enabled)
        return original(model, split, device, autocast)

    monkeypatch.setattr(engine, "evaluate", evaluated)
    run(RECIPE, mode=ComputeMode(precision="bf16"))
    run(RECIPE, mode=ComputeMode())
    assert enabled == [True, True, False, False, False, False]


def test_kept_memory_is_not_fetched_again() -> None:
    """In a process of its own: the setting is the process's."""
    program = """
import resource, torch
from trainers.engine.memory import keep_freed_memory
keep_freed_memory()
def fill():
    for _ in range(20):
        torch.ones(5_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
first = fill()
print(fill() - first)
"""
    root = Path(__file__).parents[1]
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("needs glibc")
    faults = int(subprocess.check_output([sys.executable, "-c", program], cwd=root))
    assert faults < 1000  # of 20 x 4,883 pages
