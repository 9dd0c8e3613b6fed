"""The command `teacher describe`: what a file that can only be asked needs beside it."""

import json
from contextlib import suppress
from pathlib import Path

from search.study.folder import require_writable
from search.terminal import output
from space.errors import InputError
from space.file_format import normalisation
from trainers.data.layouts import class_names
from trainers.teachers import teacher as teachers
from trainers.teachers.asked import KINDS, kind_of, opened
from trainers.teachers.description import TeacherInfo
from trainers.teachers.teacher import BESIDE, Numbers


def describe(
    as_json: bool,
    *,
    file: Path,
    classes: str | None,
    classes_of: str | None,
    input_size: int | None,
    mean: Numbers | None,
    std: Numbers | None,
) -> None:
    """Write the description beside a TorchScript archive or an ONNX file; check that it fits."""
    names = _names(classes, classes_of)
    kind, beside = kind_of(file), file.with_suffix(".json")
    require_writable(beside)
    if file.suffix in BESIDE or not _ours(beside):
        raise InputError(
            f"the description must be written to {beside}, but that is another file; rename {file}"
        )
    channels, pixels = opened(kind, file).shape
    channels = channels or len(mean or std or (0.0,) * 3)
    size = input_size or pixels
    if size is None:
        raise InputError(
            f"{file} does not say how large its images are; state it: --input-size PIXELS"
        )
    default_mean, default_std = normalisation(channels)
    info = TeacherInfo(
        network=kind,
        classes=names,
        channels=channels,
        size=size,
        mean=mean or default_mean,
        std=std or default_std,
        trained=f"elsewhere: the {KINDS[kind]} {file.name}",
    )
    teacher = teachers.describe(file, info)
    if as_json:
        facts = {"network": kind, "classes": len(names), "size": size, "hash": teacher.hash}
        output.print_json({"file": str(beside)} | facts)
        return
    output.console().print(
        f"{beside}: {file.name} is a teacher ({KINDS[kind]}) of {len(names)} classes, {size} "
        "pixels; its order of classes is as you said: check it with distilnas teacher test",
        soft_wrap=True,
    )


def _names(given: str | None, data: str | None) -> tuple[str, ...]:
    """Classes in the order of the outputs, from one of the two flags."""
    if (given is None) == (data is None):
        raise InputError(
            "a teacher's classes must be stated in the order of its outputs, once: "
            "--classes a,b,c, --classes FILE or --classes-of DATA"
        )
    if data is not None:
        return class_names(data)
    path = Path(str(given))
    lines = str(given).split(",")
    with suppress(OSError, UnicodeDecodeError):  # a list of names is no file's name
        lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def _ours(beside: Path) -> bool:
    """Whether a description may be written: nothing is there, or an earlier one."""
    try:
        return "network" in json.loads(beside.read_text())
    except FileNotFoundError:
        return True
    except (OSError, ValueError, TypeError):
        return False
