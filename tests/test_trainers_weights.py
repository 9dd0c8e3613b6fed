"""Weights in every form that people save: they load, or one line says the way out."""

import argparse
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import tiny
import torch
import torchvision.models
from tiny import one_thread
from torch import nn

from space.errors import InputError
from space.references import REFERENCES
from trainers.teachers import networks
from trainers.teachers import teacher as teachers
from trainers.teachers.weights import WRAPPERS, fill, read_content

__all__ = ["one_thread"]

DATA = tiny.data()
NETWORK = "shufflenet_v2_x0_5"
State = dict[str, torch.Tensor]

# The smallest of each family; a size that it takes.
SMALLEST = {
    "alexnet": 63,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 33,
    "googlenet": 32,
    "inception_v3": 75,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 32,
    "swin_v2_t": 32,
    "vgg11": 32,
    "vit_b_32": 224,
}
ALL = [name for name in networks.names() if name not in REFERENCES]
FAMILIES = [
    name if name in SMALLEST else pytest.param(name, marks=pytest.mark.slow) for name in ALL
]


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {prefix + name: value for name, value in state.items()}


def counts_dropped(state: State) -> State:
    return {name: v for name, v in state.items() if not name.endswith("num_batches_tracked")}


def converted(dtype: torch.dtype) -> Callable[[State], State]:
    def convert(state: State) -> State:
        return {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}

    return convert


def optimizer(state: State) -> dict[str, Any]:
    moments = {k: {"step": torch.tensor(3.0), "exp_avg": v} for k, v in enumerate(state.values())}
    return {"state": moments, "param_groups": [{"lr": 0.1, "params": [0, 1]}]}


def wrapped(wrap: Callable[[nn.Module], nn.Module]) -> Callable[[State], Mapping[str, Any]]:
    """What one of torch's own wrappers makes of the network's names."""

    def make(state: State) -> Mapping[str, Any]:
        classes = len(state["fc.weight"])
        network = networks.make_network(NETWORK, classes=classes, channels=3, seed=0)
        network.load_state_dict(state)
        return wrap(network).state_dict()

    return make


def compiled(network: nn.Module) -> nn.Module:
    wrapper: Any = torch.compile(network)  # typed as the function that it also is
    assert isinstance(wrapper, nn.Module)
    return wrapper


def stage_wrapped(network: nn.Module) -> nn.Module:
    network.stage2 = nn.DataParallel(network.get_submodule("stage2"))
    network.stage3 = compiled(network.get_submodule("stage3"))
    return network


