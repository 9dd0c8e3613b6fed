"""Networks that a teacher may have, by name: ours, torchvision's, timm's, or a user's own factory.

A factory is a Python function that the user names, `module:function`. It is called as
`function(num_classes=K)` and returns an `nn.Module` that takes images (N x C x H x W) to logits
(N x K).
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from inspect import getsourcefile
from pathlib import Path
from types import ModuleType
from typing import cast

import torch
import torchvision.models
from torch import nn

from space.build import build
from space.errors import InputError, first_line, require
from space.fingerprint import DIGITS, file_fingerprint
from space.modules import with_sound_convolutions
from space.references import REFERENCES, reference

# Without the auxiliary classifiers that these two have while training, and that we do not train.
SETTINGS = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}
TIMM = "timm:"  # begins the names of timm's networks
FACTORY = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<function>[^\W\d]\w*)")
CLOSE = 5  # names that are shown in place of an unknown one


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnInput:
    """What a network says of the images that it wants. None: it says nothing."""

    channels: int | None = None
    size: int | None = None  # pixels
    mean: tuple[float, ...] | None = None  # per channel, of inputs in [0, 1]
    std: tuple[float, ...] | None = None


def names() -> tuple[str, ...]:
    """Names of our networks and torchvision's."""
    return (*REFERENCES, *torchvision_names())


def torchvision_names() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models)  # type: ignore[no-any-return]


def is_factory(name: str) -> bool:
    """Whether a name has the form `module:function`, and is none of timm's."""
    return not name.startswith(TIMM) and FACTORY.fullmatch(name) is not None


def is_network(name: str) -> bool:
    """Whether a name has the form of a network's; `check_name` says whether there is one."""
    return name in names() or name.startswith(TIMM) or is_factory(name)


def check_name(name: str) -> None:
    """Raise InputError unless there is such a network; a factory is imported, but not called."""
    if name.startswith(TIMM):
        _known_to_timm(name)
    elif is_factory(name):
        _factory(name)
    else:
        rule = f"one of {', '.join(names())}, timm:NAME or module:function"
        require("teacher network", name, name in names(), rule)


