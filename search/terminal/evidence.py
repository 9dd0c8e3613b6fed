"""What `ablate` prints: the plan before, the evidence after; for people, JSON, CSV, Markdown."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from rich.table import Table
from rich.text import Text

from search.database import table as tables
from search.database.address import command, database_errors
from search.database.engine import open_engine
from search.study.plan import AblationSpec
from search.study.study import spec_in
from search.terminal import output
from search.terminal.answer import has_ended, sentence
from search.terminal.spreadsheet import write_csv
from space.errors import InputError

if TYPE_CHECKING:
    from search.ablation.effects import Analysis

# Headings; the trailing space keeps two columns of one name apart.
MEANS = ("accuracy, %", "95 %")
MEANS_NUMERIC = frozenset(("seeds", *MEANS))
DIFFERENCES = ("difference", "95 % ", "p (Holm)", "detectable", "verdict")
ROW = (  # of every training
    *("number", "params_arm", "params_seed", "state", "value", "format", "bytes", "params", "macs"),
    *("seconds", "trained_as", "ended", "reason"),
)


class Cells(NamedTuple):
    """A table as text: what rich and Markdown both print."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numeric: frozenset[str] = frozenset()


def show(storage: str, name: str, format: str | None) -> None:
    """The evidence of an ablation, finished or not.

    Args:
        format: json, csv, rows or markdown; None for people.
    """
    from search.ablation.effects import (
        analyse,  # statsmodels takes a second, and training does without
    )

    with database_errors(storage):
        engine = open_engine(storage)
        frame, attributes = tables.trials(engine, name), tables.attributes(engine, name)
    plan = spec_in(attributes)
    if not isinstance(plan, AblationSpec):
        raise InputError(f"study {name!r} is no ablation; look at it: distilnas show {name}")
    seeds = int(attributes["seeds"])
    analysis = with_notes(analyse(frame, plan), frame, attributes)
    if format == "json":
        output.print_json(document(name, plan, seeds, frame, analysis))
    elif format == "csv":
        write_csv(analysis.arms, sys.stdout)
    elif format == "rows":
        levels = [f"params_{factor}" for factor in plan.factors]
        write_csv(frame.reindex(columns=[*ROW, *levels]), sys.stdout)
    elif format == "markdown":
        listed = "\n".join(f"- {note}" for note in notes(plan, analysis))
        print("\n\n".join([*map(markdown, evidence(plan, analysis)), listed]))
    else:
        _print(name, plan, seeds, frame, analysis)


def finished(storage: str, name: str, more: str, as_json: bool) -> None:
    """The end of a run.

    Args:
        more: the command that trains more seeds.
    """
    show(storage, name, "json" if as_json else None)
    if not as_json:
        again = command("ablate show", name, storage)
        output.console().print(f"go on with:\n  {again} --markdown\n  {more}", soft_wrap=True)


def document(
    name: str, plan: AblationSpec, seeds: int, frame: pd.DataFrame, analysis: "Analysis"
) -> dict[str, object]:
    """All of it as JSON data; accuracies, differences and intervals are shares, not per cent."""
    from search.ablation.effects import interactions

    return {
        "study": name,
        "plan": plan.to_dict(),
        "seeds": seeds,
        "arms": _documents(analysis.arms),
        "levels": _documents(analysis.levels),
        "terms": _documents(analysis.terms),
        "interactions": _documents(interactions(frame, plan)),
        "notes": list(analysis.notes),
        "sentence": sentence(plan, analysis, unfinished=not has_ended(frame, plan, seeds)),
    }


def _documents(frame: pd.DataFrame) -> list[dict[str, object]]:
    return [output.trial_document(row) for _, row in frame.iterrows()]


def evidence(plan: AblationSpec, analysis: "Analysis") -> list[Cells]:
    """The tables that have something to say."""
    found = [arms_cells(plan, analysis.arms), differences_cells(plan, analysis.arms)]
    if len(analysis.levels):
        found += levels_cells(plan, analysis.levels)
    if len(analysis.terms):
        found.append(terms_cells(analysis.terms))
    if plan.described:
        found.append(teachers_cells(plan.described))
    return found


