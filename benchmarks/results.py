"""What every benchmark does with its flags and figures: one-line errors, a table, a CSV file.

A CSV file's name says when and on what: `2026-11-25-roofline-torch2.14.1-cpu-2.csv`.
"""

import csv
import datetime
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.table import Table

from space.errors import InputError
from trainers.engine.evaluation import device_name
from trainers.files import write_atomically

FOLDER = Path(__file__).parent / "results"
OUT = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=FOLDER,
    help="Folder of the CSV file.  [default: benchmarks/results]",
)
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")

Row = Mapping[str, object]  # column -> value


def run(command: click.Command) -> None:
    """Run a benchmark: what a user can mend is one line and exit status 2."""
    try:
        command.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _fail(" ".join(error.format_message().split()))
    except InputError as error:
        _fail(str(error))
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(130)


def _fail(message: str) -> None:
    click.echo(f"{Path(sys.argv[0]).name}: {message}", err=True)
    sys.exit(2)


def numbers(lowest: int) -> Callable[..., tuple[int, ...]]:
    """A click callback that reads `32,48,64`: distinct numbers, each at least `lowest`."""

    def read(_context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
        try:
            values = tuple(int(part) for part in text.split(",") if part.strip())
        except ValueError:
            values = ()
        if not values or min(values) < lowest or len(set(values)) < len(values):
            rule = f"different numbers of at least {lowest}, as in 32,48,64"
            raise click.BadParameter(f"must be {rule}, but got {text!r}", param=parameter)
        return values

    return read


def device_slug(device: torch.device) -> str:
    """`cpu-2` (threads), `nvidia-h200`."""
    if device.type == "cpu":
        return f"cpu-{torch.get_num_threads()}"
    return re.sub(r"[^a-z0-9]+", "-", device_name(device).lower()).strip("-")


def csv_path(folder: Path, benchmark: str, device: torch.device) -> Path:
    """Where a benchmark of today keeps its figures."""
    release = torch.__version__.split("+")[0]
    today = datetime.date.today().isoformat()
    return folder / f"{today}-{benchmark}-torch{release}-{device_slug(device)}.csv"


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows of one and the same columns; a number keeps six digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _digits(value) for name, value in row.items()} for row in rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(text.getvalue().encode()))
    except OSError as error:
        raise InputError(
            f"the results cannot be written to {path.parent}: {error.strerror}; "
            "choose another --out"
        ) from None


def _digits(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The first column to the left, the others, being numbers, to the right."""
    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for place, name in enumerate(columns):
        drawn.add_column(name, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        drawn.add_row(*row)
    return drawn


def console() -> Console:
    """Standard output; in a file, as wide as the table wants."""
    written = Console(highlight=False, markup=False)
    return written if written.is_terminal else Console(highlight=False, markup=False, width=200)
