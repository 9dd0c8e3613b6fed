"""Teachers: trained, stored, read back, fine-tuned; one clear line for what does not fit."""

import argparse
import http.client
import json
import pickle
import random
import urllib.error
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny import CPU, RECIPE, one_thread
from torch import nn

from space.errors import InputError
from trainers.engine.evaluation import evaluate, predict
from trainers.engine.result import Epoch
from trainers.model import weights_hash
from trainers.teachers import description, networks
from trainers.teachers import teacher as teachers
from trainers.teachers.teach import teach, teacher_key
from trainers.teachers.teacher import Teacher

__all__ = ["one_thread"]

DATA = tiny.data()
ONE_EPOCH = RECIPE.with_settings({"epochs": 1})
SMALL = "teacher-small"  # of ours
OTHERS = "shufflenet_v2_x0_5"  # torchvision's smallest


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """An untrained teacher of ours on the disk."""
    model, info = teachers.untrained(SMALL, DATA, seed=3)
    path = tmp_path / "teachers" / "small.pt"
    teachers.save(path, model, info)
    return path


# --- trained, stored, read back


def test_taught_stored_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "teacher.pt"
    recipe = RECIPE.with_settings({"epochs": 6})
    told: list[float] = []

    def tell(epoch: Epoch) -> bool:
        told.append(epoch.accuracy)
        return False

    taught = teach(SMALL, DATA, recipe, path, device=CPU, report=tell)
    assert sorted(p.name for p in path.parent.iterdir()) == ["teacher.json", "teacher.pt"]
    assert taught.info.accuracy == told[-1] == evaluate(taught.model, DATA.validation, CPU)
    assert taught.info.accuracy > 0.9
    assert (taught.info.classes, taught.info.size) == (DATA.classes, 8)
    assert "scratch" in taught.info.trained
    again = teachers.load(path)
    assert (again.info, again.hash) == (taught.info, taught.hash)
    assert again.hash == weights_hash(again.model.network)
    assert not any(p.requires_grad for p in again.model.parameters())
    assert not again.model.training
    for left, right in zip(*(all_logits(t.model) for t in (taught, again)), strict=True):
        assert torch.equal(left, right)
    description.require_classes(again.info, DATA.classes)


def all_logits(model: nn.Module) -> list[torch.Tensor]:
    return list(predict(model, DATA.train.images_NCHW, CPU))


def test_saving_gives_what_loading_gives(stored: Path) -> None:
    model, info = teachers.untrained(SMALL, DATA, seed=3)
    saved, loaded = teachers.save(stored, model, info), teachers.load(stored)
    assert (saved.hash, saved.info) == (loaded.hash, loaded.info)


def test_interrupted_teaching_goes_on_and_equals_uninterrupted(tmp_path: Path) -> None:
    def stop(done: Any) -> bool:
        if done.epoch == 2:
            raise KeyboardInterrupt
        return False

    whole = teach(SMALL, DATA, RECIPE, tmp_path / "whole.pt", device=CPU)
    path = tmp_path / "stopped.pt"
    with pytest.raises(KeyboardInterrupt):
        teach(SMALL, DATA, RECIPE, path, device=CPU, report=stop)
    assert [p.name for p in tmp_path.glob("stopped*")] == ["stopped.checkpoint"]
    seen: list[int] = []

    def see(epoch: Epoch) -> bool:
        seen.append(epoch.epoch)
        return False

    gone_on = teach(SMALL, DATA, RECIPE, path, device=CPU, report=see)
    assert seen == [2, 3]
    assert gone_on.hash == whole.hash
    assert not path.with_suffix(".checkpoint").exists()


