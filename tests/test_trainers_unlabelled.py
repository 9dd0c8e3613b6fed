"""Images without labels: a teacher alone speaks of them, and all else stays what it was."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from folders import quietly, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from test_trainers_engine import Logits, StoppedError, learned, stop_at
from test_trainers_graphs import OnCpu
from tiny import CPU, RECIPE, SOFT, one_thread, same

from space.errors import InputError
from trainers.data.datasets import Data, Split, load
from trainers.data.mixing import mixing
from trainers.data.survey import survey
from trainers.data.unlabelled import with_unlabelled
from trainers.engine import learner as learners
from trainers.engine.batches import Batches
from trainers.engine.checkpoint import Checkpoint
from trainers.engine.learner import Learner
from trainers.engine.modes import ComputeMode
from trainers.engine.steps import images_per_epoch, steps_per_epoch
from trainers.engine.training import _Training, train
from trainers.losses import NO_LABEL, hard_loss, soft_loss
from trainers.recipe import Recipe
from trainers.teachers.bank import LogitBank, bank_key

__all__ = ["one_thread"]

LABELLED, UNLABELLED = 40, 30
WITHOUT = tiny.data(LABELLED)
SOME = replace(
    WITHOUT,
    unlabelled=Split(tiny.split(UNLABELLED, 5).images_NCHW, torch.full((UNLABELLED,), NO_LABEL)),
    unlabelled_fingerprint="feedfeedfeed",
)
TEACHER_NK = torch.randn(LABELLED + UNLABELLED, 3, generator=torch.Generator().manual_seed(3)) * 3
MIXES: dict[str, dict[str, float]] = {"none": {}, "mixup": {"mixup": 1.0}, "cutmix": {"cutmix": 1}}
Make = Callable[[Path, Mapping[str, int]], Path]


def batches_of(data: Data, recipe: Recipe) -> Batches:
    return Batches(data.train, recipe, CPU, data.unlabelled)


def learner_of(recipe: Recipe, share: float, rise: float = 1.0, *, heard: bool = True) -> Learner:
    """A learner in evaluation mode, in epoch 1, at a soft share; `rise`: of the warm-up of it."""
    batches = batches_of(SOME, recipe)
    batches.begin(1, TEACHER_NK if heard else None)
    learner = Learner(tiny.model().eval(), recipe, batches, ComputeMode())
    learner.scalars.copy_(torch.tensor([0.0, 1 - share, share * rise, 0.0]))
    return learner


# --- the loss


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("loss", ["kd", "dkd", "dist"])
@pytest.mark.parametrize(
    ("share", "rise"), [(0.0, 1.0), (0.25, 1.0), (0.9, 1.0), (1.0, 1.0), (0.5, 0.3), (0.5, 0.0)]
)
def test_each_image_has_its_losses(mix: str, loss: str, share: float, rise: float) -> None:
    """Worked out image by image, by the definition."""
    recipe = SOFT.with_settings({"augment": MIXES[mix]})
    recipe = replace(recipe, loss=loss, label_smoothing=0.1)
    learner, alone = learner_of(recipe, share, rise), rise if share else 0.0
    index_N = torch.tensor([3, 50, 7, 69, 12, 41])
    batch = learner.batches.batch(index_N)
    with torch.no_grad():
        logits_NK = learner.model(learner.batches.views(batch))
        found = learner.loss(batch)
    labels = [*WITHOUT.train.labels_N.tolist(), *[None] * UNLABELLED]
    partner_N, weight_N, _ = mixing(
        index_N, LABELLED + UNLABELLED, seed=0, epoch=1, augment=recipe.augment
    )
    guessed_N = TEACHER_NK[index_N].argmax(1)
    own_N = torch.tensor(
        [guessed_N[n] if labels[i] is None else labels[i] for n, i in enumerate(index_N)]
    )
    soft_N = soft_loss(loss)(logits_NK, TEACHER_NK[index_N], own_N, recipe.temperature)
    expected, counted = torch.zeros(()), 0.0
    for place, (index, partner) in enumerate(zip(index_N, partner_N, strict=True)):
        weight = weight_N[place].item()
        parts = [(int(index), weight), (int(partner), 1 - weight)]
        for image, part in parts if mix != "none" else [(int(index), 1.0)]:
            label = labels[image]
            if label is None:
                expected += part * soft_N[place] * alone
                counted += part * alone
            else:
                hard = hard_loss(logits_NK[place : place + 1], torch.tensor([label]), 0.1)[0]
                expected += part * ((1 - share) * hard + share * rise * soft_N[place])
                counted += part
    torch.testing.assert_close(found, expected)
    assert float(learner.counted(batch)) == pytest.approx(max(1, counted), abs=1e-4)


def test_where_no_teacher_is_heard_they_teach_nothing() -> None:
    learner = learner_of(SOFT, 0.0, heard=False)
    batch = learner.batches.batch(torch.arange(40, 56))
    assert learner.counted(batch) == 1  # and not 0
    loss = learner.accumulate(batch)
    assert loss == 0
    assert all((p.grad == 0).all() for p in learner.model.parameters() if p.grad is not None)
    # Among others they do not make steps smaller.
    labelled = learner.accumulate(learner.batches.batch(torch.arange(6)))
    among = learner.accumulate(learner.batches.batch(torch.tensor([*range(6), *range(40, 50)])))
    torch.testing.assert_close(among, labelled)


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_gradients_of_the_parts_are_those_of_the_whole_batch(share: float, mix: str) -> None:
    recipe = SOFT.with_settings({"augment": MIXES[mix]})
    found = []
    for splits in (1, 2, 5):
        learner = learner_of(recipe, share)
        learner.splits = splits
        loss = learner.accumulate(learner.batches.batch(torch.arange(32, 48)))
        found.append((loss, [p.grad for p in learner.model.parameters()]))
    for parts in found[1:]:
        torch.testing.assert_close(parts, found[0])


def test_no_label_has_no_loss_and_no_gradient() -> None:
    logits_NK = torch.randn(4, 3, requires_grad=True)
    loss_N = hard_loss(logits_NK, torch.tensor([0, NO_LABEL, 2, NO_LABEL]), 0.1)
    loss_N.sum().backward()
    assert logits_NK.grad is not None
    assert (loss_N == 0).tolist() == [False, True, False, True]
    assert (logits_NK.grad == 0).all(1).tolist() == [False, True, False, True]


# --- a run


def run(recipe: Recipe, data: Data, **options: Any) -> tuple[Any, Any]:
    model = tiny.model()
    return model, train(model, recipe, data, device=CPU, **options)


def test_they_teach_what_labels_do_not_tell() -> None:
    """Without labels of the third class a student learns it from a teacher that knows it."""
    train_on = WITHOUT.train
    kept_N = train_on.labels_N != 2
    split = Split(train_on.images_NCHW[kept_N], train_on.labels_N[kept_N])
    few = replace(WITHOUT, train=split)
    data = replace(few, unlabelled=SOME.unlabelled)
    truth_N = torch.cat([few.train.labels_N, tiny.split(UNLABELLED, 5).labels_N])
    teacher = Logits(torch.nn.functional.one_hot(truth_N, 3).float() * 10)
    recipe = SOFT.with_settings({"epochs": 12, "ema": 0.0})
    _, alone = run(recipe, few, teacher=Logits(teacher.logits_NK[: len(few.train)]))
    _, both = run(recipe, data, teacher=teacher)
    assert alone.accuracy < 0.7  # it never says "bottom"
    assert both.accuracy > 0.85


@pytest.mark.parametrize("recipe", [RECIPE, SOFT], ids=["hard", "soft"])
def test_who_hears_no_teacher_does_as_without_them(recipe: Recipe) -> None:
    """A teacher's own training, too: to the bit, steps and checkpoints included."""
    heard = recipe.needs_teacher
    images = LABELLED + (UNLABELLED if heard else 0)
    assert images_per_epoch(SOME, recipe) == images
    assert steps_per_epoch(SOME, recipe) == -(-images // recipe.batch)
    teacher = Logits(TEACHER_NK[:images]) if heard else None
    first = _Training(tiny.model(), recipe, SOME, CPU, teacher)
    second = _Training(tiny.model(), recipe, WITHOUT, CPU, teacher)
    assert (first.identity == second.identity) != heard
    if not heard:
        model, result = run(recipe, SOME)
        other, expected = run(recipe, WITHOUT)
        assert learned(result) == learned(expected)
        assert same(model.state_dict(), other.state_dict())


def test_stopped_and_gone_on_with_equals_uninterrupted(tmp_path: Path) -> None:
    recipe = SOFT.with_settings(
        {"phases": [[0, 0.5], [0.5, 0]], "augment": {"cutmix": 1.0, "mixup": 0.4}}
    )
    teacher = tiny.teacher()
    whole, expected = run(recipe, SOME, teacher=LogitBank(tmp_path, teacher, SOME, recipe, CPU))
    bank = LogitBank(tmp_path, teacher, SOME, recipe, CPU)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt")
    for stop in (2, 3):
        with pytest.raises(StoppedError):
            run(recipe, SOME, teacher=bank, report=stop_at(stop), checkpoint=checkpoint)
    model, result = run(recipe, SOME, teacher=bank, checkpoint=checkpoint)
    assert learned(result) == learned(expected)
    assert same(model.state_dict(), whole.state_dict())


def test_every_image_is_in_an_epoch_once() -> None:
    batches = batches_of(SOME, SOFT)
    every_NCHW = torch.cat([SOME.train.images_NCHW, tiny.split(UNLABELLED, 5).images_NCHW])
    seen = torch.cat([batch.pixels_PCHW for batch in batches])
    assert sorted(image.numpy().tobytes() for image in seen) == sorted(
        image.numpy().tobytes() for image in every_NCHW
    )
    assert batches.images_NCHW is SOME.train.images_NCHW  # nothing was copied to join them
    alone = batches_of(WITHOUT, SOFT)
    assert alone.more_NCHW is None
    assert not alone.some_unlabelled


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, LABELLED + UNLABELLED - 1), min_size=1, max_size=20))
def test_images_of_two_tensors_are_read_as_of_one(places: list[int]) -> None:
    assert SOME.unlabelled is not None
    batches = batches_of(SOME, SOFT)
    joined_NCHW = torch.cat([SOME.train.images_NCHW, SOME.unlabelled.images_NCHW])
    assert torch.equal(batches.pixels(torch.tensor(places)), joined_NCHW[places])


