"""Teachers: any network of `trainers.teachers.networks`, with its own input; and those that can
only be asked.

A teacher on disk is a file `NAME.pt` and beside it `NAME.json`: network, classes, input size,
normalisation and measured accuracy. The file is a state dict; or a TorchScript archive or an ONNX
file (`trainers.teachers.asked`); or, of an ensemble, a folder with its members, `1.pt` and so on.
"""

import io
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from space.errors import InputError
from space.file_format import normalisation
from space.references import REFERENCES
from trainers.data.datasets import Data
from trainers.files import write_atomically
from trainers.model import Model
from trainers.teachers.answering import Teacher as Teacher
from trainers.teachers.answering import for_classes as for_classes
from trainers.teachers.answering import frozen, modelled
from trainers.teachers.answering import together as together
from trainers.teachers.asked import KINDS, Asked, opened
from trainers.teachers.description import TeacherInfo, odd, read_info, write_info
from trainers.teachers.downloads import imagenet
from trainers.teachers.ensemble import ENSEMBLE
from trainers.teachers.networks import (
    TIMM,
    head,
    is_factory,
    make_network,
    own_input,
    says_its_input,
)
from trainers.teachers.weights import fill, read_content

BESIDE = (".json", ".checkpoint")  # files that are written beside a teacher's, under its name
IMAGENET = "imagenet"  # weights that torchvision or timm downloads
FACTORY = "factory"  # weights that a factory's network comes with

Numbers = tuple[float, ...]  # one a channel


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
    wrong = odd(info)
    if wrong:
        raise InputError(
            f"the input of {name}: {wrong}, but got size {info.size}, mean {list(info.mean)} and "
            f"std {list(info.std)} for {channels} channels; state --input-size, --mean and --std"
        )
    return modelled(network, info), info


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
    if isinstance(model.network, Asked):
        content: bytes | memoryview = model.network.content
    else:
        state = model.network.state_dict()  # with torch's versions of its parts
        state.update({name: tensor.cpu() for name, tensor in state.items()})
        # Not straight to the file: torch.save turns a full disk's OSError into a RuntimeError.
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getbuffer()
    write_atomically(path, lambda file: file.write(content))
    write_info(path, info)
    return frozen(model, info)


def keep(path: Path, teacher: Teacher, asked_at: int) -> Teacher:
    """Write a teacher of any kind to `path`, in place of what was there, as a study asks it.

    Args:
        asked_at: pixels of the photographs that it is asked about.
    """
    info = replace(teacher.info, asked_at=asked_at)
    if path.is_dir():
        shutil.rmtree(path)
    if not teacher.members:
        return save(path, teacher.model, info)
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)
    for number, member in enumerate(teacher.members, 1):
        keep(_member(path, number), member, asked_at)
    write_info(path, info)
    return replace(teacher, info=info)


def files(path: Path) -> Iterator[Path]:
    """What there is of a teacher on the disk: of an ensemble the members' files, too.

    A description is given before it is read, so that it can be fetched first.
    """
    yield path.with_suffix(".json")
    info = read_info(path)
    if info.network != ENSEMBLE:
        yield path
    for number in range(1, info.members + 1):
        yield from files(_member(path, number))


def load(path: Path, info: TeacherInfo | None = None) -> Teacher:
    """Read a teacher; `info` describes a file that has no JSON beside it.

    Raises:
        InputError: a file is missing, damaged, or does not fit the network it names.
    """
    info = info or read_info(path)
    if info.network == ENSEMBLE:
        found = [load(_member(path, number)) for number in range(1, info.members + 1)]
        return replace(together(found, info.mix), info=info)
    network: nn.Module
    if info.network in KINDS:
        network = opened(info.network, path)
    else:
        count = len(info.classes)
        network = make_network(info.network, classes=count, channels=info.channels, seed=0)
        name = f"{info.network} with {count} classes"
        fill(network, read_content(path), f"teacher {path}", name, new=())
    return frozen(modelled(network, info), info)


def describe(path: Path, info: TeacherInfo) -> Teacher:
    """Write the description of a file that can only be asked, once it has shown that it fits.

    Raises:
        InputError: the description is odd, or the file does not fit it.
    """
    wrong = odd(info)
    if wrong:
        raise InputError(f"the description of {path}: {wrong}; state it otherwise")
    teacher = load(path, info)
    write_info(path, info)
    return teacher


def _member(path: Path, number: int) -> Path:
    """The file of an ensemble's member, in its folder."""
    return path / f"{number}.pt"
