"""Steps as graphs give what eager steps give: nothing that changes is frozen in them.

Without a GPU a stand-in takes the place of CUDA graphs: it records every operation of a step with
its tensors and numbers, and replays exactly those on the same memory. As a capture does, it
refuses what must wait for the device (`.item()`, masks whose size is not known).
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from test_trainers_engine import DATA, Logits, StoppedError, learned, stop_at
from tiny import CPU, RECIPE, one_thread, same
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainers.engine import batches, graphs, learner
from trainers.engine.batches import Batch
from trainers.engine.checkpoint import Checkpoint
from trainers.engine.graphs import GraphedStep, Recording
from trainers.engine.modes import ComputeMode
from trainers.engine.result import TrialResult
from trainers.engine.training import train
from trainers.recipe import Recipe
from trainers.teachers.bank import LogitBank

__all__ = ["one_thread"]

WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select"}
TEACHER = torch.randn(70, 3, generator=torch.Generator().manual_seed(3)) * 3
GRAPHS = ComputeMode(graphs=True)
OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory.")


class Recorder(TorchDispatchMode):
    """Every operation, as it was called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        masks = func.name() == "aten::index.Tensor" and any(
            i is not None and i.dtype == torch.bool for i in args[1]
        )
        if func.name() in WAITING or masks:
            raise RuntimeError(f"{func}: operation not permitted when stream is capturing")
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, before in self.calls:
            after = func(*args, **kwargs)
            for old, new in zip(tree_leaves(before), tree_leaves(after), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class OnCpu(GraphedStep):
    """A graphed step with the stand-in; counts the captures."""

    made: list[int] = []  # noqa: RUF012

    def __init__(
        self,
        compute: Callable[[Batch], torch.Tensor],
        changing: Callable[[], Iterable[torch.Tensor]],
        batch: Batch,
        device: torch.device,
    ) -> None:
        def record(captured: Callable[[], torch.Tensor]) -> Recording:
            kept = [(tensor, tensor.detach().clone()) for tensor in changing()]
            recorder = Recorder()
            try:
                with recorder:
                    output = captured()
            finally:  # a capture does not run what it records
                with torch.no_grad():
                    for tensor, value in kept:
                        tensor.copy_(value)
            return Recording(output, recorder.replay)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(graphs, "record", record)
            patch.setattr(graphs, "warm_up", lambda run, device: [run() for _ in range(3)])
            super().__init__(compute, changing, batch, device)
        self.made.append(len(batch))


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "GraphedStep", OnCpu)
    OnCpu.made.clear()


def run(
    recipe: Recipe, mode: ComputeMode, network: nn.Module | None = None, **options: Any
) -> tuple[nn.Module, TrialResult]:
    model = tiny.model(network)
    return model, train(
        model, recipe, DATA, device=CPU, teacher=Logits(TEACHER), mode=mode, **options
    )


