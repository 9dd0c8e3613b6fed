"""docs/commands.md is the command line's own help; a flag that a page names is there."""

import re
from pathlib import Path

import click
import pytest
from commands import ROOT

from benchmarks import commands_page, site
from dashboards.cli import cli

FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
# Other programs' flags in our pages.
OTHERS = {
    "--array": "sbatch",
    "--signal": "sbatch",
    "--owner": "createdb",
    "--pwprompt": "createuser",
}
KNOWN = dict(commands_page.commands(cli))


def flags_of(command: click.Command) -> set[str]:
    options = [param for param in command.params if isinstance(param, click.Option)]
    return {flag for option in options for flag in (*option.opts, *option.secondary_opts)}


def test_the_page_is_what_the_command_line_says() -> None:
    written = commands_page.PAGE.read_text()
    assert written == commands_page.page(), "run `make readme`, or benchmarks/commands_page.py"


def test_the_page_has_every_command_and_flag() -> None:
    sections = commands_page.PAGE.read_text().split("\n## ")[1:]
    assert len(sections) == len(KNOWN) > 15
    for section, command in zip(sections, KNOWN.values(), strict=True):
        assert flags_of(command) == set(re.findall(r"(?<=`)--[a-z-]+", section))


@pytest.mark.parametrize("page", site.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_flags_that_a_page_names_are_there(page: Path) -> None:
    ours = {flag for command in KNOWN.values() for flag in flags_of(command)} | {"--help"}
    benchmarks = " ".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    ours |= set(re.findall(r'"(--[a-z-]+)["/]', benchmarks))
    for flag in FLAG.findall(page.read_text()):
        assert flag in ours or flag in OTHERS, flag


def test_no_other_program_s_flag_is_excused_in_vain() -> None:
    text = " ".join(page.read_text() for page in site.pages())
    assert set(OTHERS) <= set(FLAG.findall(text))
