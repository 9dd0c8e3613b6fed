"""Recipes: there and back, what tells them apart, and one clear line for what they refuse."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from space.errors import InputError
from space.file_format import RECIPE_DIGITS
from trainers.losses import LOSSES
from trainers.policies import POLICIES, Augment
from trainers.recipe import LOSS_SETTINGS, OPTIMIZERS, RECIPES, Recipe, recipe
from trainers.schedules import SCHEDULES

# One other valid value for every setting; the tests below fail when a setting is missing here.
OTHER: dict[str, Any] = {
    "epochs": 31,
    "batch": 32,
    "optimizer": "adamw",
    "lr": 0.2,
    "lr_end": 0.002,
    "schedule": "linear",
    "warmup": 0.1,
    "momentum": 0.8,
    "weight_decay": 1e-4,
    "loss": "dkd",
    "temperature": 2.0,
    "phases": [[0.0, 0.5], [0.5, 0.0]],
    "label_smoothing": 0.1,
    "ema": 0.9,
    "bn_batches": 9,
    "clip": 1.0,
    "augment": "light",
    "seed": 1,
    "view_seed": 1,
    "precision": "fp32",
    "beta": 2.0,
    "soft_warmup": 0.1,
    "views": 3,
}
OTHER_AUGMENT: dict[str, Any] = {
    "scale_min": 0.5,
    "ratio_max": 1.5,
    "shift": 0.2,
    "flip": 0.25,
    "rotation": 5.0,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
    "mixup": 0.2,
    "padding": "zeros",
}


def refusal(settings: dict[str, Any]) -> str:
    with pytest.raises(InputError) as error:
        Recipe().with_settings(settings)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


# --- there and back


@pytest.mark.parametrize("name", RECIPES)
def test_presets_there_and_back_through_json(name: str) -> None:
    original = RECIPES[name]
    original.check()
    back = Recipe.from_dict(json.loads(json.dumps(original.to_dict())))
    assert back == original
    assert back.fingerprint == original.fingerprint
    assert recipe(name) is original


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "epochs": st.integers(1, 999),
            "batch": st.integers(2, 999),
            "optimizer": st.sampled_from(OPTIMIZERS),
            "lr": st.floats(0.01, 10) | st.integers(1, 10),
            "schedule": st.sampled_from(sorted(SCHEDULES)),
            "loss": st.sampled_from(sorted(LOSSES)),
            "temperature": st.floats(0.1, 100) | st.integers(1, 100),
            "phases": st.lists(st.floats(0, 1) | st.integers(0, 1), max_size=3).map(
                lambda shares: [[0, 1], *([i / 3, share] for i, share in enumerate(shares))]
            ),
            "augment": st.sampled_from(sorted(POLICIES))
            | st.fixed_dictionaries(
                {}, optional={"rotation": st.integers(0, 180), "flip": st.floats(0, 1)}
            ),
            "seed": st.integers(-5, 2**40),
        },
    )
)
def test_any_recipe_there_and_back_through_json(settings: dict[str, Any]) -> None:
    original = Recipe().with_settings(settings)
    back = Recipe.from_dict(json.loads(json.dumps(original.to_dict())))
    assert back == original
    assert back.fingerprint == original.fingerprint


def test_changing_settings_leaves_the_rest_and_the_original() -> None:
    before = RECIPES["report-sgd"]
    after = before.with_settings({"lr": 1, "augment": {"flip": 0}})
    assert after == replace(before, lr=1.0, augment=replace(before.augment, flip=0.0))
    assert before == RECIPES["report-sgd"] != after


# --- fingerprints


def test_every_setting_tells_recipes_apart() -> None:
    assert OTHER.keys() == {f.name for f in fields(Recipe)}
    assert OTHER_AUGMENT.keys() == {f.name for f in fields(Augment)}
    changed = [Recipe().with_settings({name: value}) for name, value in OTHER.items()]
    changed += [
        Recipe().with_settings({"augment": {name: value}}) for name, value in OTHER_AUGMENT.items()
    ]
    prints = {each.fingerprint for each in (Recipe(), *changed)}
    assert len(prints) == 1 + len(OTHER) + len(OTHER_AUGMENT)
    assert {len(each) for each in prints} == {RECIPE_DIGITS}


def test_equal_recipes_have_equal_fingerprints_however_they_are_written() -> None:
    whole = Recipe(lr=1, phases=((0, 1),), augment=Augment(rotation=15, mixup=1))
    point = Recipe(lr=1.0, phases=((0.0, 1.0),), augment=Augment(rotation=15.0, mixup=1.0))
    assert whole == point
    assert whole.fingerprint == point.fingerprint


def test_fingerprint_is_the_same_in_another_process_and_version() -> None:
    """Raise nothing lightly: checkpoints and files carry it."""
    plain = Recipe(augment=Augment())
    assert plain.fingerprint == "6964e189387b"


# --- what is refused


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rate": 0.1}, "'learning_rate'; known: epochs, batch, optimizer, lr"),
        ({"augment": {"colour": 1.0}}, "augment: unknown setting 'colour'; known: scale_min"),
        ({"new\nline": 1}, r"new\nline"),
        ({"epochs": 1.5}, "epochs must be a whole number, but got 1.5"),
        ({"epochs": True}, "epochs must be a whole number, but got True"),
        ({"epochs": "3"}, "epochs must be a whole number, but got '3'"),
        ({"lr": "0.1"}, "lr must be a number, but got '0.1'"),
        ({"lr": True}, "lr must be a number, but got True"),
        ({"lr": None}, "lr must be a number, but got None"),
        ({"lr": 10**400}, "lr must be finite"),
        ({"optimizer": 3}, "optimizer must be text"),
        ({"augment": 3}, "augment must be a policy's name or a table"),
        ({"augment": {"flip": "x" * 5_000}}, "augment: flip must be a number"),
        ({"augment": {"padding": 0}}, "augment: padding must be text"),
        ({"phases": 0.5}, "phases must be pairs of numbers"),
        ({"phases": "01"}, "phases must be pairs of numbers"),
        ({"phases": ["01"]}, "phases must be pairs of numbers"),
        ({"phases": [[0.0, "1"]]}, "phases must be pairs of numbers"),
        ({"phases": [[0.0, 0.5, 1.0]]}, "phases must be pairs of numbers"),
        ({"phases": {"0": 1}}, "phases must be pairs of numbers"),
        ({"phases": [[10**400, 1]]}, "phases must be pairs of numbers"),
        ({"optimizer": "lion"}, "one of sgd, adam, adamw, but got 'lion'"),
        ({"schedule": "poly"}, "one of constant, linear, cosine, step"),
        ({"loss": "fitnet"}, "one of kd, kd-standardised, dkd, dist"),
        ({"augment": "wild"}, "one of none, light, standard, digits"),
        ({"augment": {"flip": 1.5}}, "flip must be from 0 to 1"),
        ({"augment": {"padding": "wrap"}}, "padding must be one of"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch": 1}, "batch must be at least 2"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr": -1.0}, "lr must be above 0"),
        ({"lr": 0.1, "lr_end": 0.2}, "lr_end must be from 0 to lr"),
        ({"lr_end": -0.1}, "lr_end must be from 0 to lr"),
        ({"schedule": "step", "lr_end": 0.0}, "lr_end must be above 0"),
        ({"warmup": 1.0}, "warmup must be from 0 to below 1"),
        ({"momentum": 1.0}, "momentum must be from 0 to below 1"),
        ({"weight_decay": -1e-9}, "weight_decay must be at least 0"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"beta": -1.0}, "beta must be at least 0"),
        ({"soft_warmup": 1.0}, "soft_warmup must be from 0 to below 1"),
        ({"views": -1}, "views must be at least 0 epochs"),
        ({"label_smoothing": 1.0}, "label_smoothing must be in"),
        ({"ema": 1.0}, "ema must be from 0 to below 1"),
        ({"bn_batches": 0}, "bn_batches must be at least 1"),
        ({"clip": -1.0}, "clip must be at least 0"),
        ({"phases": []}, "the first at 0"),
        ({"phases": [[0.1, 0.5]]}, "the first at 0"),
        ({"phases": [[0.0, 0.5], [0.5, 0.0], [0.4, 1.0]]}, "ascending"),
        ({"phases": [[0.0, 1.5]]}, "from 0 to 1"),
        ({"phases": [[0.0, -0.5]]}, "from 0 to 1"),
    ],
)
def test_refused_in_one_clear_line(settings: dict[str, Any], words: str) -> None:
    assert words in refusal(settings)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", [f.name for f in fields(Recipe) if f.type is float])
def test_numbers_must_be_finite(name: str, value: float) -> None:
    assert name in refusal({name: value})
    assert "phases" in refusal({"phases": [[0.0, value]]})
    assert "phases" in refusal({"phases": [[0.0, 0.5], [value, 0.5]]})


def test_unknown_preset_lists_the_known() -> None:
    with pytest.raises(InputError, match="report-sgd, report-adam"):
        recipe("report")


# --- the report's two recipes, as the issue has them


def test_report_sgd() -> None:
    report = RECIPES["report-sgd"]
    assert (report.batch, report.epochs, report.optimizer) == (64, 400, "sgd")
    assert (report.lr, report.lr_end, report.momentum) == (0.1, 0.01, 0.9)
    assert report.phases == ((0.0, 0.5), (250 / 400, 0.0))
    assert (report.loss, report.schedule) == ("kd", "linear")
    assert report.needs_teacher


def test_report_adam() -> None:
    report = RECIPES["report-adam"]
    assert (report.epochs, report.optimizer, report.lr) == (100, "adam", 1e-3)
    assert (report.schedule, report.phases) == ("constant", ((0.0, 0.5),))
    assert report.needs_teacher


@pytest.mark.parametrize("name", ["teacher-scratch", "teacher-finetune", "teacher-digits"])
def test_teachers_are_taught_without_a_teacher(name: str) -> None:
    assert not RECIPES[name].needs_teacher
    assert RECIPES[name].label_smoothing == 0  # what a student learns from is in soft answers


# --- losses at their authors' settings


# Weight of cross-entropy, of the soft loss, temperature: as their papers and code have them.
PUBLISHED = {
    "kd": (0.1, 0.9, 4.0),
    "kd-standardised": (0.1, 9.0, 2.0),
    "dkd": (1.0, 1.0, 4.0),
    "dist": (1.0, 1.0, 4.0),
    "wttm": (1.0, 45.0, 10.0),
}


@pytest.mark.parametrize("loss", LOSS_SETTINGS)
def test_a_loss_that_is_named_brings_its_published_settings(loss: str) -> None:
    hard, soft, temperature = PUBLISHED[loss]
    taught = RECIPES["default"].with_settings({"loss": loss})
    assert taught.temperature == temperature
    ((begin, share),) = taught.phases
    assert begin == 0
    assert share == pytest.approx(soft / (hard + soft))
    assert (taught.beta, taught.soft_warmup) == ((2.0, 20 / 240) if loss == "dkd" else (8.0, 0.0))
    stated = taught.with_settings({"loss": loss, "temperature": 3, "phases": [[0, 0.3]]})
    assert (stated.temperature, stated.phases) == (3, ((0, 0.3),))
    assert taught.with_settings({"beta": 5, "lr": 0.05}).beta == 5


def test_a_loss_leaves_when_the_teacher_is_heard_as_it_is() -> None:
    """Its share takes the place of the others', but hard only stays hard only."""
    named = RECIPES["report-sgd"].with_settings({"loss": "kd-standardised"})
    assert named.phases == ((0.0, 9 / 9.1), (250 / 400, 0.0))
    assert not RECIPES["teacher-scratch"].with_settings({"loss": "dkd"}).needs_teacher


def test_what_was_written_before_a_setting_was_there_is_read_as_it_was() -> None:
    old = Recipe().to_dict() | {"loss": "dkd"}
    assert not {"beta", "soft_warmup", "views"} & old.keys()
    read = Recipe.from_dict(old)
    assert (read.temperature, read.phases, read.beta) == (4.0, ((0.0, 0.5),), 8.0)
    assert read.to_dict() == old


@pytest.mark.parametrize(
    ("views", "phases", "heard"),
    [
        (0, [[0, 1]], [0, 1, 2, 3, 4, 5]),
        (4, [[0, 1]], [0, 1, 2, 3]),
        (4, [[0, 0], [0.5, 1]], [0, 1, 3]),
        (9, [[0, 1], [0.5, 0]], [0, 1, 2]),
        (2, [[0, 0]], []),
    ],
)
def test_views_are_taken_in_turn(views: int, phases: Any, heard: list[int]) -> None:
    turns = Recipe().with_settings({"epochs": 6, "views": views, "phases": phases})
    assert turns.heard_views == heard
    assert [turns.view_epoch(epoch) for epoch in (0, 5)] == [0, 5 % views if views else 5]
