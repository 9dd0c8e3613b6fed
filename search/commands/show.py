"""The commands `studies`, `show` and `best`. They load neither torch nor Optuna."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.text import Text

from search.database import study_list
from search.database import table as tables
from search.database.address import command, database_errors
from search.database.engine import open_engine
from search.database.goal import Goal
from search.study.folder import ARTIFACTS, STUDENT, Folder, require_writable
from search.study.plan import is_plan
from search.study.ranking import Best, best_student, ranked, smallest
from search.study.spec import stated_sizes
from search.terminal import output
from search.terminal.answer import answer, best_document, certainty, costs
from search.terminal.savings import savings
from search.terminal.trial_facts import facts, layers_of, layers_table
from space.errors import InputError, require
from space.solver import Budget
from trainers.ranges import searched_words


def studies(storage: str, as_json: bool) -> None:
    """List the studies."""
    with database_errors(storage):
        frame = study_list.studies(open_engine(storage))
    if as_json:
        output.print_json([output.trial_document(row) for _, row in frame.iterrows()])
        return
    if frame.empty:
        output.console().print("no studies yet; begin with: distilnas search")
        return
    made = output.rows_table(
        "study",
        "space",
        "budget",
        "trials",
        "complete",
        "pruned",
        "failed",
        "running",
        "workers",
        "best",
        "last activity",
    )
    for _, row in frame.iterrows():
        budget = str(Budget(**row["budget"])) if isinstance(row["budget"], dict) else ""
        space = row["space"] if isinstance(row["space"], str) else ""  # or another program's
        goal = Goal.of(row["directions"], ours=bool(space))
        best = "" if pd.isna(row["best"]) else goal.words(row["best"])
        last = "" if pd.isna(row["last_activity"]) else f"{row['last_activity']:%Y-%m-%d %H:%M}"
        states = ("trials", "complete", "pruned", "failed", "running", "workers")
        counts = [str(row[count]) for count in states]
        made.add_row(row["name"], space, budget, *counts, best, last)
    output.console().print(made)


def study(storage: str, name: str, as_json: bool) -> None:
    """One study: its settings, its trials, best first."""
    with database_errors(storage):
        engine = open_engine(storage)
        frame, attributes = tables.trials(engine, name), tables.attributes(engine, name)
        spec = tables.spec_of(attributes)
        goal = tables.goal(engine, name, spec)
    ranking = ranked(attributes, tables.students(frame))
    saved = savings(frame, spec)
    found = answer(engine, storage, name, frame, attributes, goal)
    if as_json:
        trials = [output.trial_document(row) for _, row in frame.iterrows()]
        finalists = [output.finalist_document(finalist) for finalist in ranking]
        document = {"study": name, "spec": spec, "trials": trials, "finalists": finalists}
        more = {"stopped_early": output.savings_document(saved), "answer": found.document}
        output.print_json(document | more)
        return
    out = output.console()
    states = ", ".join(
        f"{count} {str(state).lower()}" for state, count in frame["state"].value_counts().items()
    )
    out.print(Text(name, "bold") + Text(f": {states or 'no trials yet'}"))
    if is_plan(spec):
        shown = command("ablate show", name, storage)
        asked = f"an ablation: {spec['question']}".rstrip(": ")
        out.print(f"{asked}; its evidence: {shown}", soft_wrap=True)
    elif spec:
        recipe, pixels = spec["recipe"], output.in_pixels(stated_sizes(spec))
        budget = Budget(**tables.shown_budget(spec))
        out.print(
            f"budget {budget}, space {spec['space']}, data {spec['source']} at "
            f"{pixels}, {recipe['epochs']} epochs, sampler {spec['sampler']}, "
            f"pruner {spec['pruner']}",
            soft_wrap=True,
        )
        if "ranges" in spec:
            out.print(searched_words(spec["ranges"]), soft_wrap=True)
    if goal.several:
        out.print(f"value: {goal.several}")
    if saved:
        out.print(saved.words)
    for line in found.lines:
        out.print(line, soft_wrap=True)
    varied = ["pixels"] if frame["size"].notna().any() else []
    made = output.rows_table(
        "trial",
        "state",
        goal.name,
        *varied,
        "bytes",
        "params",
        "epochs",
        "seconds",
        "architecture or reason",
    )
    for _, row in tables.best_first(frame, goal).iterrows():
        made.add_row(*_cells(row, goal, with_size=bool(varied)))
    out.print(made)
    if ranking:
        out.print(output.finalists_table(ranking))


def trial(storage: str, name: str, number: int, as_json: bool) -> None:
    """One trial, layer by layer."""
    with database_errors(storage):
        engine = open_engine(storage)
        frame, attributes = tables.trials(engine, name), tables.attributes(engine, name)
    spec = tables.spec_of(attributes)
    folder = Folder(storage, name, attributes.get(ARTIFACTS))
    found = frame[frame["number"] == number]
    if found.empty:
        raise InputError(
            f"study {name!r} has trials 0 to {len(frame) - 1}, but no trial {number}"
            if len(frame)
            else f"study {name!r} has no trials yet"
        )
    row = found.iloc[0]
    layers = layers_of(row, spec) if spec and isinstance(row["architecture"], dict) else []
    if as_json:
        output.print_json(output.trial_document(row) | {"layers": layers})
        return
    out = output.console()
    out.print(Text(f"trial {number}", "bold") + Text(f" of {name}: {row['state'].lower()}"))
    for label, text in [*facts(row, spec), *_file(row, folder)]:
        out.print(f"{label:<14}{text}", soft_wrap=True)
    if layers:
        out.print(layers_table(layers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A study that may have the best student."""

    name: str
    spec: Mapping[str, Any]  # as stored
    folder: Folder
    trials: pd.DataFrame
    best: Best | None  # of its students that fit

    @property
    def file(self) -> Path:
        """Of its best student, on this machine."""
        assert self.best is not None, "asked of a study that has one"
        return self.folder.path / self.best.place / STUDENT


