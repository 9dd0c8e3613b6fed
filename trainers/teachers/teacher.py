"""Teachers: any torchvision classifier or named reference network, with its own input.

A teacher on disk is a state dict (`NAME.pt`) and beside it `NAME.json`: network, classes, input
size, normalisation and measured accuracy.
"""

import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import torch
import torchvision.models
from torch import nn

from space.build import build
from space.errors import InputError, first_line, require_one_of
from space.file_format import MAX_SIZE, normalisation
from space.modules import with_sound_convolutions
from space.references import REFERENCES, reference
from space.schema import read
from trainers.data.datasets import Data
from trainers.data.walk import normal
from trainers.files import write_atomically
from trainers.model import Model, weights_hash
from trainers.teachers.weights import fill, read_content

# Without the auxiliary classifiers that these two have while training, and that we do not train.
SETTINGS = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}
BESIDE = (".json", ".checkpoint")  # files that are written beside a teacher's, under its name
IMAGENET = "imagenet"  # weights that torchvision downloads


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherInfo:
    """What is recorded beside a teacher's weights."""

    network: str  # a torchvision classifier or a reference architecture
    classes: tuple[str, ...]
    channels: int  # of the input
    size: int  # pixels
    mean: tuple[float, ...]  # per channel, of inputs in [0, 1]
    std: tuple[float, ...]
    accuracy: float | None = None  # validation
    trained: str = ""  # on what, from what
    # Pixels of the photographs that a study asks it about; of a study's copy alone. None: those
    # of the students, which it resizes to its own, as in studies of version 0.1.
    asked_at: int | None = None


@dataclass(frozen=True, slots=True)
class Teacher:
    """A frozen network, used for inference only."""

    model: Model
    info: TeacherInfo
    hash: str  # of every weight

    @property
    def facts(self) -> dict[str, object]:
        """What studies keep of it, as JSON data."""
        return {
            "network": self.info.network,
            "parameters": sum(weight.numel() for weight in self.model.parameters()),
            "accuracy": self.info.accuracy,
            "trained": self.info.trained,
        }


def networks() -> tuple[str, ...]:
    """Names that a teacher's network can have."""
    return (*REFERENCES, *torchvision.models.list_models(module=torchvision.models))


