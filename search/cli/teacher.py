"""The commands `teacher train`, `finetune`, `describe` and `test`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from search.cli.options import CACHE, DEVICE, JSON, STORAGE, numbers, starting
from space.errors import require

EPOCHS = re.compile(r"\d{1,9}(\s*,\s*\d{1,9})*", re.ASCII)
SHARE = re.compile(r"(\d{1,3}(?:\.\d*)?)\s*%|(\d?\.\d+|[01])", re.ASCII)


@click.group()
def teacher() -> None:
    """Train, fine-tune, describe and test teachers."""


def share(context: click.Context, option: click.Parameter, given: str | None) -> float | None:
    """`52%` or `0.52` as a share; None where it is not given.

    Raises:
        InputError: it is no accuracy.
    """
    if given is None:
        return None
    found = SHARE.fullmatch(given.strip())
    percent, number = found.groups() if found else (None, None)
    value = float(percent) / 100 if percent else float(number or -1)
    require(option.opts[0], given, 0 <= value <= 1, "an accuracy, e.g. 52% or 0.52")
    return value


def epochs(context: click.Context, option: click.Parameter, given: str | None) -> tuple[int, ...]:
    """`2,5,10` as numbers, each once, ascending; none where it is not given.

    Raises:
        InputError: it is no list of whole numbers.
    """
    if given is None:
        return ()
    valid = EPOCHS.fullmatch(given.strip()) is not None
    require(option.opts[0], given, valid, "a list of epochs, e.g. 2,5,10")
    return tuple(sorted(set(map(int, given.split(",")))))


def teacher_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Flags of the commands that train a teacher."""
    options = [
        click.option(
            "--data",
            default="digits",
            show_default=True,
            help='"digits" or a folder of photographs.',
        ),
        click.option(
            "--network",
            help="A torchvision classifier, a reference architecture, timm:NAME, or a function of "
            "yours, module:function.",
        ),
        click.option("--size", type=int, help="Pixels that photographs are decoded to."),
        click.option("--input-size", type=int, help="Pixels that the teacher sees."),
        click.option(
            "--mean",
            callback=numbers,
            help="Of each channel, of inputs from 0 to 1, e.g. 0.485,0.456,0.406.",
        ),
        click.option("--std", callback=numbers, help="Likewise, e.g. 0.229,0.224,0.225."),
        click.option("--epochs", type=int, help="Epochs of training."),
        click.option("--lr", type=float, help="Learning rate at the start."),
        click.option(
            "--keep",
            callback=epochs,
            help="Epochs after which to write the teacher too: 2,5 for teacher-2.pt, teacher-5.pt.",
        ),
        click.option(
            "--seed", type=int, default=0, show_default=True, help="Seed of the training."
        ),
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            default=Path("teacher.pt"),
            show_default=True,
            help="File to write.",
        ),
        CACHE,
        DEVICE,
        JSON,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@teacher.command("train")
@teacher_options
def teacher_train(as_json: bool, **options: Any) -> None:
    """Train a teacher from scratch."""
    starting("teacher")
    from search.commands import teachers

    teachers.train(as_json, weights=None, **options)


@teacher.command("finetune")
@click.option(
    "--pretrained",
    "weights",
    help="imagenet (torchvision or timm downloads it; the default), factory (the weights that a "
    "module:function gives; its default) or a file with a state dict.",
)
@teacher_options
def teacher_finetune(as_json: bool, **options: Any) -> None:
    """Fine-tune a pretrained network.

    A network module:function is one of your own: function(num_classes=K) in module.py, in the
    working folder or installed, returns a torch.nn.Module.
    """
    starting("teacher")
    from search.commands import teachers

    teachers.finetune(as_json, **options)


@teacher.command("describe")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--classes", help="Names in the order of the outputs: a,b,c, or a file of lines.")
@click.option("--classes-of", help='In the order of these data: "digits" or a folder.')
@click.option(
    "--input-size", type=int, help="Pixels that it sees, where its file does not fix them."
)
@click.option(
    "--mean", callback=numbers, help="Of each channel, of inputs from 0 to 1 (default: ImageNet's)."
)
@click.option("--std", callback=numbers, help="Likewise.")
@JSON
def teacher_describe(as_json: bool, **options: Any) -> None:
    """Make a TorchScript archive or an ONNX file a teacher: write what it needs beside it.

    Such a FILE can be asked, but not trained further. Its outputs are logits. TorchScript is code,
    which this runs, and every search with it: describe only what you trust.
    """
    starting(f"description of {options['file']}")
    from search.commands import describe

    describe.describe(as_json, **options)


@teacher.command("test")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--data", default="digits", show_default=True, help='"digits" or a folder of photographs.'
)
@click.option("--size", type=int, help="Pixels that photographs are decoded to.")
@click.option("--recipe", help="Students' recipe, whose views the teacher is asked about.")
@click.option(
    "--views", type=int, default=1, show_default=True, help="Views of each training image."
)
@click.option(
    "--than", callback=share, help="An accuracy of students, to compare with: 52% or 0.52."
)
@click.option("--study", help="A study, to compare with its best student.")
@STORAGE
@CACHE
@DEVICE
@JSON
def teacher_test(as_json: bool, **options: Any) -> None:
    """Test a teacher's FILE: its accuracy, and what students can learn from its answers."""
    starting(f"test of {options['file']}")
    from search.commands import teachers

    teachers.test(as_json, **options)