def best(
    storage: str, names: Sequence[str], size: str | None, out: Path | None, as_json: bool
) -> None:
    """The best student of one study, or of several about the same photographs, in one line.

    Args:
        size: `15KB`: its file takes no more; None: any size.
        out: where to copy its file; None: it is only named.

    Raises:
        InputError: no such study, none of ours, studies that cannot be compared, no student that
            fits, no file to copy, a file that cannot be written.
    """
    limit = None if size is None else _bytes(size)
    if out is not None:
        require_writable(out)
    with database_errors(storage):
        found = [_candidate(storage, name, limit) for name in dict.fromkeys(names)]
    for other in found[1:]:
        _require_comparable(found[0], other)
    ranking = sorted((c for c in found if c.best), key=lambda c: c.best.order)  # type: ignore
    if not ranking:
        raise InputError(_none_fits(found, limit, storage))
    winner, chosen = ranking[0], ranking[0].best
    assert chosen is not None, "studies without one were left out"
    where = _copied(winner, out) if out is not None else _where(winner)
    if as_json:
        output.print_json(
            {"study": winner.name, **(best_document(chosen) or {}), "file": where or None}
        )
        return
    parts = (costs(chosen), where or "its file is not on this machine")
    said = f"{winner.name}: trial {chosen.number}, {chosen.value:.1%}{certainty(chosen)}"
    output.console().print(", ".join([said, *filter(None, parts)]), soft_wrap=True)


def _bytes(size: str) -> int:
    """Raises InputError for a size that is not in bytes."""
    rule = "a size in bytes such as 15KB (1,000 each), 15KiB (1,024) or 15000B"
    try:
        read = Budget.parse(size)
    except InputError:
        read = None
    require("--max", size, read is not None and read.unit == "bytes", rule)
    assert read is not None, "required above"
    return read.limit


