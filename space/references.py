"""Named architectures to compare with and to teach."""

from collections.abc import Callable
from pathlib import Path

from space.architecture import Architecture, Stage
from space.errors import InputError, require_one_of


def ntu_ml2020(classes: int, channels: int) -> Architecture:
    """The student of NTU's ML2020 course, homework 7: 256,779 parameters at 11 classes."""
    widths = (32, 64, 128, 256, 256, 256, 256)
    stages = tuple(
        Stage(
            width=width,
            block="depthwise-bare",
            stride=2 if index < 3 else 1,
            downsample="maxpool" if index < 3 else "stride",
            activation="relu6",
        )
        for index, width in enumerate(widths)
    )
    stem = Stage(width=16, stride=2, downsample="maxpool", activation="relu6")
    return Architecture(stem=stem, stages=stages, classes=classes, channels=channels, bias=True)


def report_student(classes: int, channels: int) -> Architecture:
    """After a course report: depthwise first, group convolutions late, SE and shortcuts.

    Under 300,000 bytes in fp16 at 11 classes.
    """
    stages = (
        Stage(width=48, block="depthwise", stride=2),
        Stage(width=96, block="depthwise", stride=2, depth=2, se=8, residual=True),
        Stage(width=128, block="group", groups=8, stride=2, depth=2, se=8, residual=True),
        Stage(width=184, block="group", groups=8, depth=2, se=8, residual=True),
    )
    stem = Stage(width=32, stride=2)
    return Architecture(stem=stem, stages=stages, classes=classes, channels=channels)


def digits_student(classes: int, channels: int) -> Architecture:
    """After `report_student`, for images of 8 pixels: what ablations of minutes begin from."""
    stages = (
        Stage(width=24, block="depthwise", stride=2, se=4),
        Stage(width=32, block="depthwise", depth=2, se=4, residual=True),
        Stage(width=48, block="group", groups=4, depth=2, se=4, residual=True),
    )
    return Architecture(stem=Stage(width=12), stages=stages, classes=classes, channels=channels)


def teacher_small(classes: int, channels: int) -> Architecture:
    """A residual network (arXiv:1512.03385, smaller): a teacher that trains in minutes."""
    stages = tuple(Stage(width=width, block="residual", stride=2) for width in (32, 64, 128))
    return Architecture(stem=Stage(width=32), stages=stages, classes=classes, channels=channels)


REFERENCES: dict[str, Callable[[int, int], Architecture]] = {
    "ntu-ml2020": ntu_ml2020,
    "report-student": report_student,
    "digits-student": digits_student,
    "teacher-small": teacher_small,
}


def read_architecture(path: Path) -> Architecture:
    """An architecture's JSON file.

    Raises:
        InputError: it cannot be read (the message lists the named architectures), or is not one.
    """
    try:
        return Architecture.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise InputError(
            f"{str(path)!r} is neither a reference architecture ({', '.join(REFERENCES)}) "
            "nor a readable file of one"
        ) from None


def reference(name: str, *, classes: int, channels: int = 3) -> Architecture:
    """The named architecture; raises InputError, listing the valid names, for another name."""
    require_one_of("reference", name, REFERENCES)
    architecture = REFERENCES[name](classes, channels)
    architecture.check()
    return architecture
