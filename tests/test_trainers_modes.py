"""Modes: measured, kept over a kill, and different in nothing but rounding."""

from pathlib import Path

import pytest
import tiny
import torch
from test_trainers_engine import DATA, StoppedError, learned, run, stop_at
from tiny import CPU, RECIPE, one_thread, same

from trainers.engine import modes
from trainers.engine import training as engine
from trainers.engine.checkpoint import Checkpoint
from trainers.engine.modes import GAIN, ComputeMode, default_mode, measured_mode
from trainers.engine.training import images_per_second, seconds_per_epoch, train

__all__ = ["one_thread"]

CONTIGUOUS, BF16 = ComputeMode(layout="contiguous"), ComputeMode(precision="bf16")
BOTH = ComputeMode(layout="contiguous", precision="bf16")


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modes, "has_bfloat16", lambda device: True)


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({}, ComputeMode()),
        ({CONTIGUOUS: 0.99 / GAIN}, CONTIGUOUS),
        ({CONTIGUOUS: 1.01 / GAIN}, ComputeMode()),  # too little to be more than noise
        ({BF16: 0.5}, BF16),
        ({CONTIGUOUS: 0.5, BOTH: 0.3}, BOTH),
        ({CONTIGUOUS: 0.5, BF16: 0.1}, CONTIGUOUS),
    ],
)
def test_the_fastest_mode_is_chosen(
    seconds: dict[ComputeMode, float], expected: ComputeMode
) -> None:
    assert measured_mode(lambda mode: seconds.get(mode, 1.0), CPU) == expected


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_that_was_asked_for_is_kept(precision: str) -> None:
    asked: list[ComputeMode] = []
    measured_mode(lambda mode: asked.append(mode) or 1.0, CPU, precision)  # type: ignore[func-returns-value]
    assert {mode.precision for mode in asked} == {precision}


def test_bfloat16_is_not_tried_where_the_processor_emulates_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert measured_mode(lambda mode: 0.1 if mode == BF16 else 1.0, CPU) == ComputeMode()


def test_defaults() -> None:
    assert default_mode(CPU) == ComputeMode()
    assert default_mode(CPU, "bf16") == BF16
    assert ComputeMode().words == "channels_last, fp32"
    assert ComputeMode("contiguous", "bf16", True).words == "contiguous, bf16, graphs"


@pytest.mark.parametrize("mode", [CONTIGUOUS, BF16, BOTH])
def test_modes_differ_in_rounding_only(mode: ComputeMode) -> None:
    recipe = RECIPE.with_settings({"epochs": 10})
    _, expected = run(recipe)
    model, found = run(recipe, mode=mode)
    assert found.mode == mode.words
    tolerance = 0.05 if mode.precision == "bf16" else 1e-3
    for epoch, other in zip(found.history, expected.history, strict=True):
        assert epoch.loss == pytest.approx(other.loss, abs=tolerance)
    assert all(tensor.dtype != torch.bfloat16 for tensor in model.state_dict().values())


def test_a_measured_mode_outlives_a_kill_before_the_first_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "STEPS_WORTH_MEASURING", 1)
    monkeypatch.setattr(engine, "measured_mode", lambda *_: CONTIGUOUS)
    whole, expected = run(RECIPE)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt")
    with pytest.raises(StoppedError):
        run(RECIPE, report=stop_at(1), checkpoint=checkpoint)
    monkeypatch.setattr(engine, "measured_mode", lambda *_: pytest.fail("measured twice"))
    model, found = run(RECIPE, checkpoint=checkpoint)
    assert found.mode == expected.mode == "contiguous, fp32"
    assert learned(found) == learned(expected)
    assert same(model.state_dict(), whole.state_dict())


def test_measuring_leaves_the_run_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    untouched, expected = run(RECIPE, mode=ComputeMode())
    monkeypatch.setattr(engine, "STEPS_WORTH_MEASURING", 1)
    measured: list[ComputeMode] = []
    monkeypatch.setattr(modes, "GAIN", 1e9)  # whatever is measured, the default stays
    original = engine._Training.seconds_a_step

    def noted(training: engine._Training, mode: ComputeMode) -> float:
        measured.append(mode)
        return original(training, mode)

    monkeypatch.setattr(engine._Training, "seconds_a_step", noted)
    model, found = run(RECIPE)
    assert len(measured) > 1
    assert learned(found) == learned(expected)
    assert same(model.state_dict(), untouched.state_dict())


def test_short_runs_measure_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "measured_mode", lambda *_: pytest.fail("measured"))
    assert run(RECIPE)[1].mode == "channels_last, fp32"


def test_speeds_are_of_this_model() -> None:
    speed = images_per_second(tiny.model(), RECIPE, DATA, CPU, 0.2)
    assert 100 < speed < 1e6
    assert 0 < seconds_per_epoch(tiny.model(), RECIPE, DATA, CPU) < 5


def test_a_given_mode_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "STEPS_WORTH_MEASURING", 1)
    monkeypatch.setattr(engine, "measured_mode", lambda *_: pytest.fail("measured"))
    result = train(tiny.model(), RECIPE, DATA, device=CPU, mode=BF16)
    assert result.mode == "channels_last, bf16"