def make_network(
    name: str, *, classes: int, channels: int, seed: int, pretrained: bool = False
) -> nn.Module:
    """A network of that name; its convolutions are ours.

    Args:
        channels: of the input; only our own networks can have another number than they say.
        pretrained: with the weights that timm has for it; only for timm's networks.

    Raises:
        InputError: there is none, its package is missing, timm cannot download its weights, or its
            factory fails or returns no `nn.Module`.
    """
    check_name(name)
    if name in REFERENCES:
        return build(reference(name, classes=classes, channels=channels), seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name.startswith(TIMM):
            network = _of_timm(name, classes, pretrained)
        elif is_factory(name):
            network = _made(name, classes)
        else:
            network = torchvision.models.get_model(
                name, weights=None, num_classes=classes, **SETTINGS.get(name, {})
            )
    return with_sound_convolutions(network)


def says_its_input(name: str) -> bool:
    """Whether a network of that name may say what images it wants."""
    return name.startswith(TIMM) or is_factory(name)


def own_input(name: str, network: nn.Module) -> OwnInput:
    """What timm's networks, and those of factories, say of their input.

    It is read from `pretrained_cfg` or `default_cfg` (a mapping, as timm's networks have), else
    from the attributes `input_size`, `mean` and `std`: pixels, or (channels, height, width); and
    numbers from 0 to 1 a channel. What is of another type is no such statement.
    """
    if not says_its_input(name):
        return OwnInput()
    configs = (getattr(network, place, None) for place in ("pretrained_cfg", "default_cfg"))
    stated = next((config for config in configs if isinstance(config, Mapping)), None)
    if stated is None:
        stated = {key: getattr(network, key, None) for key in ("input_size", "mean", "std")}
    mean, std = _numbers(stated.get("mean")), _numbers(stated.get("std"))
    size = _numbers(stated.get("input_size"))
    size = (float(stated["input_size"]),) if type(stated.get("input_size")) is int else size
    channels = int(size[0]) if size and len(size) == 3 else None
    return OwnInput(
        channels=channels or (len(mean) if mean else None),
        size=int(size[-1]) if size else None,
        mean=mean,
        std=std,
    )


def head(network: nn.Module) -> set[str]:
    """Names of the weights of the layer that gives the logits.

    timm's networks know it (some have two); of others it is the last of the state dict.
    """
    state = network.state_dict()
    known = getattr(network, "get_classifier", None)
    found = known() if callable(known) else ()
    layers = found if isinstance(found, tuple | list) else (found,)
    places = {
        name for name, part in network.named_modules() if any(part is layer for layer in layers)
    }
    keys = {key for key in state if any(key.startswith(f"{place}.") for place in places)}
    if keys:
        return keys
    prefix = list(state)[-1].rpartition(".")[0]
    return {key for key in state if key.rpartition(".")[0] == prefix}


def identity(name: str) -> str:
    """A network's name, and what tells two states of a factory's file from each other."""
    if not is_factory(name):
        return name
    file = getsourcefile(_factory(name))
    return f"{name} {file_fingerprint(Path(file), DIGITS)}" if file else name


def _numbers(value: object) -> tuple[float, ...] | None:
    """A list of numbers as a tuple; None for whatever else it is."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return None
    valid = all(isinstance(item, int | float) and not isinstance(item, bool) for item in value)
    return tuple(map(float, value)) if valid else None


def _timm(name: str) -> ModuleType:
    try:
        return import_module("timm")
    except ImportError:
        raise InputError(
            f"the network {name} is one of the package timm, which is not installed; "
            'pip install "distilnas[timm]"'
        ) from None


def _known_to_timm(name: str) -> None:
    timm, given = _timm(name), name.removeprefix(TIMM)
    if not timm.is_model(given):
        close = get_close_matches(given, timm.list_models(), CLOSE, 0.5)
        like = f"one like {', '.join(close)}" if close else "e.g. timm:resnet18"
        raise InputError(f"timm must have the network, but has no {given!r}; choose {like}")


def _of_timm(name: str, classes: int, pretrained: bool) -> nn.Module:
    timm, given = _timm(name), name.removeprefix(TIMM)
    try:
        network = timm.create_model(given, pretrained=pretrained, num_classes=classes)
        if pretrained and network.pretrained_cfg.get("num_classes") == classes:
            network.reset_classifier(classes)  # new also where the old one happens to fit
    except Exception as error:  # whatever the network, the hub or the unpickler raises
        if not pretrained:
            raise InputError(
                f"timm cannot make {given} ({first_line(error)}); choose another network"
            ) from None
        raise InputError(
            f"timm could not get {given}'s pretrained weights ({first_line(error)}); "
            "give a local file: --pretrained FILE"
        ) from None
    return cast(nn.Module, network)


def _factory(name: str) -> Callable[..., object]:
    """The function that the user named."""
    found = FACTORY.fullmatch(name)
    assert found, "not a factory's name"
    place, function = found["module"], found["function"]
    here = str(Path.cwd())
    if here not in sys.path:  # as with `python -m`: the user's own file lies beside the studies
        sys.path.insert(0, here)
    try:
        with redirect_stdout(sys.stderr):
            module = import_module(place)
    except Exception as error:  # it is the user's own code
        raise InputError(
            f"the teacher's network {name} needs the module {place}, which cannot be imported "
            f"({first_line(error)}); run this where {place.partition('.')[0]}.py lies, or set "
            "PYTHONPATH"
        ) from None
    made = getattr(module, function, None)
    if not callable(made):
        raise InputError(
            f"the teacher's network {name} must name a function, but {place} has no {function!r} "
            "that can be called"
        )
    return cast(Callable[..., object], made)


def _made(name: str, classes: int) -> nn.Module:
    function = _factory(name)
    try:
        with redirect_stdout(sys.stderr):  # standard output is for results
            network = function(num_classes=classes)
    except Exception as error:  # it is the user's own code
        raise InputError(
            f"the factory {name} must make a network when called as "
            f"{name.partition(':')[2]}(num_classes={classes}), but raised {type(error).__name__}: "
            f"{first_line(error)}"
        ) from None
    if not isinstance(network, nn.Module):
        raise InputError(
            f"the factory {name} must return a torch.nn.Module, but returned "
            f"{type(network).__name__}"
        )
    return network