def arms_cells(plan: AblationSpec, arms: pd.DataFrame) -> Cells:
    published = plan.published.get("accuracy", {})
    more = ("published, %",) if published else ()
    columns = ("arm", "seeds", *MEANS, "bytes", "params", "MACs", *more)
    rows: list[tuple[str, ...]] = []
    for _, row in arms.iterrows():
        failed = f" ({row['failed']} failed)" if row["failed"] else ""
        sizes = _whole(row["bytes"]), _whole(row["params"]), _short(row["macs"])
        known = (_percent(published.get(row["arm"])),) if published else ()
        rows.append((row["arm"], f"{row['n']}{failed}", *_mean(row), *sizes, *known))
    return Cells("", columns, rows, frozenset(columns) - {"arm"})


def differences_cells(plan: AblationSpec, arms: pd.DataFrame) -> Cells:
    others = arms[arms["arm"] != plan.baseline]
    rows = [(row["arm"], *_difference(row)) for _, row in others.iterrows()]
    title = f"Differences to {plan.baseline}, paired by seed, in percentage points"
    return Cells(title, ("arm", *DIFFERENCES), rows, frozenset(DIFFERENCES) - {"verdict"})


def levels_cells(plan: AblationSpec, levels: pd.DataFrame) -> list[Cells]:
    """Main effects: means over the other factors, and their differences."""
    own = plan.arm(plan.baseline).levels
    named = [(f"{row['factor']}={row['level']}", row) for _, row in levels.iterrows()]
    means = [(name, str(row["n"]), *_mean(row)) for name, row in named]
    others = [
        (name, *_difference(row)) for name, row in named if row["level"] != own[row["factor"]]
    ]
    differences = frozenset(DIFFERENCES) - {"verdict"}
    return [
        Cells("Means over the other factors", ("level", "seeds", *MEANS), means, MEANS_NUMERIC),
        Cells("Main effects: differences of these", ("level", *DIFFERENCES), others, differences),
    ]


def terms_cells(terms: pd.DataFrame) -> Cells:
    columns = ("term", "kind", "df", "F", "p", "p (Holm)", "partial eta²", "verdict")
    rows = [
        (
            row["term"],
            row["kind"],
            _whole(row["df"]),
            _number(row["F"], "{:.2f}"),
            _p(row["p"]),
            _p(row["p_holm"]),
            _number(row["partial_eta2"], "{:.2f}"),
            row["verdict"],
        )
        for _, row in terms.iterrows()
    ]
    numeric = frozenset(columns) - {"term", "kind", "verdict"}
    return Cells(
        "Analysis of variance, seeds as blocks, one error for all arms", columns, rows, numeric
    )


def teachers_cells(described: Mapping[str, Mapping[str, Any]]) -> Cells:
    columns = ("teacher", "network", "params", "validation, %", "trained")
    rows = [
        (name, t["network"], _count(t["parameters"]), _percent(t["accuracy"]), t["trained"])
        for name, t in described.items()
    ]
    return Cells("Teachers", columns, rows, frozenset(("params", "validation, %")))


def notes(plan: AblationSpec, analysis: "Analysis") -> list[str]:
    source = plan.published.get("source")
    return [*analysis.notes, *([f"published: {source}"] if source else [])]


def with_notes(
    analysis: "Analysis", frame: pd.DataFrame, attributes: Mapping[str, Any]
) -> "Analysis":
    """The analysis, with notes on what is not trained yet, and on seeds that were raised: who
    looks and then decides how many seeds there are is wrong more often."""
    seeds = int(attributes["seeds"])
    first = int(attributes.get("first_seeds", seeds))
    notes, asked = [*analysis.notes], len(attributes["spec"]["arms"]) * seeds
    ended = int(frame["state"].isin(("COMPLETE", "FAIL", "PRUNED")).sum())
    if ended < asked:
        notes.append(f"{ended} of {asked} trainings have ended: verdicts may still change")
    if seeds > first:
        notes.append(
            f"seeds were raised from {first} to {seeds}: where that was decided by a look at the "
            "table, false verdicts are commoner than 5 %"
        )
    return analysis._replace(notes=tuple(notes))