@pytest.mark.parametrize("change", [{"network": "ntu-ml2020"}, {"size": 16}])
def test_another_teacher_under_the_name_of_an_interrupted_one_starts_anew(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    def stop(done: Any) -> bool:
        if done.epoch == 2:
            raise KeyboardInterrupt
        return False

    wanted = {"network": SMALL, **change}
    expected = teach(**wanted, data=DATA, recipe=RECIPE, path=tmp_path / "expected.pt", device=CPU)
    path = tmp_path / "teacher.pt"
    with pytest.raises(KeyboardInterrupt):
        teach(SMALL, DATA, RECIPE, path, device=CPU, report=stop)
    found = teach(**wanted, data=DATA, recipe=RECIPE, path=path, device=CPU)
    assert found.hash == expected.hash


def test_a_teacher_that_diverges_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    wild = RECIPE.with_settings({"lr": 1e20, "warmup": 0.0})
    message = refusal(lambda: teach(SMALL, DATA, wild, tmp_path / "t.pt", device=CPU))
    assert "lower learning rate" in message
    assert list(tmp_path.iterdir()) == []


def test_the_key_of_a_teacher_from_scratch() -> None:
    keys = {
        teacher_key(SMALL, DATA, RECIPE),
        teacher_key("ntu-ml2020", DATA, RECIPE),
        teacher_key(SMALL, tiny.data(fingerprint="ba9876543210"), RECIPE),
        teacher_key(SMALL, DATA, ONE_EPOCH),
        teacher_key(SMALL, DATA, RECIPE, 16),
    }
    assert len(keys) == 5
    assert teacher_key(SMALL, DATA, RECIPE, 8) == teacher_key(SMALL, DATA, RECIPE)


# --- networks


def test_one_seed_one_network_and_the_global_generator_stays() -> None:
    for name in (SMALL, OTHERS):
        torch.manual_seed(4)
        before = torch.get_rng_state()
        first, _ = teachers.untrained(name, DATA, seed=1)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(5)
        second, _ = teachers.untrained(name, DATA, seed=1)
        third, _ = teachers.untrained(name, DATA, seed=2)
        assert weights_hash(first) == weights_hash(second) != weights_hash(third)


def test_torchvision_s_network_by_name(tmp_path: Path) -> None:
    """Grey images are shown as three channels, with ImageNet's normalisation."""
    taught = teach(OTHERS, DATA, ONE_EPOCH, tmp_path / "t.pt", device=CPU, size=32)
    assert (taught.info.channels, taught.info.size) == (3, 32)
    assert taught.info.mean == (0.485, 0.456, 0.406)
    (logits_NK,) = all_logits(taught.model)
    assert logits_NK.shape == (70, 3)
    seen: list[torch.Tensor] = []
    taught.model.network.register_forward_pre_hook(lambda _, images: seen.append(images[0]))
    taught.model(torch.full((1, 1, 8, 8), 0.485))
    (image,) = seen
    assert image.shape == (1, 3, 32, 32)
    torch.testing.assert_close(image[0, 0], torch.zeros(32, 32))
    torch.testing.assert_close(image[0, 1], torch.full((32, 32), (0.485 - 0.456) / 0.224))


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_with_auxiliary_classifiers_give_plain_logits(name: str) -> None:
    model, _ = teachers.untrained(name, DATA, size=80)
    assert model.training
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 3)


def test_unknown_network_lists_the_names() -> None:
    message = refusal(lambda: teachers.untrained("resnet19", DATA))
    assert "'resnet19'" in message
    for name in (SMALL, "ntu-ml2020", "resnet18", "efficientnet_b0"):
        assert name in message
        assert name in networks.names()
    assert "fcn_resnet50" not in networks.names()  # segments


@pytest.mark.parametrize(("name", "size"), [("vit_b_32", 64), ("alexnet", 16), ("maxvit_t", 64)])
def test_a_size_that_the_network_cannot_take_is_one_line(name: str, size: int) -> None:
    message = refusal(lambda: teachers.untrained(name, DATA, size=size))
    assert f"{name} cannot take images of {size} pixels" in message


def test_other_classes_are_refused() -> None:
    teacher = tiny.teacher()
    description.require_classes(teacher.info, tiny.CLASSES)
    for classes in (("top", "middle"), tiny.CLASSES[::-1], (*tiny.CLASSES, "fourth")):
        message = refusal(partial(description.require_classes, teacher.info, classes))
        assert f"the data's {len(classes)} classes" in message
        assert "finetune" in message


# --- fine-tuning