def _candidate(storage: str, name: str, limit: int | None) -> Candidate:
    engine = open_engine(storage)
    trials, attributes = tables.trials(engine, name), tables.attributes(engine, name)
    spec = tables.spec_of(attributes)
    if not spec:
        raise InputError(f"study {name!r} was not made by DistilNAS: it has no student's files")
    chosen = best_student(engine, name, trials, attributes, limit=limit)
    folder = Folder(storage, name, attributes.get(ARTIFACTS))
    return Candidate(name=name, spec=spec, folder=folder, trials=trials, best=chosen)


def _require_comparable(one: Candidate, other: Candidate) -> None:
    """Raise InputError unless both are about the same photographs, be it at other sizes."""
    mine, others = one.spec, other.spec
    resized = mine["size"] != others["size"] and mine["source"] == others["source"]
    if list(mine["classes"]) != list(others["classes"]) or not (
        mine["data"] == others["data"] or resized
    ):
        raise InputError(
            f"studies must be about the same data for one best student, but {one.name!r} is about "
            f"{mine['source']} and {other.name!r} about {others['source']}, or about other "
            "photographs there; ask for each alone"
        )


def _none_fits(found: Sequence[Candidate], limit: int | None, storage: str) -> str:
    """Why there is no best student, and what to do."""
    rows = [(c.name, row) for c in found if (row := smallest(c.trials)) is not None]
    if not rows or limit is None:
        names = ", ".join(repr(c.name) for c in found)
        what = "study" if len(found) == 1 else "studies"
        again = command("resume", found[0].name, storage)
        return f"{what} {names} must have a complete trial, but none is; go on with: {again}"
    name, row = min(rows, key=lambda pair: pair[1]["bytes"])
    return (
        f"no student takes at most {limit:,} bytes: the smallest takes {int(row['bytes']):,} "
        f"(trial {row['number']} of {name!r}, {row['value']:.1%}); raise --max"
    )


def _where(winner: Candidate) -> str:
    """The place of the best student's file; "" if this machine does not have it."""
    assert winner.best is not None, "the winner has one"
    if winner.folder.store is not None:
        return f"{winner.folder.store.address}/{winner.best.place}/{STUDENT}"
    return str(winner.file) if winner.file.exists() else ""


def _copied(winner: Candidate, out: Path) -> str:
    assert winner.best is not None, "the winner has one"
    winner.folder.fetch(f"{winner.best.place}/{STUDENT}")
    if not winner.file.exists():
        raise InputError(
            f"the file of trial {winner.best.number} of {winner.name!r} must be at {winner.file}, "
            "but it is not; copy it there, or run this where the study's files lie"
        )
    output.copy_best(winner.file, out)
    return str(out)


def _cells(row: pd.Series, goal: Goal, *, with_size: bool) -> list[str]:
    def cell(column: str, format: str) -> str:
        return "" if pd.isna(row[column]) else format.format(row[column])

    words = row["words"] if isinstance(row["words"], str) else ""
    if isinstance(row["reason"], str) and row["reason"] and row["state"] != "PRUNED":
        words = row["reason"]
    if not pd.isna(row["duplicate_of"]):
        words = f"the network of trial {int(row['duplicate_of'])}"
    return [
        str(row["number"]),
        row["state"].lower(),
        "" if pd.isna(row["value"]) else goal.words(row["value"]),
        *([cell("size", "{:.0f}")] if with_size else []),
        cell("bytes", "{:,.0f}"),
        cell("params", "{:,.0f}"),
        cell("epochs", "{:.0f}"),
        cell("seconds", "{:.0f}"),
        words,
    ]


def _file(row: pd.Series, folder: Folder) -> list[tuple[str, str]]:
    student = folder.student(int(row["number"]))
    return [("file", str(student))] if student.exists() else []