def markdown(cells: Cells) -> str:
    """A table in GitHub's Markdown."""
    marks = ["---:" if column in cells.numeric else "---" for column in cells.columns]
    lines = [cells.columns, marks, *cells.rows]
    text = "\n".join(f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines)
    return f"**{cells.title}**\n\n{text}" if cells.title else text


def rich_table(cells: Cells) -> Table:
    made = output.rows_table()
    made.title = Text(cells.title, "bold") if cells.title else None
    made.title_justify = "left"
    for column in cells.columns:
        numeric = column in cells.numeric
        made.add_column(
            column.strip(),
            justify="right" if numeric else "left",
            no_wrap=numeric or column == "verdict",
            overflow="fold",
        )
    for row in cells.rows:
        made.add_row(*map(Text, row))
    return made


def _print(
    name: str, plan: AblationSpec, seeds: int, frame: pd.DataFrame, analysis: "Analysis"
) -> None:
    out = output.console()
    done = int((frame["state"] == "COMPLETE").sum())
    asked = Text(f": {plan.question}".rstrip(": "))
    out.print(Text(name, "bold") + asked, soft_wrap=True)
    for line in summary(plan, seeds):
        out.print(line, soft_wrap=True)
    out.print(f"{done} of {len(plan.arms) * seeds} trainings are complete")
    shown = sentence(plan, analysis, unfinished=not has_ended(frame, plan, seeds))
    if shown:
        out.print(Text(shown, "bold"), soft_wrap=True)
    for cells in evidence(plan, analysis):
        out.print(rich_table(cells))
    for note in notes(plan, analysis):
        out.print(f"- {note}", soft_wrap=True)


def summary(plan: AblationSpec, seeds: int) -> list[str]:
    """What is compared, on what, at which size."""
    size = (
        f"size-matched, {plan.budget}"
        if plan.size_matched
        else "no budget: widths as they are written, whatever they cost"
    )
    beside = f" and, without labels, {plan.unlabelled_source}" if plan.unlabelled else ""
    views = "the same views for all seeds" if plan.shared_views else "views of their own"
    return [
        f"{plan.design} design, {len(plan.arms)} arms x {seeds} seeds ({views}), {size}",
        f"data {plan.source}{beside} at {output.in_pixels(plan.sizes)}, "
        f"{plan.validation:,} validation images",
    ]


def _mean(row: pd.Series) -> tuple[str, str]:
    spread = "" if pd.isna(row["sd"]) else f" ± {row['sd'] * 100:.1f}"
    return _percent(row["mean"]) + spread, _interval(row["low"], row["high"], "{:.1f}")


def _difference(row: pd.Series) -> tuple[str, str, str, str, str]:
    return (
        _number(row["difference"] * 100, "{:+.1f}"),
        _interval(row["difference_low"], row["difference_high"], "{:+.1f}"),
        _p(row["p_holm"]),
        _number(row["detectable"] * 100, "{:.1f}"),
        row["verdict"],
    )


def _number(value: float, format: str) -> str:
    return "" if pd.isna(value) else format.format(value)


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _percent(share: float | None) -> str:
    return "" if share is None or pd.isna(share) else f"{share * 100:.1f}"


def _interval(low: float, high: float, format: str) -> str:
    return "" if pd.isna(low) else f"[{format.format(low * 100)}, {format.format(high * 100)}]"


def _p(value: float) -> str:
    if pd.isna(value):
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _short(count: float) -> str:
    return "" if pd.isna(count) else output.short(count)


def _whole(value: float) -> str:
    return "" if pd.isna(value) else f"{int(value):,}"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").strip()