def saved_state(
    path: Path, wrap: Callable[[dict[str, Any]], Any], classes: int = 7
) -> dict[str, Any]:
    network = networks.make_network(OTHERS, classes=classes, channels=3, seed=11)
    state = network.state_dict()
    torch.save(wrap(state), path)
    return state


WRAPPERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "bare": lambda state: state,
    "model": lambda state: {"model": state, "epoch": 90, "args": argparse.Namespace(lr=0.1)},
    "state_dict": lambda state: {"state_dict": state, "best": 0.7},
    "module.": lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
    "half": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("classes", [7, 3], ids=["another head", "a head of the same size"])
def test_fine_tuning_keeps_the_body_and_renews_the_head(
    tmp_path: Path, wrapper: str, classes: int
) -> None:
    path = tmp_path / "weights.pth"
    state = saved_state(path, WRAPPERS[wrapper], classes)
    model, info = teachers.pretrained(OTHERS, DATA, str(path), size=32, seed=1)
    own = model.network.state_dict()
    fresh = networks.make_network(OTHERS, classes=3, channels=3, seed=1).state_dict()
    head = {"fc.weight", "fc.bias"}
    tolerance = 1e-3 if wrapper == "half" else 0.0
    for key, value in own.items():
        expected = fresh[key] if key in head else state[key]
        torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)
        assert value.dtype == fresh[key].dtype
    assert "weights.pth" in info.trained
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 3)


def test_fine_tuned_to_the_end(tmp_path: Path, stored: Path) -> None:
    taught = teach(SMALL, DATA, ONE_EPOCH, tmp_path / "t.pt", device=CPU, weights=str(stored))
    assert taught.info.trained == "fine-tuned from small.pt on bars"
    assert taught.hash != teachers.load(stored).hash


def test_a_head_of_one_array_is_the_head_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MaxViT's last layer has no bias; the layer before it is kept."""

    def network(name: str, *, classes: int, channels: int, seed: int, **_: object) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Linear(4, classes, bias=False))

    monkeypatch.setattr(teachers, "make_network", network)
    given = network(OTHERS, classes=9, channels=3, seed=8).state_dict()
    torch.save(given, tmp_path / "w.pt")
    model, _ = teachers.pretrained(OTHERS, DATA, str(tmp_path / "w.pt"), seed=1)
    own = model.network.state_dict()
    assert torch.equal(own["1.weight"], given["1.weight"])
    assert torch.equal(own["1.bias"], given["1.bias"])
    assert own["2.weight"].shape == (3, 4)


def test_weights_of_another_network_are_refused(tmp_path: Path, stored: Path) -> None:
    path = tmp_path / "w.pt"
    saved_state(path, WRAPPERS["bare"])
    message = refusal(lambda: teachers.pretrained("resnet18", DATA, str(path), size=32))
    assert "must hold the weights of resnet18" in message
    assert "name the network" in message
    wide = "shufflenet_v2_x1_0"  # the same names, other shapes
    message = refusal(lambda: teachers.pretrained(wide, DATA, str(path), size=32))
    assert f"does not fit {wide}" in message
    state = torch.load(path)
    torch.save({**state, "extra.weight": torch.zeros(1)}, path)
    message = refusal(lambda: teachers.pretrained(OTHERS, DATA, str(path), size=32))
    assert "'extra.weight'" in message


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("[Errno -2] Name or service not known"),
        http.client.IncompleteRead(b"", 100),
        RuntimeError('invalid hash value (expected "f37072fd", got "00000000")'),
        TimeoutError("timed out"),
    ],
)
def test_imagenet_weights_without_a_network_are_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # nothing was downloaded before
    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    message = refusal(lambda: teachers.pretrained("resnet18", DATA, "imagenet", size=32))
    assert "could not download resnet18's ImageNet weights" in message
    assert "--pretrained FILE" in message


def test_imagenet_weights_of_our_own_networks_are_refused() -> None:
    assert "network with ImageNet weights" in refusal(
        lambda: teachers.pretrained(SMALL, DATA, "imagenet")
    )


# --- damage


def test_a_full_disk_or_a_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model, info = teachers.untrained(SMALL, DATA)
    with pytest.raises(OSError, match=r"exists|directory"):
        teachers.save(tmp_path / "file" / "t.pt", model, info)


