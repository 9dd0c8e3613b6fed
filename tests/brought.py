"""Teachers that people bring: networks of a user's own, TorchScript archives, ONNX files."""

import warnings
from pathlib import Path

import torch
from commands import inside, trials
from torch import nn

DIGITS = tuple(map(str, range(10)))
PLACE = ("--cache", "cache", "--device", "cpu")
SEARCH = ("--name", "s", "--trials", "2", "--epochs", "1", "--budget", "5KB", *PLACE)
FACTORY = """
import torch
from torch import nn

print("a word of the module's")

class Small(nn.Module):
    default_cfg = {"input_size": (1, 8, 8), "mean": (0.3,), "std": (0.2,)}

    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding="same"), nn.ReLU(), nn.Flatten())
        self.last = nn.Linear(256, classes)

    def forward(self, images):
        return self.last(self.body(images))

def make(num_classes):
    print("a word of the factory's")
    network = Small(num_classes)
    nn.init.constant_(network.body[0].bias, 0.25)
    return network

def positional(classes):
    return Small(classes)

def raising(num_classes):
    raise OSError("no such weights")

def nothing(num_classes):
    return 3

def few(num_classes):
    return Small(num_classes - 1)

def wide(num_classes):
    return nn.Flatten()

number = 3
"""


def network(classes: int = 10, seed: int = 0) -> nn.Module:
    """One grey channel of 8 pixels to logits that differ."""
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    return made.append(nn.Linear(144, classes)).eval()


def scripted(path: Path, frozen: bool = False, seed: int = 0) -> Path:
    """A TorchScript archive of the network."""
    with warnings.catch_warnings(action="ignore"):  # deprecated
        script = torch.jit.trace(network(seed=seed), torch.zeros(1, 1, 8, 8))
        torch.jit.save(torch.jit.freeze(script) if frozen else script, path)
    return path


def exported(
    path: Path,
    made: nn.Module | None = None,
    image: tuple[int, int, int] = (1, 8, 8),
    *,
    batch: int | None = None,
    seed: int = 0,
) -> Path:
    """An ONNX file of a network; it takes any number of images, or so many."""
    free = {} if batch else {"images": {0: "n"}}
    images = torch.zeros(batch or 1, *image)
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            made or network(seed=seed),
            (images,),
            path,
            dynamo=False,
            input_names=["images"],
            dynamic_axes=free,
        )
    return path


def described(folder: Path, file: str, *more: str) -> None:
    flags = ("--input-size", "8", "--mean", "0.5", "--std", "0.5")
    named = () if "--classes" in more else ("--classes-of", "digits")
    answer = inside(folder, "teacher", "describe", file, *flags, *named, *more)
    assert answer.status == 0, answer.err


def searched(folder: Path, *arguments: str) -> None:
    answer = inside(folder, "search", *SEARCH, *arguments)
    assert answer.status == 0, answer.err
    assert list(trials(folder)["state"]) == ["COMPLETE"] * 2


def resumed(folder: Path, elsewhere: Path) -> None:
    """From another working folder, in which nothing of the user's lies."""
    elsewhere.mkdir()
    storage = ("--storage", str(folder / "studies.db"), "--cache", str(folder / "cache2"))
    answer = inside(elsewhere, "resume", "s", "--trials", "1", *storage, "--device", "cpu")
    assert answer.status == 0, answer.err
    assert list(trials(folder)["state"]) == ["COMPLETE"] * 3
