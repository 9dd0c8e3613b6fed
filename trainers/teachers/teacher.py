"""Teachers: any network of `trainers.teachers.networks`, with its own input.

A teacher on disk is a state dict (`NAME.pt`) and beside it `NAME.json`: network, classes, input
size, normalisation and measured accuracy.
"""

import io
import json
import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from space.errors import InputError, first_line
from space.file_format import MAX_SIZE, normalisation
from space.references import REFERENCES
from space.schema import read
from trainers.data.datasets import Data
from trainers.data.walk import normal
from trainers.files import write_atomically
from trainers.model import Model, weights_hash
from trainers.teachers.downloads import imagenet
from trainers.teachers.networks import (
    TIMM,
    check_name,
    head,
    is_factory,
    is_network,
    make_network,
    own_input,
    says_its_input,
)
from trainers.teachers.weights import fill, read_content

BESIDE = (".json", ".checkpoint")  # files that are written beside a teacher's, under its name
IMAGENET = "imagenet"  # weights that torchvision or timm downloads
FACTORY = "factory"  # weights that a factory's network comes with

Numbers = tuple[float, ...]  # one a channel


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherInfo:
    """What is recorded beside a teacher's weights."""

    network: str  # a name that `trainers.teachers.networks` knows
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


def own_size(name: str) -> int | None:
    """Pixels of the input that a network says it wants; None where it does not say."""
    if not says_its_input(name):
        return None
    return own_input(name, make_network(name, classes=2, channels=3, seed=0)).size


def untrained(
    name: str,
    data: Data,
    *,
    size: int | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    seed: int = 0,
    pretrained: bool = False,
) -> tuple[Model, TeacherInfo]:
    """A new teacher for the data's classes; torchvision's and timm's networks see three channels.

    Args:
        size: pixels of its input; by default what the network says, else the data's.
        mean: per channel, of inputs in [0, 1]; by default what the network says, else ImageNet's.
        std: likewise.
        pretrained: with timm's weights; only for timm's networks.

    Raises:
        InputError: no such network, or one that cannot take such images.
    """
    classes, ours = data.classes, name in REFERENCES
    network = make_network(
        name,
        classes=len(classes),
        channels=data.channels if ours else 3,
        seed=seed,
        pretrained=pretrained,
    )
    own = own_input(name, network)
    channels = data.channels if ours else own.channels or 3
    default_mean, default_std = normalisation(channels)
    info = TeacherInfo(
        network=name,
        classes=classes,
        channels=channels,
        size=size or own.size or data.size,
        mean=mean or own.mean or default_mean,
        std=std or own.std or default_std,
    )
    odd = _odd(info)
    if odd:
        raise InputError(
            f"the input of {name}: {odd}, but got size {info.size}, mean {list(info.mean)} and std "
            f"{list(info.std)} for {channels} channels; state --input-size, --mean and --std"
        )
    return _model(network, info), info


def pretrained(
    name: str,
    data: Data,
    weights: str,
    *,
    size: int | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    seed: int = 0,
) -> tuple[Model, TeacherInfo]:
    """A teacher whose body is pretrained and whose last layer is new.

    Its input is stated as for `untrained`.

    Args:
        weights: `imagenet` (downloaded by torchvision or timm), `factory` (the network of a factory
            as it is made, its last layer too), or a file with a state dict.
    """
    new_one = partial(untrained, name, data, size=size, mean=mean, std=std, seed=seed)
    if weights == FACTORY:
        if not is_factory(name):
            raise InputError(
                f"--pretrained {FACTORY} needs a network that a factory makes (module:function), "
                f"but got {name}; give imagenet or a file"
            )
        model, info = new_one()
        return model, replace(info, trained=f"fine-tuned from what {name} gives")
    if weights == IMAGENET and is_factory(name):
        raise InputError(
            f"--pretrained {IMAGENET} needs a network of torchvision or timm, but {name} is a "
            f"factory; if its network comes with weights: --pretrained {FACTORY}"
        )
    loaded = weights == IMAGENET and name.startswith(TIMM)
    model, info = new_one(pretrained=loaded)
    if not loaded:
        content = imagenet(name, info.size) if weights == IMAGENET else read_content(Path(weights))
        new = head(model.network)  # also where the file's happens to fit
        fill(model.network, content, weights, name, new)
    return model, replace(info, trained=f"fine-tuned from {Path(weights).name}")


def own_weights(network: str) -> str:
    """What a network is fine-tuned from where nothing is stated."""
    return FACTORY if is_factory(network) else IMAGENET


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
    network.load_state_dict(state | {key: state[key][order] for key in head(network)})
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
    if not is_network(info.network):
        check_name(info.network)
    any_number = info.network in REFERENCES or is_factory(info.network)
    channels = (1, 3) if any_number else (3,)
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
    """The network with its input, once it has shown that it takes such images to such logits."""
    model = Model(network, size=info.size, mean=info.mean, std=info.std)
    try:
        with torch.inference_mode():
            given = model.eval()(torch.zeros(1, info.channels, info.size, info.size))
    except Exception as error:  # a network of somebody else's raises what it likes
        raise InputError(
            f"{info.network} cannot take images of {info.size} pixels "
            f"({first_line(error)}); choose another size"
        ) from None
    shape = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
    if shape != (1, len(info.classes)):
        raise InputError(
            f"{info.network} must give logits of shape (1, {len(info.classes)}) for an image, one "
            f"a class, but gives {shape}; choose or mend the network"
        )
    return model.train()