SETTINGS: dict[str, dict[str, Any]] = {
    "hard": {},
    "soft": {"phases": [[0, 0.7]]},
    "phases": {"phases": [[0, 0.5], [0.5, 1], [0.7, 0]]},
    "plain sgd": {"momentum": 0.0, "ema": 0.0},
    "adam": {"optimizer": "adam", "lr": 1e-3, "lr_end": 0.0},
    "adamw": {"optimizer": "adamw", "lr": 1e-3, "lr_end": 0.0, "phases": [[0, 0.5]]},
    "clipped": {"clip": 0.05},
    "mixup": {"augment": {"mixup": 0.5, "flip": 0.5}, "phases": [[0, 0.5]]},
    "cutmix": {"augment": {"cutmix": 1.0, "mix_probability": 0.7}, "phases": [[0, 0.5]]},
    "smoothed": {"label_smoothing": 0.1, "schedule": "linear"},
    "standardised": {"loss": "kd-standardised", "phases": [[0, 0.5]]},
    "decoupled": {"loss": "dkd", "phases": [[0, 0.5]]},
    "dist": {"loss": "dist", "phases": [[0, 0.5]]},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_graphed_steps_are_eager_steps(name: str) -> None:
    recipe = RECIPE.with_settings(SETTINGS[name])
    eager, expected = run(recipe, ComputeMode())
    graphed, found = run(recipe, GRAPHS)
    assert found.fallback == ""
    assert set(OnCpu.made) == {16, 6}  # the last batch of 70 images is one of 6
    assert learned(found) == learned(expected)
    assert same(graphed.state_dict(), eager.state_dict())


def test_graphs_are_captured_once_a_kind_of_step() -> None:
    run(RECIPE.with_settings({"epochs": 6, "phases": [[0, 0.5], [0.5, 0]]}), GRAPHS)
    assert sorted(OnCpu.made) == [6, 6, 16, 16]  # with the teacher and without


@pytest.mark.parametrize("epoch", [1, 2])
def test_graphed_runs_go_on_exactly(tmp_path: Path, epoch: int) -> None:
    recipe = RECIPE.with_settings({"phases": [[0, 0.5]]})
    whole, expected = run(recipe, GRAPHS)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt")
    with pytest.raises(StoppedError):
        run(recipe, GRAPHS, report=stop_at(epoch + 1), checkpoint=checkpoint)
    resumed, found = run(
        recipe, ComputeMode(), checkpoint=checkpoint
    )  # in the mode it was begun in
    assert learned(found) == learned(expected)
    assert found.mode == expected.mode == "channels_last, fp32, graphs"
    assert same(resumed.state_dict(), whole.state_dict())


class Waiting(nn.Module):
    """Asks for a number of the device's, which no capture allows."""

    def __init__(self) -> None:
        super().__init__()
        self.network = tiny.build(tiny.ARCHITECTURE, seed=0)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        if images_NCHW.mean().item() > 1e9:
            return torch.zeros(0)
        logits_NK: torch.Tensor = self.network(images_NCHW)
        return logits_NK


def test_what_cannot_be_captured_runs_eagerly_and_says_why() -> None:
    eager, expected = run(RECIPE, ComputeMode(), Waiting())
    fallen, found = run(RECIPE, GRAPHS, Waiting())
    assert "not permitted when stream is capturing" in found.fallback
    assert OnCpu.made == []
    assert learned(found) == learned(expected)
    assert same(fallen.state_dict(), eager.state_dict())


class Greedy(nn.Module):
    """Has memory for few images at once."""

    def __init__(self) -> None:
        super().__init__()
        self.network = tiny.build(tiny.ARCHITECTURE, seed=0)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        if len(images_NCHW) > 8:
            raise OUT_OF_MEMORY
        logits_NK: torch.Tensor = self.network(images_NCHW)
        return logits_NK


def test_out_of_memory_in_a_capture_is_answered_by_smaller_parts() -> None:
    _, found = run(RECIPE, GRAPHS, Greedy())
    assert (found.ended, found.micro_batch, found.fallback) == ("finished", 8, "")


# --- the GPU


@pytest.mark.gpu
@pytest.mark.parametrize("name", SETTINGS)
def test_cuda_graphs_are_eager_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "GraphedStep", GraphedStep)
    recipe, device = RECIPE.with_settings(SETTINGS[name]), torch.device("cuda")
    results, models = [], []
    for mode in (ComputeMode(), GRAPHS):
        models.append(tiny.model())
        teacher = Logits(TEACHER)
        results.append(train(models[-1], recipe, DATA, device=device, teacher=teacher, mode=mode))
    assert results[1].fallback == ""
    for eager, graphed in zip(results[0].history, results[1].history, strict=True):
        assert graphed.loss == pytest.approx(eager.loss, rel=1e-3)
    states = (models[0].state_dict(), models[1].state_dict())
    for name_ in states[0]:
        torch.testing.assert_close(states[1][name_], states[0][name_], rtol=1e-2, atol=1e-3)


@pytest.mark.gpu
def test_streamed_images_are_resident_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "GraphedStep", GraphedStep)
    recipe, device = RECIPE.with_settings(SETTINGS["mixup"]), torch.device("cuda")
    losses = []
    for share in (0.4, 0.0):
        monkeypatch.setattr(batches, "RESIDENT_SHARE", share)
        bank = LogitBank(tmp_path / str(share), tiny.teacher(), DATA, recipe, device)
        result = train(tiny.model(), recipe, DATA, device=device, teacher=bank)
        losses.append([epoch.loss for epoch in result.history])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
