"""The page of all studies."""

import base64

import numpy as np
import pandas as pd
from dash import dcc, html
from dash.development.base_component import Component

from dashboards.library import Library
from dashboards.pages import cards
from dashboards.routes import compare_link, study_link
from search.database import study_list, table
from search.database.address import command
from search.database.goal import Goal
from space.solver import Budget, format_bytes

STOPPED = "stopped"
SHOWN = 5  # commands to go on with stopped studies
WIDTH, HEIGHT = 120, 28  # pixels of a progress curve
COLUMNS = (
    *("study", "kind", "state", "budget", "trials", "running", "pruned", "failed", "best", "bytes"),
    *("last activity (UTC)", "best so far"),
)
NUMERIC = frozenset(("trials", "running", "pruned", "failed", "best", "bytes"))


def page(library: Library) -> list[Component]:
    """Every study, the last active first."""
    return [
        html.H1("Studies"),
        html.Div(contents(library), id="studies"),
    ]


def contents(library: Library) -> list[Component]:
    """What changes while searches run."""
    studies = library.studies()
    if studies.empty:
        return [
            html.P("This database holds no study yet.", className="empty"),
            html.P(["Begin with: ", html.Code("distilnas search")], className="empty"),
        ]
    rows = [row for _, row in known(library, studies).iterrows()]
    links = [dcc.Link("Compare them", href=compare_link(studies["identity"]))]
    return [
        cards.table(COLUMNS, [_cells(row) for row in rows], NUMERIC),
        html.P(links if len(studies) > 1 else [], className="note"),
        *_to_resume([str(row["name"]) for row in rows if state_of(row) == STOPPED], library),
    ]


def _to_resume(stopped: list[str], library: Library) -> list[Component]:
    """The commands that resume stopped studies, the last active first."""
    if not stopped:
        return []
    commands = [command("resume", name, library.storage) for name in stopped[:SHOWN]]
    more = len(stopped) - len(commands)
    return [
        html.P("Stopped before the end; to resume:", className="note"),
        html.Ul([html.Li(html.Code(command)) for command in commands], className="notes"),
        *([html.P(f"and {more:,} more, with the same command", className="note")] if more else []),
    ]


def known(library: Library, studies: pd.DataFrame) -> pd.DataFrame:
    """The studies, with `values` (of complete trials, in order) and `bytes` (of the best trial)."""
    progress = study_list.progress(library.engine)
    groups = progress.groupby("identity")
    leaders = progress[progress["worth"] == groups["worth"].transform("max")]
    sizes = study_list.sizes(library.engine, leaders["trial_id"].tolist())
    leaders = table.best_first(leaders.assign(bytes=leaders["trial_id"].map(sizes)))
    best = leaders.drop_duplicates("identity").set_index("identity")
    return studies.assign(
        values=studies["identity"].map(groups["value"].agg(list)),
        bytes=studies["identity"].map(best["bytes"]),
    )


def _cells(row: pd.Series) -> list[cards.Cell]:
    goal = Goal.of(row["directions"], ours=isinstance(row["space"], str))
    best = "" if pd.isna(row["best"]) else goal.words(row["best"])
    size = "" if pd.isna(row["bytes"]) else format_bytes(int(row["bytes"]))
    last = "" if pd.isna(row["last_activity"]) else f"{row['last_activity']:%Y-%m-%d %H:%M}"
    state = state_of(row)
    return [
        dcc.Link(row["name"], href=study_link(row["identity"])),
        kind_words(row["space"]),
        html.Span(state, className=f"state {state}"),
        budget_words(row["budget"]),
        trials_words(row),
        *(f"{row[count]:,}" if row[count] else "" for count in ("running", "pruned", "failed")),
        best,
        size,
        last,
        curve(row["values"], goal) if isinstance(row["values"], list) else "",
    ]


def state_of(row: pd.Series) -> str:
    """Running, done (all requested trials have ended) or stopped; another program's may be idle.

    Ours is running while a worker sends heartbeats; a dead worker's trial does not count.
    """
    if pd.isna(row["asked"]):
        return "running" if row["running"] else "idle"
    if row["workers"]:
        return "running"
    return "done" if row["complete"] + row["pruned"] + row["failed"] >= row["asked"] else STOPPED


def kind_words(space: str | None) -> str:
    if not isinstance(space, str):
        return "another program's"
    return space if space == "ablation" else f"search, space {space}"


def budget_words(budget: object) -> str:
    """A search's budget is data; an ablation's is words."""
    return str(Budget(**budget)) if isinstance(budget, dict) else str(budget or "")


def trials_words(row: pd.Series) -> str:
    asked = "" if pd.isna(row["asked"]) else f" of {int(row['asked']):,}"
    return f"{row['complete'] + row['pruned'] + row['failed']:,}{asked}"


def curve(values: list[float], goal: Goal) -> html.Img:
    """Best so far over complete trials, as a small image."""
    so_far = goal.worth(np.maximum.accumulate(goal.worth(np.array(values))))
    first, last = float(so_far[0]), float(so_far[-1])
    low, high = min(first, last), max(first, last)
    kept = so_far[np.linspace(0, len(so_far) - 1, min(len(so_far), WIDTH)).astype(int)]
    x = np.linspace(2, WIDTH - 2, len(kept)) if len(kept) > 1 else np.array([WIDTH / 2])
    y = HEIGHT - 4 - (kept - low) / (high - low or 1) * (HEIGHT - 8)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    drawn = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">'
        f'<polyline points="{points}" fill="none" stroke="#3B8DC4" stroke-width="1.6"/>'
        f'<circle cx="{x[-1]:.1f}" cy="{y[-1]:.1f}" r="2.4" fill="#3B8DC4"/></svg>'
    )
    data = base64.b64encode(drawn.encode()).decode()
    ends = f"{goal.words(first)} to {goal.words(last)}"
    told = f"best so far from {ends} over {len(values):,} complete trials"
    return html.Img(src=f"data:image/svg+xml;base64,{data}", alt=told, title=told)