def make_network(name: str, *, classes: int, channels: int, seed: int) -> nn.Module:
    """An untrained network: a reference architecture of ours, or torchvision's classifier."""
    require_one_of("teacher network", name, networks())
    if name in REFERENCES:
        return build(reference(name, classes=classes, channels=channels), seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = torchvision.models.get_model(
            name, weights=None, num_classes=classes, **SETTINGS.get(name, {})
        )
    return with_sound_convolutions(network)


def untrained(
    name: str, data: Data, *, size: int | None = None, seed: int = 0
) -> tuple[Model, TeacherInfo]:
    """A new teacher for the data's classes; torchvision's networks see three channels."""
    channels = data.channels if name in REFERENCES else 3
    network = make_network(name, classes=len(data.classes), channels=channels, seed=seed)
    mean, std = normalisation(channels)
    info = TeacherInfo(
        network=name,
        classes=data.classes,
        channels=channels,
        size=size or data.size,
        mean=mean,
        std=std,
    )
    return _model(network, info), info


def pretrained(
    name: str, data: Data, weights: str, *, size: int | None = None, seed: int = 0
) -> tuple[Model, TeacherInfo]:
    """A teacher whose body is pretrained and whose last layer is new.

    Args:
        weights: `imagenet` (downloaded by torchvision) or a file with a state dict.
    """
    model, info = untrained(name, data, size=size, seed=seed)
    named = weights == IMAGENET
    content = _imagenet(name, info.size) if named else read_content(Path(weights))
    last = _last_layer(model.network.state_dict())  # new also where it happens to fit
    fill(model.network, content, weights, name, last)
    return model, replace(info, trained=f"fine-tuned from {Path(weights).name}")


def save(path: Path, model: Model, info: TeacherInfo) -> Teacher:
    """Write `path` and the JSON beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = model.network.state_dict()  # with torch's versions of its parts
    state.update({name: tensor.cpu() for name, tensor in state.items()})
    # Not straight to the file: torch.save turns a full disk's OSError into a RuntimeError.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))
    text = json.dumps(asdict(info), indent=2) + "\n"
    write_atomically(path.with_suffix(".json"), lambda file: file.write(text.encode()))
    return Teacher(model, info, weights_hash(model.network))


def load(path: Path, info: TeacherInfo | None = None) -> Teacher:
    """Read a teacher; `info` describes weights that have no JSON beside them.

    Raises:
        InputError: a file is missing, damaged, or does not fit the network it names.
    """
    info = info or read_info(path)
    network = make_network(info.network, classes=len(info.classes), channels=info.channels, seed=0)
    name = f"{info.network} with {len(info.classes)} classes"
    fill(network, read_content(path), f"teacher {path}", name, new=())
    model = _model(network, info)
    model.requires_grad_(False).eval()
    return Teacher(model, info, weights_hash(network))


def require_classes(info: TeacherInfo, classes: tuple[str, ...]) -> None:
    """Raise InputError unless the teacher knows exactly these classes, in this order."""
    if tuple(map(normal, info.classes)) != tuple(map(normal, classes)):
        raise other_classes(info, classes)


def places_of(info: TeacherInfo, classes: tuple[str, ...]) -> list[int]:
    """Index of each class among a teacher's outputs; InputError where it knows others."""
    names = [normal(name) for name in info.classes]
    if sorted(names) != sorted(map(normal, classes)):
        raise other_classes(info, classes)
    return [names.index(normal(name)) for name in classes]


def for_classes(teacher: Teacher, classes: tuple[str, ...]) -> Teacher:
    """The teacher with its outputs in the order of these classes.

    Version 0.1 sorted a Mac's class names as they lie on the disk, which is another order.

    Raises:
        InputError: it knows other classes.
    """
    order = places_of(teacher.info, classes)
    if order == list(range(len(order))):
        return teacher
    network = teacher.model.network
    state = network.state_dict()
    network.load_state_dict(state | {key: state[key][order] for key in _last_layer(state)})
    return Teacher(teacher.model, replace(teacher.info, classes=classes), weights_hash(network))


def other_classes(info: TeacherInfo, classes: tuple[str, ...]) -> InputError:
    """The error for a teacher that knows other classes than the data's."""
    return InputError(
        f"the teacher must know the data's {len(classes)} classes, but it was taught "
        f"{len(info.classes)} ({', '.join(info.classes[:3])}, ...); "
        "fine-tune it: distilnas teacher finetune"
    )


def read_info(path: Path) -> TeacherInfo:
    """The description beside a teacher's weights."""
    beside = path.with_suffix(".json")
    try:
        info = read(TeacherInfo, json.loads(beside.read_text()), "it")
        odd = _odd(info)
    except OSError:
        if not path.exists():
            raise InputError(f"teacher {path} must be a file, but is not there") from None
        raise InputError(
            f"a teacher needs its description beside it, but {beside} cannot be read; "
            "fine-tune the weights: distilnas teacher finetune --pretrained FILE"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{beside} is not a teacher's description: {error}") from None
    if odd:
        raise InputError(f"{beside} is not a teacher's description: {odd}")
    return info


def _odd(info: TeacherInfo) -> str:
    """What is wrong with a description, in words."""
    require_one_of("teacher network", info.network, networks())
    channels = (1, 3) if info.network in REFERENCES else (3,)
    numbers = [*info.mean, *info.std]
    rules = {
        "classes must be names, two or more": len(info.classes) > 1,
        f"channels must be {' or '.join(map(str, channels))}": info.channels in channels,
        "mean and std must be one number a channel": len(info.mean) == len(info.std)
        and len(info.std) == info.channels
        and all(math.isfinite(number) for number in numbers),
        "std must be above 0": all(number > 0 for number in info.std),
        f"size must be 1 to {MAX_SIZE} pixels": 1 <= info.size <= MAX_SIZE,
    }
    return next((rule for rule, holds in rules.items() if not holds), "")


def _model(network: nn.Module, info: TeacherInfo) -> Model:
    """The network with its input, once it has shown that it takes images of that size."""
    model = Model(network, size=info.size, mean=info.mean, std=info.std)
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, info.channels, info.size, info.size))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(
            f"{info.network} cannot take images of {info.size} pixels "
            f"({first_line(error)}); choose another size"
        ) from None
    return model.train()


def _last_layer(state: Mapping[str, torch.Tensor]) -> set[str]:
    prefix = list(state)[-1].rpartition(".")[0]
    return {key for key in state if key.rpartition(".")[0] == prefix}


def _imagenet(name: str, size: int) -> object:
    """What torchvision's file of a network's weights holds, downloaded where it is not there.

    The default ones, unless these want larger images than `size` and others do not.
    """
    require_one_of(
        "network with ImageNet weights", name, torchvision.models.list_models(torchvision.models)
    )
    if torch.hub.get_dir().startswith("~"):
        raise InputError(
            "torchvision keeps what it downloads in the user's home, but this process has none "
            "(HOME is not set); set TORCH_HOME, or give a local file: --pretrained FILE"
        )
    known = torchvision.models.get_model_weights(name)
    choice = [known.DEFAULT, *known]
    fitting = (weights for weights in choice if max(weights.meta["min_size"]) <= size)
    weights = next(fitting, known.DEFAULT)
    file = Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(weights.url).path).name)
    try:
        if not file.exists():
            weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: the hash is wrong
        raise InputError(
            f"torchvision could not download {name}'s ImageNet weights ({error}); "
            "give a local file: --pretrained FILE"
        ) from None
    try:
        return read_content(file)
    except InputError:
        raise InputError(
            f"torchvision's file {file} is damaged; remove it, and it is downloaded anew"
        ) from None