def test_truncated_and_random_files_are_one_line(stored: Path) -> None:
    content, chance = stored.read_bytes(), random.Random(0)
    damaged = [content[: chance.randrange(len(content))] for _ in range(20)]
    damaged += [chance.randbytes(chance.randrange(200)) for _ in range(50)]
    damaged += [b"\x80" + bytes([chance.randrange(6)]) + chance.randbytes(30) for _ in range(150)]
    damaged += [pickle.dumps({"a": 1}), pickle.dumps([1, 2]), b"", b"PK\x03\x04", b"\x80\x02."]
    for bytes_ in damaged:
        stored.write_bytes(bytes_)
        assert "small.pt must hold a" in refusal(lambda: teachers.load(stored))


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("trapped"),))


def test_a_pickle_that_runs_code_is_refused(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Trap()}, stored)
    refusal(lambda: teachers.load(stored))
    assert not Path("trapped").exists()


@pytest.mark.parametrize(
    "content",
    [[torch.zeros(1)], {"state_dict": {"a": 3}}, {"model": [1]}, torch.zeros(2), {"a": 1}],
)
def test_what_is_no_state_dict_is_one_line(stored: Path, content: Any) -> None:
    torch.save(content, stored)
    assert "must hold a state dict" in refusal(lambda: teachers.load(stored))


def test_missing_files_are_named(stored: Path, tmp_path: Path) -> None:
    assert "nowhere.pt must be a file" in refusal(lambda: teachers.load(tmp_path / "nowhere.pt"))
    alone = tmp_path / "alone.pt"
    alone.write_bytes(stored.read_bytes())
    assert "alone.json cannot be read" in refusal(lambda: teachers.load(alone))
    stored.unlink()
    assert "small.pt cannot be read" in refusal(lambda: teachers.load(stored))
    stored.mkdir()
    assert "small.pt cannot be read" in refusal(lambda: teachers.load(stored))
    stored.with_suffix(".json").unlink()
    message = refusal(lambda: teachers.load(stored))
    assert "small.json cannot be read" in message
    assert "--pretrained" in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network": "resnet19"}, "teacher network must be one of"),
        ({"network": ["resnet18"]}, "network must be text"),
        ({"classes": ["one"]}, "two or more"),
        ({"classes": [1, 2, 3]}, "classes, item 1 must be text"),
        ({"classes": 3}, "not a teacher's description"),
        ({"classes": ["a", "b"]}, "with 2 classes"),
        ({"channels": 2}, "channels must be 1 or 3"),
        ({"channels": 3}, "mean and std must be one number a channel"),
        ({"network": "resnet18"}, "channels must be 3"),
        ({"size": "8"}, "size must be"),
        ({"size": 0}, "size must be"),
        ({"size": 10**9}, "size must be"),
        ({"mean": ["0.5"]}, "mean, item 1 must be a number"),
        ({"mean": [float("nan")]}, "mean and std"),
        ({"std": [0.0]}, "std must be above 0"),
        ({"std": 0.5}, "not a teacher's description"),
        ({"colour": 1}, "not a teacher's description"),
    ],
)
def test_a_description_that_was_changed_is_one_line(
    stored: Path, change: dict[str, Any], words: str
) -> None:
    beside = stored.with_suffix(".json")
    beside.write_text(json.dumps(json.loads(beside.read_text()) | change))
    assert words in refusal(lambda: teachers.load(stored))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"network": "resnet18"}', "\udcff"])
def test_a_description_that_is_none_is_one_line(stored: Path, text: str) -> None:
    stored.with_suffix(".json").write_bytes(text.encode(errors="surrogateescape"))
    assert "not a teacher's description" in refusal(lambda: teachers.load(stored))


def test_weights_without_a_description_can_be_described_by_the_caller(stored: Path) -> None:
    info = description.read_info(stored)
    stored.with_suffix(".json").unlink()
    assert isinstance(teachers.load(stored, info), Teacher)
    other = replace(info, classes=("a", "b"))
    assert "blocks" in refusal(lambda: teachers.load(stored, other))