class Lightning(nn.Module):
    """A module with the network in it, and with what it is trained by."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.loss = nn.CrossEntropyLoss(weight=torch.ones(7))
        self.net = network


def under(key: str) -> Callable[[State], Any]:
    return lambda state: {"epoch": 90, "optimizer": optimizer(state), key: state}


def other(state: State) -> State:
    return {name: torch.zeros_like(value) for name, value in state.items()}


FORMS: dict[str, Callable[[State], Any]] = {
    "bare": dict,
    "OrderedDict": OrderedDict,
    "parameters": lambda s: {
        k: nn.Parameter(v) if v.is_floating_point() else v for k, v in s.items()
    },
    "without counts of batches": counts_dropped,
    "DataParallel": wrapped(nn.DataParallel),
    "compiled": wrapped(compiled),
    "both": wrapped(lambda network: nn.DataParallel(compiled(network))),
    "the other way round": wrapped(lambda network: compiled(nn.DataParallel(network))),
    "parts of it wrapped": wrapped(stage_wrapped),
    "averaged": wrapped(torch.optim.swa_utils.AveragedModel),
    "Lightning": wrapped(Lightning),
    "Lightning's file": lambda s: {
        "epoch": 3,
        "global_step": 900,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": prefixed("model.")(s) | {"loss.weight": torch.ones(7)},
        "optimizer_states": [optimizer(s)],
        "lr_schedulers": [{"_last_lr": [0.1], "best": np.float64(0.3)}],
        "hyper_parameters": {"lr": 0.1, "out": Path("runs")},
    },
    "a deep prefix": lambda s: {"model": prefixed("_orig_mod.module.backbone.body.")(s)},
    **{
        f"under {key}": under(key)
        for key in ("state_dict", "model", "model_state_dict", "net", "ema", "weights", "params")
    },
    "two levels down": lambda s: {"checkpoint": {"last": {"student": s}}, "best": 0.5},
    "in a tuple": lambda s: (s, optimizer(s), 17),
    "scalars beside it": lambda s: {
        **s,
        "epoch": 3,
        "accuracy": torch.tensor(0.7),
        "best": np.float32(0.5),
        "name": "resnet",
        "args": argparse.Namespace(lr=0.1, data=Path("photos")),
    },
    "several: the first": lambda s: {"model": s, "model_ema": other(s)},
    "float16": converted(torch.float16),
    "bfloat16": converted(torch.bfloat16),
    "float64": converted(torch.float64),
}
HALF = {"float16": 1e-3, "bfloat16": 1e-2}


def zipped(content: Any, path: Path) -> None:
    torch.save(content, path)


def legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def on_a_gpu(content: Any, path: Path) -> None:
    """As a machine with CUDA writes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.serialization.location_tag", lambda _: "cuda:1")
        torch.save(content, path)


WRITERS = {"zip": zipped, "legacy": legacy, "cuda": on_a_gpu}


@pytest.fixture(scope="module")
def state() -> State:
    return networks.make_network(NETWORK, classes=7, channels=3, seed=11).state_dict()


