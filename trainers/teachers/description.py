"""What is recorded beside a teacher's file: `NAME.json` beside `NAME.pt`."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from space.errors import InputError
from space.file_format import MAX_SIZE
from space.references import REFERENCES
from space.schema import read
from trainers.data.walk import normal
from trainers.files import write_atomically
from trainers.teachers.asked import KINDS
from trainers.teachers.ensemble import ENSEMBLE, MIXES
from trainers.teachers.networks import check_name, is_factory, is_network


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherInfo:
    """What is recorded beside a teacher's weights."""

    # A name that `trainers.teachers.networks` knows, or torchscript, onnx or ensemble.
    network: str
    classes: tuple[str, ...]  # in the order of the teacher's logits
    channels: int  # of the input
    size: int  # pixels
    mean: tuple[float, ...]  # per channel, of inputs in [0, 1]
    std: tuple[float, ...]
    accuracy: float | None = None  # validation
    trained: str = ""  # on what, from what
    # Pixels of the photographs that a study asks it about; of a study's copy alone. None: those
    # of the students, which it resizes to its own, as in studies of version 0.1.
    asked_at: int | None = None
    order: tuple[int, ...] = ()  # which of the network's outputs each class is; (): in their order
    members: int = 0  # of an ensemble
    mix: str = ""  # of an ensemble: how its members' answers become one


def write_info(path: Path, info: TeacherInfo) -> None:
    """Write the description beside a teacher's file."""
    text = json.dumps(asdict(info), indent=2) + "\n"
    write_atomically(path.with_suffix(".json"), lambda file: file.write(text.encode()))


def read_info(path: Path) -> TeacherInfo:
    """The description beside a teacher's weights."""
    beside = path.with_suffix(".json")
    try:
        info = read(TeacherInfo, json.loads(beside.read_text()), "it")
        wrong = odd(info)
    except OSError:
        if not path.exists():
            raise InputError(f"teacher {path} must be a file, but is not there") from None
        raise InputError(
            f"a teacher needs its description beside it, but {beside} cannot be read; "
            "fine-tune the weights (distilnas teacher finetune --pretrained FILE), or describe a "
            "TorchScript or ONNX file (distilnas teacher describe FILE)"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{beside} is not a teacher's description: {error}") from None
    if wrong:
        raise InputError(f"{beside} is not a teacher's description: {wrong}")
    return info


def odd(info: TeacherInfo) -> str:
    """What is wrong with a description, in words."""
    named = info.network not in (*KINDS, ENSEMBLE)
    if named and not is_network(info.network):
        check_name(info.network)
    any_number = info.network in REFERENCES or is_factory(info.network) or not named
    channels = (1, 3) if any_number else (3,)
    numbers = [*info.mean, *info.std]
    several = info.network == ENSEMBLE
    rules = {
        "classes must be names, two or more": len(info.classes) > 1,
        "classes must be different names": len(set(map(normal, info.classes))) == len(info.classes),
        f"channels must be {' or '.join(map(str, channels))}": info.channels in channels,
        "mean and std must be one number a channel": len(info.mean) == len(info.std)
        and len(info.std) == info.channels
        and all(math.isfinite(number) for number in numbers),
        "std must be above 0": all(number > 0 for number in info.std),
        f"size must be 1 to {MAX_SIZE} pixels": 1 <= info.size <= MAX_SIZE,
        "order must be the places of all classes": not info.order
        or sorted(info.order) == list(range(len(info.classes))),
        "an ensemble must have two members or more": not several or info.members > 1,
        f"mix must be one of {', '.join(MIXES)}": not several or info.mix in MIXES,
    }
    return next((rule for rule, holds in rules.items() if not holds), "")


def require_classes(info: TeacherInfo, classes: tuple[str, ...]) -> None:
    """Raise InputError unless the teacher knows exactly these classes, in this order."""
    if tuple(map(normal, info.classes)) != tuple(map(normal, classes)):
        raise other_classes(info, classes)


def places_of(info: TeacherInfo, classes: tuple[str, ...]) -> list[int]:
    """Index of each class among a teacher's logits; InputError where it knows others."""
    names = [normal(name) for name in info.classes]
    if sorted(names) != sorted(map(normal, classes)):
        raise other_classes(info, classes)
    return [names.index(normal(name)) for name in classes]


def other_classes(info: TeacherInfo, classes: tuple[str, ...]) -> InputError:
    """The error for a teacher that knows other classes than the data's, or in another order."""
    known, wanted = set(map(normal, info.classes)), set(map(normal, classes))
    missing = [name for name in classes if normal(name) not in known]
    unknown = [name for name in info.classes if normal(name) not in wanted]
    why = "it has them in another order"
    why = f"it also knows {unknown[0]!r}" if unknown else why
    why = f"it does not know {missing[0]!r}" if missing else why
    way_out = (
        "describe it with the data's names: distilnas teacher describe"
        if info.network in KINDS
        else "fine-tune it: distilnas teacher finetune"
    )
    return InputError(
        f"the teacher must know the data's {len(classes)} classes, but {why}: it was taught "
        f"{len(info.classes)} ({', '.join(info.classes[:3])}, ...); {way_out}"
    )
