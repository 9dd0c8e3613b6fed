"""Studies that a benchmark makes by the commands that a user types, in a folder of its own.

Interrupted, a benchmark goes on with the studies that are there.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from search.database import study_list
from search.database.engine import open_engine
from search.database.storage import exists
from space.errors import InputError


def distilnas(folder: Path, *arguments: str) -> Any:
    """What a command says with `--json`; InputError has the last line of one that fails."""
    command = [sys.executable, "-m", "search", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing was said"]
        raise InputError(f"{' '.join(arguments[:3])} failed: {said[-1]}")
    return json.loads(done.stdout)


def is_known(folder: Path, name: str) -> bool:
    """Whether the folder's database has a study of that name."""
    storage = str(folder / "studies.db")
    return exists(storage) and name in study_list.names(open_engine(storage)).values()


def ended(folder: Path, name: str, *begin: str) -> Any:
    """A study's last words: begun with that command, or resumed from where it stands."""
    asked = ["resume", name] if is_known(folder, name) else [*begin, "--name", name]
    return distilnas(folder, *asked, "--cache", "cache")
