"""The commands on a student's file: best, export, test, predict, size."""

from pathlib import Path

import click

from search.cli.options import CACHE, DEVICE, JSON, STORAGE, starting


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--max", "size", help="Bytes that its file may take: 15KB, 15KiB (default: any).")
@click.option("--out", type=click.Path(path_type=Path), help="Where to copy its file.")
@STORAGE
@JSON
def best(
    names: tuple[str, ...], size: str | None, out: Path | None, storage: str, as_json: bool
) -> None:
    """Name the best student of study NAME, and with --out copy its file.

    Several studies of the same data are asked as one. The accuracy is that of the file on the
    validation images; its 95 % interval is for other images of the same kind. Of equally accurate
    students the smaller file is the best, then the earlier trial. Where students were trained over
    further seeds, the best mean wins.
    """
    from search.commands import show

    show.best(storage, names, size, out, as_json)


@click.command()
@click.argument("name")
@click.option("--trial", type=int, help="Number of the trial (default: the best one).")
@click.option("--format", help="Storage format: int8, fp16 or fp32 (default: the study's own).")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write.")
@STORAGE
@JSON
def export(
    name: str, trial: int | None, format: str | None, out: Path, storage: str, as_json: bool
) -> None:
    """Write a student's file."""
    from search.commands import students

    students.export(storage, name, trial, format, out, as_json)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--data", required=True, help='"digits" or a folder with a test split.')
@CACHE
@DEVICE
@JSON
def test(file: Path, data: str, cache: str, device: str, as_json: bool) -> None:
    """Test a student's FILE on the test split.

    This is for the final figure. Choose between students by their validation accuracy.
    """
    starting(f"test of {file}")
    from search.commands import students

    students.test(file, data, cache, device, as_json)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("images", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--top", type=click.IntRange(1), default=3, show_default=True, help="Classes to show."
)
@DEVICE
@JSON
def predict(file: Path, images: tuple[Path, ...], top: int, device: str, as_json: bool) -> None:
    """Classify IMAGES with a student's FILE."""
    from search.commands import students

    students.predict(file, images, top, device, as_json)


@click.command()
@click.argument("what")
@click.option(
    "--classes",
    type=click.IntRange(2),
    default=11,
    show_default=True,
    help="Classes to tell apart.",
)
@click.option(
    "--channels",
    type=click.Choice(["1", "3"]),
    default="3",
    show_default=True,
    help="Channels of its images: 1 is grey, 3 is RGB.",
)
@click.option(
    "--size",
    type=click.IntRange(4, 1024),
    default=64,
    show_default=True,
    help="Pixels of its square input.",
)
@JSON
def size(what: str, classes: int, channels: str, size: int, as_json: bool) -> None:
    """Count parameters, MACs and bytes of WHAT.

    WHAT is the name of a reference architecture, an architecture.json, or a student's file. A
    student's file knows its own classes, channels and size.
    """
    from search.commands import students

    students.size(what, classes, int(channels), size, as_json)


COMMANDS = (best, export, test, predict, size)
