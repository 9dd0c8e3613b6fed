"""Training in seconds: a few bright patches to tell apart, small networks, short recipes."""

from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import nn

from space.architecture import Architecture, Stage
from space.build import build as build
from trainers.data.datasets import Data, Split
from trainers.model import Model, weights_hash
from trainers.policies import POLICIES
from trainers.recipe import HARD_ONLY, Recipe
from trainers.teachers.description import TeacherInfo
from trainers.teachers.teacher import Teacher

SIZE = 8  # pixels
CLASSES = ("top", "middle", "bottom")
CPU = torch.device("cpu")

ARCHITECTURE = Architecture(
    stem=Stage(width=8),
    stages=(
        Stage(width=12, block="depthwise", stride=2),
        Stage(width=16, block="group", groups=4, depth=2, se=4, residual=True),
    ),
    classes=len(CLASSES),
    channels=1,
)
RECIPE = Recipe(
    epochs=3, batch=16, ema=0.9, bn_batches=2, phases=HARD_ONLY, augment=POLICIES["digits"]
)
SOFT = RECIPE.with_settings({"phases": [[0, 0.5]]})


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Imported by a test file: its tests leave the second core to others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def split(count: int, seed: int) -> Split:
    """Noise, and a bright bar whose height is the class; every class as often as the others."""
    generator = torch.Generator().manual_seed(seed)
    images_NCHW = torch.randint(0, 150, (count, 1, SIZE, SIZE), generator=generator)
    labels_N = torch.arange(count) % len(CLASSES)
    for image_CHW, label in zip(images_NCHW, labels_N.tolist(), strict=True):
        image_CHW[:, 1 + 2 * label : 3 + 2 * label] += 100
    return Split(images_NCHW.to(torch.uint8), labels_N)


def data(count: int = 70, *, validation: int = 60, fingerprint: str = "0123456789ab") -> Data:
    return Data("bars", CLASSES, 1, SIZE, split(count, 1), split(validation, 2), fingerprint)


def model(network: nn.Module | None = None, *, seed: int = 0) -> Model:
    """The network, or the small student, with its input."""
    network = network or build(ARCHITECTURE, seed=seed)
    return Model(network, size=SIZE, mean=(0.5,), std=(0.5,))


def teacher(network: nn.Module | None = None, *, seed: int = 7, size: int = SIZE) -> Teacher:
    """One whose answers differ from image to image, untrained as it is."""
    network = network or build(ARCHITECTURE, seed=seed)
    with torch.no_grad():
        list(network.parameters())[-2].mul_(1000)  # the classifier's weights, which begin small
    info = TeacherInfo(
        network="teacher-small", classes=CLASSES, channels=1, size=size, mean=(0.5,), std=(0.5,)
    )
    asked = Model(network, size=size, mean=info.mean, std=info.std)
    return Teacher(asked, info, weights_hash(network))


def same(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    """Whether two state dicts are equal to the bit."""
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)
