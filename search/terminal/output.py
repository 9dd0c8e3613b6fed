"""What the commands print: tables for people, one JSON document for programs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.database import table as tables
from search.database.address import command, masked_for_shell
from search.database.engine import open_engine
from search.study.folder import Folder
from search.study.ranking import Finalist
from search.study.spec import SearchSpec
from search.terminal.savings import Savings, savings
from space.errors import InputError
from space.solver import Budget


def console(*, stderr: bool = False) -> Console:
    """For results, or for all that is said beside them.

    Text is printed as it is: names and reasons may hold what rich takes for markup. Wide enough
    for whole rows where the output goes to a file.
    """
    out = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not out.is_terminal:
        out.width = 140
    return out


def print_json(document: object) -> None:
    print(json.dumps(_finite(document), indent=2, allow_nan=False, default=str))


def _finite(value: object) -> object:
    """JSON has no NaN and no infinities; another program's attributes may hold them anywhere."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return _plain(value) if isinstance(value, float) and not math.isfinite(value) else value


def rows_table(*columns: str) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numeric = column in NUMERIC
        made.add_column(column, justify="right" if numeric else "left", no_wrap=numeric)
    return made


# Columns of numbers stand to the right.
NUMERIC = frozenset(
    (
        *("trial", "accuracy", "bytes", "params", "MACs", "epochs", "seconds", "mean", "spread"),
        *(
            "budget",
            "trials",
            "complete",
            "pruned",
            "failed",
            "running",
            "workers",
            "best",
            "probability",
        ),
    )
)


def trial_cells(row: pd.Series) -> tuple[str, ...]:
    """Cells for the columns trial, accuracy, bytes, params, MACs, architecture."""
    return (
        str(row["number"]),
        f"{row['value']:.1%}",
        f"{int(row['bytes']):,}",
        f"{int(row['params']):,}",
        short(row["macs"]),
        row["words"],
    )


def short(count: float) -> str:
    """`1.2M`, `340k`."""
    if count >= 999_500:
        return f"{count / 1e6:.1f}M"
    return f"{count / 1e3:.0f}k" if count >= 1000 else f"{count:.0f}"


def best_table(frame: pd.DataFrame, count: int = 5) -> Table:
    made = rows_table("trial", "accuracy", "bytes", "params", "MACs", "architecture")
    for _, row in tables.best(frame, count).iterrows():
        made.add_row(*trial_cells(row))
    return made


def prepared(storage: str, name: str, as_json: bool) -> None:
    """A study that waits for workers."""
    join = command("worker", name, storage)
    if as_json:
        print_json({"study": name, "worker": join})
    else:
        console().print(f"study {name!r} is made; have it trained, as often as there is room:")
        console().print(f"  {join}", soft_wrap=True)


def finished(
    storage: str,
    name: str,
    ranking: Sequence[Finalist],
    spec: SearchSpec,
    folder: Folder,
    hints: Sequence[str],
    as_json: bool,
    taught: float | None = None,
) -> None:
    """The end of a search: the five best, the file against its budget, how to go on.

    Args:
        hints: commands to type next.
        taught: the teacher's validation accuracy, a share; None: unknown, or there is no teacher.
    """
    frame = tables.trials(open_engine(storage), name)
    best, budget = folder.best, spec.budget
    leaders = tables.best(frame, 5)
    size = best.stat().st_size if best.exists() and len(leaders) else None
    saved = savings(frame, spec.to_dict())
    doubt = no_better(taught, float(leaders["value"].iloc[0])) if len(leaders) else ""
    if doubt:
        warn(console(stderr=True), doubt)
    if as_json:
        print_json(
            {
                "study": name,
                "storage": masked_for_shell(storage),
                "budget": budget_document(budget),
                "best": [trial_document(row) for _, row in leaders.iterrows()],
                "finalists": [finalist_document(finalist) for finalist in ranking],
                "file": None if size is None else {"path": str(best), "bytes": size},
                "states": {str(k): int(v) for k, v in frame["state"].value_counts().items()},
                "stopped_early": savings_document(saved),
                "warnings": [doubt] if doubt else [],
            }
        )
        return
    out = console()
    if saved:
        out.print(saved.words)
    if size is None:
        out.print(f"study {name}: no student was trained to its end; see: distilnas show {name}")
        return
    out.print(best_table(frame))
    if ranking:
        out.print(finalists_table(ranking))
        out.print(
            f"winner by the mean of {len(ranking[0].seeds)} further seeds: "
            f"trial {ranking[0].number} "
            f"({ranking[0].mean:.1%}, standard deviation {ranking[0].spread:.1%})"
        )
    out.print(f"file: {best}, {size:,} bytes{against(budget, size)}", soft_wrap=True)
    out.print("go on with:", style="bold")
    for hint in hints:
        out.print(f"  {hint}", soft_wrap=True)


