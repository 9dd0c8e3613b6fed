"""Write README's sample output and docs/commands.md: `make readme`.

Runs the demo in an empty folder and puts the end of what it printed between README's markers, which
do not show in the rendered page.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from benchmarks import commands_page, results
from space.errors import InputError
from trainers.files import write_atomically

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"(<!-- demo: written by make readme -->\n\n)(.*?)(\n<!-- end -->)", re.DOTALL)
ENVIRONMENT = {"COLUMNS": "120"}  # and nothing else: as a reader runs it


@click.command(help=__doc__)
def main() -> None:
    commands_page.main()
    text = README.read_text()
    if not BLOCK.search(text):
        raise InputError("README.md must have the markers of the demo's output, but has not")
    shown = "".join(f"    {line}".rstrip() + "\n" for line in demo())
    written = BLOCK.sub(lambda match: match[1] + shown + match[3], text)
    write_atomically(README, lambda file: file.write(written.encode()))


def demo() -> list[str]:
    """The lines of `distilnas search` on standard output, without empty ones."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "search", "search", "--cache", f"{folder}/cache"],
            cwd=folder,
            env=os.environ | ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return [line.rstrip() for line in done.stdout.splitlines() if line.strip()]


if __name__ == "__main__":
    results.run(main)
