"""Pretrained weights of torchvision's networks, downloaded where they are not there yet."""

from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import torch
import torchvision.models

from space.errors import InputError, require_one_of
from trainers.teachers.networks import torchvision_names
from trainers.teachers.weights import read_content


def imagenet(name: str, size: int) -> object:
    """What torchvision's file of a network's weights holds, downloaded where it is not there.

    The default ones, unless these want larger images than `size` and others do not.
    """
    require_one_of("network with ImageNet weights", name, torchvision_names())
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
