"""Write docs/commands.md, every command and flag as the command line explains them.

    python benchmarks/commands_page.py

`make readme` does it too.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from dashboards.cli import cli
from trainers.files import write_atomically

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
TITLE = """\
# Commands

Written by `make readme` from the command line's own help (`distilnas COMMAND --help`).
"""
VALUES = {"integer range": "INTEGER", "float range": "FLOAT"}  # what a flag takes


def page() -> str:
    """The page in Markdown."""
    return "\n".join([TITLE, *(section(path, command) for path, command in commands(cli))])


def commands(
    group: click.Group, path: tuple[str, ...] = ("distilnas",)
) -> Iterator[tuple[str, click.Command]]:
    """Every command that is no group, with the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def section(path: str, command: click.Command) -> str:
    """One command: how it is called, what it does, its flags."""
    pieces = command.collect_usage_pieces(click.Context(command, info_name=path))
    called = path.replace("ablate run", "ablate")
    lines = [
        f"## {called}",
        "",
        f"`{' '.join((called, *pieces))}`",
        "",
        inspect.cleandoc(command.help or ""),
    ]
    lines += ["", "| flag | what it does |", "|---|---|"]
    options = [option for option in command.params if isinstance(option, click.Option)]
    lines += [f"| {names(option)} | {explained(option)} |" for option in options]
    return "\n".join(lines) + "\n"


def names(option: click.Option) -> str:
    """A flag's spellings, and what it takes."""
    takes = "" if option.is_flag else f" {value(option)}"
    return ", ".join(f"`{name}{takes}`" for name in (*option.opts, *option.secondary_opts))


def value(option: click.Option) -> str:
    kind = option.type
    if isinstance(kind, click.Choice):
        return "\\|".join(kind.choices)
    return VALUES.get(kind.name, kind.name.upper())


def explained(option: click.Option) -> str:
    """A flag's help, its default, and the variable of the environment that stands for it."""
    told = [(option.help or "").replace("|", "\\|")]
    if option.show_default and not option.is_flag:
        told.append(f"Default: `{option.default}`.")
    if option.envvar:
        told.append(f"Or `${option.envvar}`.")
    return " ".join(told)


def main() -> None:
    text = page()
    write_atomically(PAGE, lambda file: file.write(text.encode()))


if __name__ == "__main__":
    main()