@pytest.mark.parametrize("phases", [[[0, 0.5]], [[0, 1], [0.5, 0]]])
def test_graphed_steps_are_eager_steps(
    phases: list[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learners, "GraphedStep", OnCpu)
    augment = {"cutmix": 1.0, "mixup": 0.4, "mix_probability": 0.8}
    recipe = SOFT.with_settings({"phases": phases, "augment": augment})
    teacher = Logits(TEACHER_NK)
    eager, expected = run(recipe, SOME, teacher=teacher, mode=ComputeMode())
    graphed, found = run(recipe, SOME, teacher=teacher, mode=ComputeMode(graphs=True))
    assert found.fallback == ""
    assert learned(found) == learned(expected)
    assert same(graphed.state_dict(), eager.state_dict())


# --- the bank


@pytest.mark.parametrize("mix", MIXES)
def test_the_bank_has_a_row_for_each(tmp_path: Path, mix: str) -> None:
    recipe = SOFT.with_settings({"augment": MIXES[mix]})
    teacher = tiny.teacher()
    bank = LogitBank(tmp_path, teacher, SOME, recipe, CPU)
    kept_NK = bank.epoch_logits(2)
    assert kept_NK.shape == (LABELLED + UNLABELLED, 3)
    assert bank.path(2).stat().st_size == (LABELLED + UNLABELLED) * 3 * 2 + 32
    batches = batches_of(SOME, recipe)
    batches.begin(2)
    for index_N in torch.randperm(LABELLED + UNLABELLED).split(16):
        with torch.no_grad():
            live_NK = teacher.model.eval()(batches.views(batches.batch(index_N)))
        torch.testing.assert_close(kept_NK[index_N], live_NK, rtol=1e-3, atol=1e-3)


def test_the_key_hangs_on_them() -> None:
    teacher = tiny.teacher()
    others = replace(SOME, unlabelled_fingerprint="beefbeefbeef")
    keys = {bank_key(teacher, data, SOFT, "fp32") for data in (WITHOUT, SOME, others)}
    assert len(keys) == 3
    assert bank_key(teacher, SOME.labelled, SOFT, "fp32") in keys


# --- the folder


@pytest.fixture
def photos(tmp_path: Path, make_folder: Make) -> Path:
    counts = {"train/a/{}.jpg": 6, "train/b/{}.jpg": 6, "val/a/{}.jpg": 2, "val/b/{}.jpg": 2}
    return make_folder(tmp_path / "photos", counts)


def test_a_folder_of_any_depth(
    tmp_path: Path, photos: Path, cache: Path, make_photograph: Any
) -> None:
    for seed, name in enumerate(("x.jpg", "deep/er/y.png", "deep/z.webp")):
        make_photograph(tmp_path / "more" / name, 100 + seed)
    (tmp_path / "more/notes.txt").write_text("none")
    data = quietly(photos, cache)
    joined = with_unlabelled(data, str(tmp_path / "more"), cache=cache, progress=False)
    assert joined.unlabelled is not None
    assert len(joined.unlabelled) == 3
    assert joined.unlabelled.labels_N.tolist() == [NO_LABEL] * 3
    assert joined.fingerprint == data.fingerprint
    assert "12 images to train on, 3 without labels, 4 to validate on" in joined.words
    assert joined.labelled.words == data.words
    (tmp_path / "more").rename(tmp_path / "moved")
    again = with_unlabelled(data, str(tmp_path / "moved"), cache=cache, progress=False)
    assert again.unlabelled_fingerprint == joined.unlabelled_fingerprint
    make_photograph(tmp_path / "moved/new.jpg", 200)
    changed = with_unlabelled(data, str(tmp_path / "moved"), cache=cache, progress=False)
    assert changed.unlabelled_fingerprint != joined.unlabelled_fingerprint


def test_they_are_there_at_every_size(photos: Path, cache: Path, make_folder: Make) -> None:
    more = make_folder(photos.parent / "more", {"{}.jpg": 4})
    data = load(str(photos), 16, others=[8, 16], cache=cache, progress=False)
    joined = with_unlabelled(data, str(more), cache=cache, progress=False)
    for size in (8, 16):
        there = joined.at(size)
        assert there.unlabelled is not None
        assert there.unlabelled.images_NCHW.shape == (4, 3, size, size)
        assert joined.labelled.at(size).unlabelled is None
    prints = {joined.at(size).unlabelled_fingerprint for size in (8, 16)}
    assert len(prints) == 1


@pytest.mark.parametrize("made", ["missing", "file", "empty", "text"])
def test_folders_that_hold_none(photos: Path, cache: Path, made: str) -> None:
    folder = photos.parent / "more"
    if made == "file":
        folder.write_text("no folder")
    elif made != "missing":
        folder.mkdir()
    if made == "text":
        (folder / "notes.txt").write_text("no photograph")
    with pytest.raises(InputError, match="unlabelled must be a folder of photographs") as error:
        with_unlabelled(quietly(photos, cache), str(folder), cache=cache, progress=False)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_digits_have_no_photographs(photos: Path, cache: Path) -> None:
    assert "nothing there" in refused("nowhere", cache)
    with pytest.raises(InputError, match="images of one channel"):
        with_unlabelled(tiny.data(), str(photos), cache=cache)


def test_photographs_to_judge_by_are_found_among_them(
    photos: Path, cache: Path, make_folder: Make
) -> None:
    more = make_folder(photos / "more", {"{}.jpg": 0, "new/{}.jpg": 2})
    (more / "copy.jpg").write_bytes((photos / "val/a/1.jpg").read_bytes())
    data = with_unlabelled(quietly(photos, cache), str(more), cache=cache, progress=False)
    seen = survey(str(photos), data, cache, str(more))
    assert seen.unlabelled == len(data.unlabelled or ())
    told = [remark for remark in seen.remarks if "without labels" in remark]
    assert told[0].startswith("1 photograph of the validation split is also among those without")
    assert "val/a/1.jpg is more/copy.jpg" in told[0]
    # A folder within the data's is no folder of which nothing is read.
    assert not [remark for remark in seen.remarks if "no split's name" in remark]
    assert [r for r in survey(str(photos), data.labelled, cache).remarks if "no split's name" in r]
