"""The command line. Results go to standard output, progress and errors to standard error."""

import errno
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from search.cli import students
from search.cli.ablate import ablate
from search.cli.options import (
    ARTIFACTS,
    CACHE,
    DEVICE,
    GPU_HOURS,
    GPUS_PER_WORKER,
    GRACE,
    JSON,
    ON,
    STORAGE,
    TIMEOUT,
    UNLABELLED,
    UNLABELLED_NOW,
    WORKERS,
    one_or_several,
    pixels,
    starting,
)
from search.cli.teacher import teacher
from search.database.address import STORAGE_VARIABLE, at_home
from search.study.flags import Flags
from search.study.folder import CACHE_VARIABLE
from space.errors import InputError

# Commands import what they need when they run: torch takes seconds, and most do without it.


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="distilnas", prog_name="distilnas")
def cli() -> None:
    """Search for small student networks under a hard size limit, taught by distillation."""


def search_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Flags of `search`; None means: not given, the config file or the default holds."""
    options = [
        click.option("--config", type=click.Path(path_type=Path), help="TOML file of settings."),
        click.option("--data", help='"digits" (default) or a folder of photographs.'),
        UNLABELLED,
        click.option("--size", type=int, help="Pixels of the students' square input."),
        click.option(
            "--sizes",
            callback=pixels,
            help="Sizes of the input that each trial chooses from, e.g. 48,64,96.",
        ),
        click.option("--budget", help="Hard limit: 300KB, 300KiB, 1MB, 256k params."),
        click.option("--format", help="Storage format: int8 (default), fp16, fp32."),
        click.option(
            "--macs", help="A further limit: multiply-accumulates for one image, e.g. 20M."
        ),
        click.option(
            "--ram", help="A further limit: live activations of one image in int8, e.g. 64KB."
        ),
        click.option("--space", help="mixed (default), pyramid, mobile, group, plain or report."),
        click.option(
            "--compressed-stem/--plain-stem",
            default=None,
            help="Whether compressed blocks may start from the first layer (default: plain).",
        ),
        click.option("--multiple", type=int, help="Multiple of every width (default 4)."),
        click.option(
            "--teacher",
            multiple=True,
            callback=one_or_several,
            help="A teacher's file, a network to train as one, or none. Files may be several: "
            "--teacher A --teacher B asks them as one.",
        ),
        click.option(
            "--teacher-mix",
            help="Of several teachers: the mean of their probabilities (default) or logits.",
        ),
        click.option(
            "--teacher-epochs", type=int, help="Epochs of the teacher, if it is trained here."
        ),
        click.option(
            "--recipe", help="Named recipe: default, patient, report-sgd, report-adam, digits."
        ),
        click.option("--epochs", type=int, help="Epochs of each student."),
        click.option("--trials", type=int, help="Students to train (default 16)."),
        click.option(
            "--finalists",
            type=int,
            help="How many of the best students to train again with 3 more seeds.",
        ),
        click.option("--sampler", help="tpe (default), random, gp or nsga2."),
        click.option("--pruner", help="halving (default), median, hyperband or none."),
        click.option("--seed", type=int, help="Seed of the sampler."),
        click.option("--name", help="The study's name."),
        click.option(
            "--storage",
            envvar=STORAGE_VARIABLE,
            show_envvar=True,
            help="Study database (default studies.db).",
        ),
        ARTIFACTS,
        TIMEOUT,
        GPU_HOURS,
        GRACE,
        ON,
        GPUS_PER_WORKER,
        click.option(
            "--cache",
            envvar=CACHE_VARIABLE,
            show_envvar=True,
            help="Folder for decoded photographs, teachers and teacher logits.",
        ),
        click.option("--device", help="auto (default), cpu or cuda."),
        click.option(
            "--parallel",
            "--workers",
            "workers",
            help="Students trained at once: a number (default 1), or auto to measure the fastest.",
        ),
        click.option("--out", help="Where to copy the best student's file."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@cli.command()
@search_options
@click.option("--dry-run", is_flag=True, help="Print what would be done, train nothing.")
@click.option("--prepare", is_flag=True, help="Make the study and its teacher, train no student.")
@JSON
def search(
    config: Path | None, dry_run: bool, prepare: bool, as_json: bool, **flags: object
) -> None:
    """Search for students that fit a budget.

    Without arguments: 16 students of at most 20 KB in int8, for the built-in handwritten digits.

    A table [search] in the file of --config has what is searched of the recipe, and the formats:
    lists such as temperature = [1, 4], ranges such as lr = { low = 0.02, high = 0.2, log = true }.
    """
    starting("dry run" if dry_run else "search")
    from search.commands import search as search_command
    from search.study.settings import resolve

    settings = resolve(config, flags)
    if dry_run:
        search_command.dry_run(settings, as_json)
    else:
        search_command.search(settings, as_json, prepare)


@cli.command()
@click.argument("name")
@click.option(
    "--trials", type=int, help="Students to train in addition to those already asked for."
)
@click.option("--seeds", type=int, help="For an ablation: seeds of each arm, in total.")
@click.option(
    "--finalists", type=int, help="How many of the best students to train again with 3 more seeds."
)
@click.option("--data", help="Where the photographs lie now, if they moved.")
@UNLABELLED_NOW
@click.option("--budget", help="Must be the study's own: it cannot be changed.")
@click.option("--epochs", type=int, help="Must be the study's own: it cannot be changed.")
@click.option("--space", help="Must be the study's own: it cannot be changed.")
@TIMEOUT
@GPU_HOURS
@WORKERS
@GRACE
@ON
@GPUS_PER_WORKER
@click.option("--out", help="Where to copy the best student's file.")
@click.option("--artifacts", help="Where the study's folder lies now, if it moved.")
@STORAGE
@CACHE
@DEVICE
@JSON
def resume(name: str, **given: object) -> None:
    """Go on with a study: unfinished trials from their last epoch, then new ones.

    --trials, --timeout and --gpu-hours are added to what the study was asked for or has used. After
    an interruption, give the same command again: it goes on with what is left and adds nothing.
    """
    starting(f"resume {name}")
    from search.commands import resume as resume_command

    flags, asked = Flags.split(given)
    resume_command.resume(name, flags, resume_command.Asked(**asked))  # type: ignore[arg-type]


@cli.command()
@click.argument("name")
@click.option("--data", help="Where the photographs lie on this machine.")
@UNLABELLED_NOW
@click.option("--artifacts", help="Where the study's folder lies on this machine.")
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=0.0,
    help="Seconds to wait for a study that is not there yet.",
)
@WORKERS
@GRACE
@STORAGE
@CACHE
@DEVICE
@JSON
def worker(name: str, wait: float, **given: object) -> None:
    """Join a study: train its trials beside its other workers, until the study has ended.

    Start as many as there is room for, from other terminals or machines. Ctrl-C or SIGTERM stops a
    worker after the current epoch; another worker continues its unfinished trial.
    """
    starting(f"worker for {name}")
    from search.commands import join as join_command

    join_command.join(name, Flags.split(given)[0], wait=wait)


@cli.command()
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Report what is wrong, mend nothing.")
@click.option("--artifacts", help="Where the study's folder lies on this machine.")
@STORAGE
@JSON
def doctor(name: str, dry_run: bool, artifacts: str | None, storage: str, as_json: bool) -> None:
    """Check a study, its workers and its files; mend what can be mended.

    The exit status is 1 if a fault remains: one that cannot be mended or, with --dry-run, any.
    """
    from search.commands import doctor as doctor_command

    sys.exit(doctor_command.doctor(name, storage, artifacts, dry_run, as_json))


@cli.command()
@click.argument("name")
@click.option("--size", type=int, default=64, show_default=True, help="Pixels of the input.")
@click.option("--toml", "as_toml", is_flag=True, help="The table [space] that states it.")
@JSON
def space(name: str, size: int, as_toml: bool, as_json: bool) -> None:
    """What the space NAME chooses from: mixed, pyramid, mobile, group, plain or report.

    To search a space of your own, write its table into the TOML file of `search --config`:
    `distilnas space mixed --toml` prints one to begin with.
    """
    from search.commands import space as space_command

    space_command.space(name, size, as_toml, as_json)


@cli.command()
@STORAGE
@JSON
def studies(storage: str, as_json: bool) -> None:
    """List the studies of the database."""
    from search.commands import show

    show.studies(storage, as_json)


@cli.command()
@click.argument("name")
@click.argument("trial", type=int, required=False)
@STORAGE
@JSON
def show(name: str, trial: int | None, storage: str, as_json: bool) -> None:
    """Show a study, or one TRIAL of it layer by layer."""
    from search.commands import show as show_command

    if trial is None:
        show_command.study(storage, name, as_json)
    else:
        show_command.trial(storage, name, trial, as_json)


for command in (ablate, teacher, *students.COMMANDS):
    cli.add_command(command)


def main() -> None:
    """Entry point: one clear line and exit status 2 for what a user can mend."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may be no text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        cli.main([at_home(word) for word in sys.argv[1:]], standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        sys.exit(2)
    except click.UsageError as error:
        where = f" (see: {error.ctx.command_path} --help)" if error.ctx else ""
        _fail(" ".join(error.format_message().split()) + where)
    except click.ClickException as error:
        _fail(error.format_message())
    except InputError as error:
        _fail(str(error))
    except (KeyboardInterrupt, click.Abort) as error:
        click.echo("interrupted", err=True)
        sys.exit(getattr(error.__cause__ or error, "status", 130))
    except OSError as error:
        if error.errno == errno.EPIPE:
            sys.exit(141)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOENT):
            raise
        _fail(f"{error.strerror}: {error.filename or 'the disk'}; what was written before is whole")


def _fail(message: str) -> None:
    click.echo(f"distilnas: {message}", err=True)
    sys.exit(2)