def assert_body(found: State, state: State, tolerance: float = 0.0) -> None:
    for name, value in found.items():
        if not name.startswith("fc.") and value.dim():
            expected = state[name].to(value.dtype)
            torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_fine_tuned_from(tmp_path: Path, state: State, form: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(FORMS[form](dict(state)), path)
    model, info = teachers.pretrained(NETWORK, DATA, str(path), size=32, seed=1)
    assert_body(model.network.state_dict(), state, HALF.get(form, 0.0))
    fresh = networks.make_network(NETWORK, classes=3, channels=3, seed=1).state_dict()
    assert torch.equal(model.network.state_dict()["fc.weight"], fresh["fc.weight"])
    assert "weights.pth" in info.trained


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("form", ["bare", "DataParallel", "Lightning's file", "scalars beside it"])
def test_every_way_of_writing_is_read(tmp_path: Path, state: State, form: str, writer: str) -> None:
    path = tmp_path / "weights.ckpt"
    WRITERS[writer](FORMS[form](dict(state)), path)
    assert_body(
        teachers.pretrained(NETWORK, DATA, str(path), size=32)[0].network.state_dict(), state
    )


@pytest.mark.parametrize("form", ["bare", "DataParallel", "without counts of batches", "float16"])
@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin"])
def test_safetensors_are_known_by_their_content(
    tmp_path: Path, state: State, form: str, name: str
) -> None:
    made = {k: v.contiguous() for k, v in FORMS[form](dict(state)).items()}
    safetensors.torch.save_file(made, tmp_path / name)
    model, _ = teachers.pretrained(NETWORK, DATA, str(tmp_path / name), size=32)
    assert_body(model.network.state_dict(), state, HALF.get(form, 0.0))


@pytest.mark.parametrize("form", FORMS)
def test_a_teacher_s_own_file_may_have_every_form(tmp_path: Path, form: str) -> None:
    """With its description beside it, the head is read too."""
    model, info = teachers.untrained(NETWORK, DATA, size=32, seed=4)
    path = tmp_path / "teacher.pt"
    before = teachers.save(path, model, info)
    state = model.network.state_dict()
    torch.save(FORMS[form](dict(state)), path)
    after = teachers.load(path)
    assert (after.hash == before.hash) is (form not in HALF)


# --- refused, with the way out


class Own(nn.Module):
    pass


class Trap(nn.Module):
    """Writes a file when TorchScript reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.training = True

    @torch.jit.export
    def __getstate__(self) -> tuple[int, bool]:
        return 1, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[int, bool]) -> None:
        torch.save([torch.ones(1)], "trapped")
        self.training = state[1]

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return images_NCHW


def scripted(path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):  # that torch means to give it up
        torch.jit.save(torch.jit.script(Trap()), path)


REFUSED: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "a module": (
        lambda path: torch.save(torchvision.models.squeezenet1_1(num_classes=2), path),
        ("SqueezeNet", "torch.save(model.state_dict()"),
    ),
    "a module of one's own": (lambda path: torch.save(Own(), path), ("Own", "state_dict()")),
    "a legacy module": (lambda path: legacy(Own(), path), ("Own", "state_dict()")),
    "a module in a checkpoint": (
        lambda path: torch.save({"model": Own(), "epoch": 3}, path),
        ("Own", "state_dict()"),
    ),
    "code": (lambda path: torch.save({"run": eval}, path), ("eval", "state_dict()")),
    "TorchScript": (scripted, ("TorchScript", "torch.jit.load('w.pt').state_dict()")),
    "a pickle": (
        lambda path: path.write_bytes(pickle.dumps({"weight": torch.ones(2)})),
        ("cannot be decoded", "state_dict()"),
    ),
    "another protocol": (
        lambda path: torch.save({"weight": torch.ones(2)}, path, pickle_protocol=4),
        ("cannot be decoded", "state_dict()"),
    ),
    "tensors without names": (
        lambda path: torch.save([torch.ones(2)], path),
        ("name -> tensor", "state_dict()"),
    ),
    "numbers": (lambda path: torch.save({"epoch": 3}, path), ("name -> tensor", "state_dict()")),
    "half a safetensors file": (
        lambda path: path.write_bytes(safetensors.torch.save({"a": torch.ones(9)})[:-3]),
        ("cannot be decoded",),
    ),
    "another network": (
        lambda path: torch.save(torchvision.models.squeezenet1_1().state_dict(), path),
        ("must hold the weights of", "name the network"),
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_loaded_is_one_line_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write, words = REFUSED[what]
    path = tmp_path / "w.pt"
    write(path)
    with pytest.raises(InputError) as error:
        teachers.pretrained(NETWORK, DATA, str(path), size=32)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    for word in words:
        assert word in message
    assert not Path("trapped").exists()


def test_a_checkpoint_that_holds_itself_is_read(tmp_path: Path, state: State) -> None:
    loop: dict[str, Any] = {"model": dict(state)}
    loop["self"] = loop
    torch.save(loop, tmp_path / "w.pt")
    model, _ = teachers.pretrained(NETWORK, DATA, str(tmp_path / "w.pt"), size=32)
    assert_body(model.network.state_dict(), state)


# --- every network


def lean(network: nn.Module) -> State:
    """Another number in every tensor, in files of a few bytes: that storage is of one element."""
    return {
        name: torch.tensor(k % 97, dtype=value.dtype).expand(value.shape)
        for k, (name, value) in enumerate(network.state_dict().items())
    }


def published(name: str, state: State) -> State:
    """As torchvision's own file has it: 1,000 classes, DenseNet's old names, other classifiers."""
    last = list(state)[-1].rpartition(".")[0]
    thousand = {
        k: v.new_zeros(()).expand(1000, *v.shape[1:]) if k.rpartition(".")[0] == last else v
        for k, v in state.items()
    }
    if name.startswith("densenet"):
        return {
            re.sub(r"(layer\d+\.(norm|conv))([12])\.", r"\1.\3.", k): v
            for k, v in counts_dropped(thousand).items()
        }
    auxiliary = {"googlenet": "aux1.", "inception_v3": "AuxLogits."}.get(name)
    return thousand if auxiliary is None else {**thousand, f"{auxiliary}fc.bias": torch.ones(1000)}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_network_is_fine_tuned_from_torchvision_s_own_file_and_from_anybody_s(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file lies where torchvision puts what it downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    size = SMALLEST.get(name, 224)
    model, _ = teachers.untrained(name, DATA, size=size)
    state = lean(model.network)
    assert not WRAPPERS & {part for key in state for part in key.split(".")}
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    weights = list(torchvision.models.get_model_weights(name))
    fitting = [w for w in weights if max(w.meta["min_size"]) <= max(size, 224)]
    for one in fitting or weights:
        torch.save(published(name, state), folder / one.url.rpartition("/")[2])
    tuned, info = teachers.pretrained(name, DATA, "imagenet", size=size)
    last = list(state)[-1].rpartition(".")[0]
    for key, value in tuned.network.state_dict().items():
        if key.rpartition(".")[0] == last:
            assert value.shape == model.network.state_dict()[key].shape
        elif value.dim():
            assert torch.equal(value, state[key]), key
    assert info.trained == "fine-tuned from imagenet"
    worst = {"epoch": torch.tensor(3), **prefixed("model.module._orig_mod.")(counts_dropped(state))}
    torch.save({"state_dict": worst, "best": np.float64(0.5)}, tmp_path / "w.ckpt")
    content = read_content(tmp_path / "w.ckpt")
    fill(model.network, content, "w.ckpt", name, new=())
    for key, value in model.network.state_dict().items():
        assert not value.dim() or torch.equal(value, state[key]), key


def test_every_family_is_tried() -> None:
    builders = {torchvision.models.get_model_builder(name).__module__ for name in ALL}
    assert {torchvision.models.get_model_builder(name).__module__ for name in SMALLEST} == builders


def test_vision_transformers_of_the_first_torchvision(tmp_path: Path) -> None:
    """Their layers had other names; torch mends them by the versions in the file, or without."""
    network = networks.make_network("vit_b_32", classes=3, channels=3, seed=0)
    state = lean(network)
    old = {
        re.sub(r"\.mlp\.([03])\.", lambda m: f".mlp.linear_{int(m[1]) // 3 + 1}.", k): v
        for k, v in state.items()
    }
    assert old.keys() != state.keys()
    torch.save({"model": prefixed("module.")(old)}, tmp_path / "w.pt")
    fill(network, read_content(tmp_path / "w.pt"), "w.pt", "vit_b_32", new=())
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())


def test_a_mnasnet_of_the_first_version_stays_one(tmp_path: Path) -> None:
    """Its stem is another one, which torchvision builds when it sees the version in the file."""
    first = networks.make_network("mnasnet0_5", classes=3, channels=3, seed=0)
    content: Any = first.state_dict()
    content._metadata[""]["version"] = 1
    with pytest.warns(UserWarning, match="previous version"), pytest.raises(RuntimeError):
        first.load_state_dict(content)  # the stem is exchanged, then its weights do not fit
    state = first.state_dict()
    path = tmp_path / "w.pt"
    torch.save(state, path)
    model, info = teachers.pretrained("mnasnet0_5", DATA, str(path), size=32)
    stem = "layers.0.weight"
    assert torch.equal(model.network.state_dict()[stem], state[stem])
    saved = teachers.save(tmp_path / "t.pt", model, info)
    assert teachers.load(tmp_path / "t.pt").hash == saved.hash


# --- torchvision's own files


def test_a_damaged_download_says_what_to_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = torchvision.models.get_model_weights("resnet18").DEFAULT.url
    path = tmp_path / "hub/checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    with pytest.raises(InputError, match="is damaged; remove it") as error:
        teachers.pretrained("resnet18", DATA, "imagenet", size=32)
    assert str(path) in str(error.value)
