"""The commands `ablate` and `ablate show`."""

from pathlib import Path

import click

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
    WORKERS,
    starting,
)
from search.study.flags import Flags


class FileOrCommand(click.Group):
    """A group whose first argument may be a file, which `run` is given."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = args[0] in self.commands
        return super().resolve_command(ctx, args if known else ["run", *args])

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "SPEC.toml [OPTIONS] | show NAME [OPTIONS]")


# Flags may stand before the file: the group leaves them to `run`.
@click.group(cls=FileOrCommand, context_settings={"ignore_unknown_options": True})
def ablate() -> None:
    """Train the arms of a TOML file over several seeds, and show the evidence.

    `distilnas ablate SPEC.toml` is short for `distilnas ablate run SPEC.toml`.
    """


@ablate.command("run")
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="The file's quick variant, for a CPU.")
@click.option("--data", help='"digits" or a folder of photographs.')
@UNLABELLED
@click.option("--size", type=int, help="Pixels of the students' square input.")
@click.option("--budget", help="Size of each arm: 300KB, 300KiB, 1MB, 256k params.")
@click.option(
    "--size-matched",
    "widths",
    flag_value="size-matched",
    help="Solve the widths anew for each arm, so that all arms cost the same (default).",
)
@click.option(
    "--fixed-width",
    "widths",
    flag_value="fixed",
    help="Keep the widths, to see how a change affects the size.",
)
@click.option(
    "--seeds", type=int, help="How often each arm is trained, each time with another seed."
)
@click.option("--epochs", type=int, help="Epochs of the arms that do not state their own.")
@click.option(
    "--pretrained", help="Where pretrained teachers start: imagenet, or a file of weights."
)
@click.option("--name", help="The study's name (default: the file's).")
@click.option("--dry-run", is_flag=True, help="Print the plan, train nothing.")
@TIMEOUT
@GPU_HOURS
@WORKERS
@GRACE
@ON
@GPUS_PER_WORKER
@ARTIFACTS
@STORAGE
@CACHE
@DEVICE
@JSON
def run(spec: Path, quick: bool, pretrained: str | None, dry_run: bool, **given: object) -> None:
    """Train every arm of SPEC with every seed, as a study that can be interrupted and resumed."""
    starting(f"ablation {spec}")
    from search.commands import ablate as ablate_command

    stated = {name: given.pop(name) for name in ("data", "unlabelled")}
    flags, settings = Flags.split(given)
    ablate_command.ablate(
        flags,
        spec,
        quick,
        settings | stated,
        pretrained=pretrained,
        dry_run=dry_run,
    )


@ablate.command("show")
@click.argument("name")
@click.option("--json", "format", flag_value="json", help="One JSON document on standard output.")
@click.option("--csv", "format", flag_value="csv", help="A CSV row for each arm.")
@click.option("--rows", "format", flag_value="rows", help="A CSV row for each training.")
@click.option("--markdown", "format", flag_value="markdown", help="Tables for a document.")
@STORAGE
def show(name: str, format: str | None, storage: str) -> None:
    """Show the evidence of an ablation: means, differences, intervals, verdicts."""
    from search.terminal import evidence

    evidence.show(storage, name, format)
