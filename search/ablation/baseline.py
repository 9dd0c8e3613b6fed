"""A search's student as the baseline of an ablation: why did it win?"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from search.database import table as tables
from search.database.address import database_errors
from search.database.engine import open_engine
from search.study.folder import ARTIFACTS, Folder
from search.study.ranking import ranked
from search.study.spec import OWN_TEACHER, SearchSpec
from space.errors import InputError, require

STUDY, TRIAL = "study", "trial"  # keys of the baseline's table
OWN = "own"  # name of the search's teacher


def with_winner(document: Mapping[str, Any], storage: str) -> dict[str, Any]:
    """The document, its baseline's `study` resolved: its winner, or the trial that is named.

    The winner is the best finalist where there are finalists, else the best trial.

    What the document does not say is as it was in the search: data, size, budget, format, recipe
    (that of the student, where the recipe was searched) and teacher.

    Raises:
        InputError: no such study or trial, or a study that is no search of DistilNAS.
    """
    baseline = dict(document.get("baseline") or {})
    name, number = baseline.pop(STUDY, None), baseline.pop(TRIAL, None)
    if name is None:
        require("baseline", baseline, number is None, "a table whose trial comes with its study")
        return dict(document)
    require("baseline study", name, isinstance(name, str), "a study's name")
    with database_errors(storage):
        engine = open_engine(storage)
        frame, attributes = tables.trials(engine, name), tables.attributes(engine, name)
    spec = attributes.get("spec")
    if not spec or "space" not in spec:
        raise InputError(f"a baseline's study must be a search of DistilNAS, but {name!r} is none")
    done, ranking = tables.best(frame, len(frame)), ranked(attributes, tables.students(frame))
    wanted = ranking[0].number if ranking and number is None else number
    chosen = done if wanted is None else done[done["number"] == wanted]
    if chosen.empty:
        which = "complete trial" if number is None else f"complete trial {number}"
        raise InputError(f"study {name!r} has no {which} to take as the baseline")
    winner = chosen.iloc[0]
    baseline.setdefault("architecture", winner["architecture"])
    own = winner["searched"] if isinstance(winner["searched"], Mapping) else None
    own_size = {} if pd.isna(winner["size"]) else {"size": int(winner["size"])}
    settings = _settings(storage, name, spec, attributes.get(ARTIFACTS), own) | own_size
    return {**settings, **document, "baseline": baseline}


def _settings(
    storage: str,
    name: str,
    spec: Mapping[str, Any],
    artifacts: str | None,
    searched: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """A search's settings in an ablation's words.

    Args:
        searched: what the trial drew of its recipe and format.
    """
    search = SearchSpec.from_dict(spec)
    budget = search.budget_of(searched)
    own = Folder(storage, name, artifacts).teacher(OWN_TEACHER)
    return {
        "data": spec["source"],
        "size": spec["size"],
        "budget": f"{budget.limit}{'B' if budget.unit == 'bytes' else ' params'}",
        "format": budget.format,
        "macs": None if budget.macs is None else str(budget.macs),
        "ram": None if budget.ram is None else f"{budget.ram}B",
        "multiple": spec["multiple"],
        "recipe": search.recipe_of(searched).to_dict(),
        "teachers": {OWN: {"file": str(own)}} if spec["teacher"] else None,
    }