def against(budget: Budget, size: int) -> str:
    if budget.unit != "bytes":
        return ""
    return f" of {budget.limit:,} ({size / budget.limit:.1%} of the budget)"


def no_better(teacher: float | None, students: float, whose: str = "its students") -> str:
    """A warning where students are at least as accurate as their teacher; else nothing.

    Args:
        teacher: its validation accuracy, a share; None where nobody measured it.
        students: the best one's, likewise.
        whose: students, in words.
    """
    if teacher is None or students < teacher:
        return ""
    return (
        f"the teacher ({teacher:.1%}) is no better than {whose} ({students:.1%}): it cannot teach "
        "them much; fine-tune a better one: distilnas teacher finetune"
    )


def warn(out: Console, text: str) -> None:
    """One line that stands out on a terminal."""
    out.print(Text("warning:", "yellow") + Text(f" {text}"), soft_wrap=True)


def finalists_table(ranking: Sequence[Finalist]) -> Table:
    made = rows_table("trial", "mean", "spread", "seeds", "architecture")
    for finalist in ranking:
        shown = [f"{accuracy:.1%}" for accuracy in finalist.accuracies]
        seeds = " ".join(shown + ["failed"] * len(finalist.failed))
        mean, spread = f"{finalist.mean:.1%}", f"{finalist.spread:.1%}"
        made.add_row(str(finalist.number), mean, spread, seeds, finalist.words)
    return made


def finalist_document(finalist: Finalist) -> dict[str, object]:
    document: dict[str, object] = finalist._asdict() | {"bytes": _plain(finalist.bytes)}
    return document | {"mean": finalist.mean, "spread": _plain(finalist.spread)}


def savings_document(saved: Savings | None) -> dict[str, int] | None:
    return None if saved is None else saved._asdict()


def budget_document(budget: Budget) -> dict[str, object]:
    return asdict(budget) | {"text": str(budget)}


def in_pixels(sizes: Sequence[int]) -> str:
    """`64 pixels`, or `48, 64 or 96 pixels`."""
    *others, last = map(str, sizes)
    return f"{', '.join(others)} or {last} pixels" if others else f"{last} pixels"


def trial_document(row: pd.Series) -> dict[str, object]:
    """A table's row as JSON data; what is not there is null."""
    return {str(key): _plain(value) for key, value in row.items()}


def _plain(value: object) -> object:
    if isinstance(value, list | dict | str | bool) or value is None:
        return value
    if value != value:  # NaN and NaT
        return None
    if value in (math.inf, -math.inf):  # which JSON has no numbers for
        return str(float(value))
    if hasattr(value, "isoformat"):
        return value.isoformat()
    number = value.item() if hasattr(value, "item") else value
    return int(number) if isinstance(number, float) and number.is_integer() else number


def copy_best(best: Path, out: Path) -> None:
    """Copy the best file to where the user asked for it."""
    from trainers.files import copy_atomically

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        copy_atomically(best, out)
    except OSError as error:
        raise InputError(
            f"the best file cannot be copied to {out}: {error.strerror}; it lies at {best}"
        ) from None
