"""Flags that several commands of the command line have."""

import math
import re

import click

from search.database.address import DEFAULT_STORAGE, STORAGE_VARIABLE
from search.study.folder import CACHE_VARIABLE, DEFAULT_CACHE
from space.errors import require

PIXELS = re.compile(r"\d{1,9}(\s*,\s*\d{1,9})*", re.ASCII)


def starting(what: str) -> None:
    """Say at once what begins: loading PyTorch takes seconds, and the data more."""
    click.echo(f"{what}: loading PyTorch", err=True)


def pixels(
    context: click.Context, option: click.Parameter, given: str | None
) -> tuple[int, ...] | None:
    """`48,64,96` as numbers; None where it is not given.

    Raises:
        InputError: it is no list of whole numbers.
    """
    if given is None:
        return None
    valid = PIXELS.fullmatch(given.strip()) is not None
    require("--sizes", given, valid, "a list of pixels, e.g. 48,64,96")
    return tuple(map(int, given.split(",")))


def numbers(
    context: click.Context, option: click.Parameter, given: str | None
) -> tuple[float, ...] | None:
    """`0.485,0.456,0.406` as numbers; None where it is not given.

    Raises:
        InputError: it is no list of finite numbers.
    """
    if given is None:
        return None
    try:
        found = tuple(map(float, given.split(",")))
    except ValueError:
        found = ()
    valid = bool(found) and all(map(math.isfinite, found))
    require(option.opts[0], given, valid, "numbers with commas between, e.g. 0.485,0.456,0.406")
    return found


def one_or_several(
    context: click.Context, option: click.Parameter, given: tuple[str, ...]
) -> str | tuple[str, ...] | None:
    """A flag that may be repeated: None, what was given once, or all that was given."""
    return given if len(given) > 1 else next(iter(given), None)


JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
STORAGE = click.option(
    "--storage",
    default=DEFAULT_STORAGE,
    show_default=True,
    envvar=STORAGE_VARIABLE,
    show_envvar=True,
    help="Study database: a file or an address.",
)
CACHE = click.option(
    "--cache",
    default=DEFAULT_CACHE,
    show_default=True,
    envvar=CACHE_VARIABLE,
    show_envvar=True,
    help="Folder for decoded photographs, teachers and teacher logits.",
)
UNLABELLED = click.option(
    "--unlabelled", help="Folder of photographs without labels, taught by what the teacher says."
)
UNLABELLED_NOW = click.option(
    "--unlabelled", help="Where the photographs without labels lie on this machine, if they moved."
)
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
GRACE = click.option(
    "--grace",
    type=float,
    help="Seconds without a heartbeat before another worker may take over a trial (default 60).",
)
ARTIFACTS = click.option(
    "--artifacts",
    help="Folder or s3://bucket/prefix for studies' files, which all workers can reach.",
)
TIMEOUT = click.option(
    "--timeout", help="Stop after so much time of work on the study: 90s, 30min, 2h, 1d."
)
GPU_HOURS = click.option(
    "--gpu-hours", type=float, help="Stop after so many hours of training, summed over devices."
)
ON = click.option("--on", help="Where to train: here (default), ray, or ray://HEAD:PORT.")
GPUS_PER_WORKER = click.option(
    "--gpus-per-worker",
    type=float,
    help="On Ray: GPUs of each worker, e.g. 0.25 (default: 1 if there are any).",
)
WORKERS = click.option(
    "--parallel",
    "--workers",
    "workers",
    default="1",
    show_default=True,
    help="Students trained at once: a number, or auto to measure the fastest.",
)
