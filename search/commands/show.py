"""The commands `studies` and `show`. They load neither torch nor Optuna."""

from collections.abc import Sequence

import pandas as pd
from rich.table import Table
from rich.text import Text

from search.database import study_list
from search.database import table as tables
from search.database.address import command, database_errors
from search.database.engine import open_engine
from search.database.goal import Goal
from search.study.folder import ARTIFACTS, Folder
from search.study.plan import is_plan
from search.study.ranking import ranked
from search.study.spec import stated_sizes
from search.terminal import output
from search.terminal.savings import savings
from search.terminal.trial_facts import LayerRow, facts, layers_of
from space.errors import InputError
from space.solver import Budget, format_bytes
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
    if as_json:
        trials = [output.trial_document(row) for _, row in frame.iterrows()]
        finalists = [output.finalist_document(finalist) for finalist in ranking]
        document = {"study": name, "spec": spec, "trials": trials, "finalists": finalists}
        output.print_json(document | {"stopped_early": output.savings_document(saved)})
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
        out.print(_layers_table(layers))


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


def _layers_table(layers: Sequence[LayerRow]) -> Table:
    made = output.rows_table("layer", "type", "output", "params", "MACs", "bytes")
    for layer in layers:
        channels, side, _ = layer["output"]
        made.add_row(
            layer["name"],
            layer["type"],
            f"{channels} x {side} x {side}",
            f"{layer['parameters']:,}",
            f"{layer['macs']:,}",
            f"{layer['bytes']:,}",
        )
    parameters, macs, stored = (
        sum(sizes)
        for sizes in zip(*((x["parameters"], x["macs"], x["bytes"]) for x in layers), strict=True)
    )
    made.add_section()
    made.add_row(
        "all",
        "without the header",
        "",
        f"{parameters:,}",
        f"{macs:,}",
        f"{stored:,} ({format_bytes(stored)})",
    )
    return made
