"""Weights in every form that people save them: read, or refused with the way out."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import tiny
import torch
import torchvision
from test_trainers_teacher import refusal
from torch import Tensor, nn

from trainers import teacher as teachers
from trainers import weights

State = dict[str, Tensor]
SMALL = ("shufflenet_v2_x0_5", "densenet121", "googlenet", "squeezenet1_1", "teacher-small")


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {f"{prefix}{name}": value for name, value in state.items()}


def without_counts(state: State) -> State:
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


def old_densenet(state: State) -> State:
    """Torchvision's names before 0.3, in the files that it still downloads."""
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.", k): v for k, v in state.items()
    }


def compiled_inside(state: State) -> State:
    """Submodules that were compiled one by one."""
    return {re.sub(r"^(\w+)\.", r"\1._orig_mod.", k): v for k, v in state.items()}


OPTIMISER = {
    "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}},
    "param_groups": [],
}
FORMS: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "DataParallel": prefixed("module."),
    "torch.compile": prefixed("_orig_mod."),
    "compiled, then DDP": prefixed("module._orig_mod."),
    "DDP, then compiled": prefixed("_orig_mod.module."),
    "compiled in parts": compiled_inside,
    "a module's own name": prefixed("backbone.net."),
    "Lightning": lambda state: {
        "state_dict": {"loss.weight": torch.ones(3), **prefixed("model.")(state)},
        "optimizer_states": [OPTIMISER],
        "hyper_parameters": {"lr": 0.1},
        "epoch": 3,
    },
    "model_state_dict": lambda state: {"epoch": 3, "model_state_dict": state, "optim": OPTIMISER},
    "net, with a figure of NumPy's": lambda state: {"net": state, "acc": np.float64(0.9)},
    "nested": lambda state: {"checkpoint": {"ema": {"module": state, "decay": 0.99}}},
    "torchvision's averaged": lambda state: {
        "model_ema": {"n_averaged": torch.tensor(7), **prefixed("module.")(state)}
    },
    "numbers beside the weights": lambda state: {"epoch": 3, "best": torch.tensor(0.7), **state},
    "a path beside the weights": lambda state: {"model": state, "out": Path("runs")},
    "without counts of batches": without_counts,
    "old DenseNet": old_densenet,
    "half": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
    "bfloat16": lambda state: {
        k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()
    },
    "auxiliary classifiers": lambda state: {**state, "aux1.fc1.weight": torch.zeros(2, 2)},
}


def read(path: Path, network: nn.Module) -> State:
    own = network.state_dict()
    return weights.fitting(weights.read(path), own, "the network", str(path))


def assert_same(found: State, state: State, tolerance: float = 0.0) -> None:
    assert found.keys() == state.keys()
    for name, value in state.items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(
                found[name].float(), value.float(), rtol=tolerance, atol=0.01
            )


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return teachers.make_network("shufflenet_v2_x0_5", classes=3, channels=3, seed=1)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read(tmp_path: Path, small: nn.Module, form: str) -> None:
    state = teachers.make_network("shufflenet_v2_x0_5", classes=3, channels=3, seed=2).state_dict()
    path = tmp_path / "weights.pth"
    torch.save(FORMS[form](state), path)
    assert_same(read(path, small), state, tolerance=0.01)


def every_network() -> list[Any]:
    slow = [name for name in teachers.networks() if name not in SMALL]
    return [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)]


@pytest.mark.parametrize("name", every_network())
def test_every_network_s_weights_are_read(tmp_path: Path, name: str) -> None:
    """Of one value each: random ones take minutes for the largest."""
    with torch.device("meta"):
        network = teachers.make_network(name, classes=2, channels=3, seed=0)
    state = {
        k: torch.tensor(float(i)).expand(v.shape)
        for i, (k, v) in enumerate(network.state_dict().items())
    }
    forms = ("bare", "compiled, then DDP", "Lightning", "without counts of batches", "old DenseNet")
    for form in forms:
        torch.save(FORMS[form](state), tmp_path / "weights.pth")
        found = read(tmp_path / "weights.pth", network)
        assert found.keys() == state.keys()
        for key, value in found.items():
            counts = key.endswith("num_batches_tracked")
            assert counts or torch.equal(value.flatten()[:1], state[key].flatten()[:1])


@pytest.mark.parametrize("how", ["safetensors", "old torch.save", "TorchScript"])
def test_other_files_are_read(tmp_path: Path, small: nn.Module, how: str) -> None:
    network = teachers.make_network("shufflenet_v2_x0_5", classes=3, channels=3, seed=2)
    state, path = network.state_dict(), tmp_path / "weights.bin"
    if how == "safetensors":
        safetensors.torch.save_file(state, path)
    elif how == "old torch.save":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        images_NCHW = torch.zeros(1, 3, 64, 64)
        with warnings.catch_warnings(action="ignore"):
            torch.jit.trace(network.eval(), images_NCHW).save(str(path))
    assert_same(read(path, small), state)


def test_a_whole_model_is_refused_with_the_way_out(tmp_path: Path, small: nn.Module) -> None:
    for content in (small, {"model": small, "epoch": 3}):
        torch.save(content, tmp_path / "model.pt")
        message = refusal(lambda: weights.read(tmp_path / "model.pt"))
        assert "ShuffleNetV2" in message
        assert "torch.save(model.state_dict(), 'weights.pt')" in message


def test_of_several_the_first_that_fits_is_taken(tmp_path: Path, small: nn.Module) -> None:
    states = [
        teachers.make_network("shufflenet_v2_x0_5", classes=3, channels=3, seed=seed).state_dict()
        for seed in (2, 3)
    ]
    other = {"teacher": {"fc.weight": torch.zeros(2, 2)}}
    torch.save({**other, "model": states[0], "model_ema": states[1]}, tmp_path / "w.pt")
    assert_same(read(tmp_path / "w.pt", small), states[0])


def test_imagenet_weights_under_their_old_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DenseNet's as torchvision downloads them, from its cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    choice = torchvision.models.get_model_weights("densenet121").DEFAULT
    monkeypatch.setattr(torch.hub, "HASH_REGEX", re.compile("no hash"))
    network = torchvision.models.densenet121(weights=None)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    state = old_densenet(without_counts(network.state_dict()))
    torch.save(state, folder / choice.url.rpartition("/")[2])
    model, _ = teachers.pretrained("densenet121", tiny.data(), "imagenet", size=32)
    own, given = model.network.state_dict(), network.state_dict()
    name = "features.denseblock1.denselayer1.norm1.weight"
    assert torch.equal(own[name], given[name])
    assert own["classifier.weight"].shape == (3, 1024)
