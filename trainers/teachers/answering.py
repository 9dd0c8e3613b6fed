"""A teacher that answers: one network with its input, or several as one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from space.errors import InputError, first_line, require_one_of
from space.fingerprint import fingerprint
from trainers.model import Model, weights_hash
from trainers.teachers.asked import Asked
from trainers.teachers.description import TeacherInfo, places_of
from trainers.teachers.ensemble import ENSEMBLE, MIXES, Ensemble


@dataclass(frozen=True, slots=True)
class Teacher:
    """A frozen network, used for inference only."""

    model: Model  # images in [0, 1] -> logits; of an ensemble, its network is an `Ensemble`
    info: TeacherInfo
    hash: str  # of every weight or of its file, and of the order of its outputs
    members: "tuple[Teacher, ...]" = ()  # of an ensemble

    @property
    def parameters(self) -> int | None:
        """How many weights it has; None where a file does not tell."""
        if self.members:
            counts = [member.parameters for member in self.members]
            return None if None in counts else sum(count or 0 for count in counts)
        return sum(weight.numel() for weight in self.model.parameters()) or None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pixels of its input; of an ensemble those of all members, the smallest first."""
        return tuple(sorted({self.info.size, *(n for m in self.members for n in m.sizes)}))

    @property
    def network(self) -> str:
        """What it is, in words."""
        return " + ".join(member.network for member in self.members) or self.info.network

    @property
    def facts(self) -> dict[str, object]:
        """What studies keep of it, as JSON data."""
        return {
            "network": self.network,
            "parameters": self.parameters,
            "accuracy": self.info.accuracy,
            "trained": self.info.trained,
        }


def frozen(model: Model, info: TeacherInfo) -> Teacher:
    """A frozen teacher, known by its file's content or its weights, and by the order of classes."""
    network = model.network
    own = fingerprint(network.content) if isinstance(network, Asked) else weights_hash(network)
    if info.order:
        own = fingerprint([own, list(info.order)])
    model.requires_grad_(False).eval()
    return Teacher(model, info, own)


def modelled(network: nn.Module, info: TeacherInfo) -> Model:
    """The network with its input, once it has shown that it takes such images to such logits."""
    model = Model(network, size=info.size, mean=info.mean, std=info.std, order=info.order)
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


def together(members: Sequence[Teacher], mix: str) -> Teacher:
    """Teachers of the same classes asked as one, about photographs of the largest's size.

    Args:
        mix: how their answers become one: `probabilities` or `logits`.
    """
    require_one_of("teacher mix", mix, MIXES)
    channels = min(member.info.channels for member in members)  # others repeat the one channel
    info = TeacherInfo(
        network=ENSEMBLE,
        classes=members[0].info.classes,
        channels=channels,
        size=max(member.info.size for member in members),
        mean=(0.0,) * channels,  # its members normalise
        std=(1.0,) * channels,
        trained=f"{len(members)} teachers, mean of their {mix}",
        members=len(members),
        mix=mix,
    )
    # All that its answers depend on.
    seen = [
        [member.hash, member.info.network, member.info.size, member.info.mean, member.info.std]
        for member in members
    ]
    network = Ensemble([member.model for member in members], mix)
    model = Model(network, size=info.size, mean=info.mean, std=info.std).eval()
    return Teacher(model, info, fingerprint([mix, seen]), tuple(members))


def for_classes(teacher: Teacher, classes: tuple[str, ...]) -> Teacher:
    """The teacher with its logits in the order of these classes.

    Version 0.1 sorted a Mac's class names as they lie on the disk, which is another order.

    Raises:
        InputError: it knows other classes.
    """
    places = places_of(teacher.info, classes)
    if places == list(range(len(places))):
        return teacher
    if teacher.members:
        return together([for_classes(m, classes) for m in teacher.members], teacher.info.mix)
    before = teacher.info.order or range(len(places))
    info = replace(teacher.info, classes=classes, order=tuple(before[place] for place in places))
    return frozen(modelled(teacher.model.network, info), info)
