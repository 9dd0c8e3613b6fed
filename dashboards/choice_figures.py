"""What a search chose, and how accurate that was: observed, so no more than a hint."""

import warnings
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.axes import finite, nice_ticks, size_range, tick_words
from dashboards.picture import (
    BLUE,
    GREY,
    ORANGE,
    SEQUENCE,
    VERMILION,
    Picture,
    nothing,
    share_axis,
    styled,
)
from dashboards.reasons import complete, drawable, trial_numbers, why_nothing
from dashboards.views import View

IMPORTANCES_TITLE = "What accuracy depends on"
CHOICES_TITLE = "Accuracy by choice, observed in search"
PARALLEL_TITLE = "All choices at once"
CHOICES = {
    "block": "block type",
    "groups": "most groups",
    "se": "stages with SE",
    "depth": "blocks",
    "width": "widest stage",
}
SE_ORDER = ("none", "some", "all")
BINNED = ("depth", "width")
BINS = 5
MOST_POINTS = 400  # of a level
FEW = 30
DOTS, CLOUD = {"size": 8, "opacity": 0.8}, {"size": 4, "opacity": 0.45}
MOST_LINES = 5_000
ALWAYS = 500  # best trials that are among the lines
EVALUATED = 2_000  # trials that importances are computed from
COLOURS = [[0, ORANGE], [0.5, GREY], [1, BLUE]]  # lines are read on white and on black
FEWEST = 5  # trials below which importances are no news
OBSERVED = (
    "Observed in search: samplers prefer what did well, so these are no effects. "
    "Designed experiments show those: distilnas ablate."
)


def importances(view: View) -> Picture:
    """Parameter importances by PED-ANOVA (Watanabe et al., arXiv:2304.10255)."""
    done = complete(view)
    if len(done) < FEWEST:
        why = f"Importances need {FEWEST} complete trials or more; there are {len(done)}."
        return nothing(IMPORTANCES_TITLE, why_nothing(view) if done.empty else why)
    sample = done.sample(min(EVALUATED, len(done)), random_state=0)
    numbers = sample["number"].astype(int).tolist()
    chosen = view.choices(numbers).reindex(numbers)
    varying = [name for name in chosen if chosen[name].notna().all() and _varies(chosen[name])]
    if not varying or sample["value"].nunique() < 2:
        return nothing(IMPORTANCES_TITLE, "No parameter varies among the complete trials.")
    found = ped_anova(chosen[varying], sample["value"].to_numpy(dtype=float))
    data = pd.DataFrame({"parameter": found.index.str.removeprefix("params_"), "share": found})
    figure = styled(go.Figure(), height=max(220, 60 + 18 * len(data)))
    figure.add_bar(
        y=[escape(name) for name in data["parameter"]],
        x=data["share"],
        orientation="h",
        marker={"color": BLUE},
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, tickfont={"size": 12})
    figure.update_xaxes(title={"text": "share of the importance"}, tickformat=".0%")
    drawn = (
        f"{len(sample):,} trials drawn at random" if len(done) > EVALUATED else "complete trials"
    )
    note = f"PED-ANOVA over {drawn}. {OBSERVED}"
    return Picture(IMPORTANCES_TITLE, figure, data.reset_index(drop=True), note)


def _varies(values: pd.Series) -> bool:
    return values.astype(str).nunique() > 1


def ped_anova(chosen: pd.DataFrame, values: Any) -> pd.Series:
    """Importance of each column, most important first; they sum to 1."""
    import optuna  # takes a second, and other charts do without
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plain = chosen.apply(lambda column: column if _is_real(column) else column.astype(str))
    spaces: dict[str, optuna.distributions.BaseDistribution] = {
        str(name): optuna.distributions.FloatDistribution(column.min(), column.max())
        if _is_real(column)
        else optuna.distributions.CategoricalDistribution(sorted(column.unique()))
        for name, column in plain.items()
    }
    rows = zip(plain.itertuples(index=False), values, strict=True)
    with warnings.catch_warnings():  # Optuna tells at every call what may change
        warnings.simplefilter("ignore")
        study = optuna.create_study(direction="maximize")
        study.add_trials(
            [
                optuna.create_trial(
                    params=dict(zip(spaces, row, strict=True)),
                    distributions=spaces,
                    value=float(value),
                )
                for row, value in rows
            ]
        )
        evaluator = PedAnovaImportanceEvaluator()
        found = get_param_importances(study, evaluator=evaluator, normalize=True)
    return pd.Series(found, dtype=float).sort_values(ascending=False)


def _is_real(column: pd.Series) -> bool:
    """Whether values lie on a line, as a stranger's learning rates do; ours are choices."""
    return pd.api.types.is_float_dtype(column) and bool(np.isfinite(column).all())


def choices(view: View) -> Picture:
    """Strips of accuracies by block type, groups, SE, depth and width, with medians."""
    done = complete(view)
    done = done[done["block"] != ""]
    if done.empty:
        return nothing(CHOICES_TITLE, why_nothing(view, described=True))
    levels = {choice: labelled(done, choice) for choice in CHOICES}
    figure = make_subplots(
        1,
        len(CHOICES),
        shared_yaxes=True,
        horizontal_spacing=0.02,
        subplot_titles=[*CHOICES.values()],
        column_widths=[1 + len(found.cat.categories) for found in levels.values()],
    )
    parts = []
    for place, (choice, title) in enumerate(CHOICES.items()):
        _add_strips(figure, done, levels[choice], place + 1, SEQUENCE[place])
        parts.append(_medians(done, levels[choice], title))
    styled(figure)
    figure.update_annotations(font={"size": 13})
    figure.update_layout(margin={"t": 36}, showlegend=False)
    figure.update_yaxes(title={"text": "validation accuracy"}, col=1)
    figure.update_yaxes(**share_axis(done["value"].tolist()))
    figure.update_xaxes(showgrid=False, tickangle=0, tickfont={"size": 11})
    note = f"Bars: medians, with the number of trials. {OBSERVED}"
    return Picture(CHOICES_TITLE, figure, pd.concat(parts, ignore_index=True), note)


def labelled(trials: pd.DataFrame, choice: str) -> pd.Series:
    """Each trial's level as an ordered category."""
    values = trials[choice]
    if choice in BINNED and values.nunique() > BINS:
        # Quantiles that occur: between two others lies a bin without a trial, or a name twice.
        quantiles = np.linspace(0, 1, BINS + 1)
        edges = np.unique(np.quantile(values, quantiles, method="inverted_cdf"))
        edges[0] -= 1  # left ends are not in their bins, and the smallest trial is in one
        return pd.cut(values, list(edges)).map(_interval_words)
    found = set(values.unique())
    order = [se for se in SE_ORDER if se in found] if choice == "se" else sorted(found)
    names = [escape(str(v)) if isinstance(v, str) else f"{v:.0f}" for v in order]
    return values.map(dict(zip(order, names, strict=True))).astype(
        pd.CategoricalDtype(names, ordered=True)
    )


def _interval_words(interval: pd.Interval) -> str:
    """Of whole numbers: the left end is not in it."""
    first, last = int(interval.left) + 1, int(interval.right)
    return f"{first}-{last}" if first < last else f"{last}"


def _add_strips(
    figure: go.Figure, done: pd.DataFrame, levels: pd.Series, column: int, colour: str
) -> None:
    names = list(levels.cat.categories)
    rng = np.random.default_rng(0)
    for place, name in enumerate(names):
        group = done[levels == name]
        shown = group.sample(min(MOST_POINTS, len(group)), random_state=0)
        figure.add_scatter(
            x=place + rng.uniform(-0.28, 0.28, len(shown)),
            y=shown["value"],
            customdata=trial_numbers(shown),
            mode="markers",
            marker={"color": colour, **(CLOUD if len(group) > FEW else DOTS)},
            hovertemplate="trial %{customdata}: %{y:.2%}<extra></extra>",
            row=1,
            col=column,
        )
        median = group["value"].median()
        figure.add_scatter(
            x=[place - 0.36, place + 0.36],
            y=[median, median],
            mode="lines",
            line={"color": VERMILION, "width": 3},
            hovertemplate=f"median {median:.2%} of {len(group):,} trials<extra></extra>",
            row=1,
            col=column,
        )
    counts = [f"{name}<br>{int((levels == name).sum()):,}" for name in names]
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=counts, col=column)


def _medians(done: pd.DataFrame, levels: pd.Series, title: str) -> pd.DataFrame:
    groups = done["value"].groupby(levels, observed=True)
    return pd.DataFrame(
        {
            "choice": title,
            "level": groups.median().index.astype(str),
            "trials": groups.size().to_numpy(),
            "median accuracy": groups.median().to_numpy(),
        }
    )


def parallel(view: View) -> Picture:
    """Every choice, the size and the accuracy of each trial as one line."""
    points = drawable(view.trials)
    points = points[points["block"] != ""]
    if points.empty:
        return nothing(PARALLEL_TITLE, why_nothing(view, described=True))
    leaders = points.nlargest(ALWAYS, "value")
    others = points.drop(leaders.index)
    drawn = pd.concat(
        [others.sample(min(MOST_LINES - ALWAYS, len(others)), random_state=0), leaders]
    )
    drawn = drawn.sort_values("value")
    axis = view.filters.axis
    dimensions = [_dimension(drawn, choice, title) for choice, title in CHOICES.items()]
    if (finite(drawn[axis]) & (drawn[axis] > 0)).all():
        dimensions.append(_size_dimension(drawn, axis))
    dimensions.append({"label": "accuracy", "values": drawn["value"], "tickformat": ".0%"})
    figure = styled(go.Figure(), height=420)
    figure.add_trace(
        go.Parcoords(
            dimensions=dimensions,
            line={"color": drawn["value"], "colorscale": COLOURS},
            labelfont={"size": 13},
            tickfont={"size": 11},
        )
    )
    figure.update_layout(margin={"l": 70, "r": 50, "t": 50, "b": 24})
    few = (
        f"{len(drawn):,} of {len(points):,} trials, the best among them. "
        if len(others) > (MOST_LINES - ALWAYS)
        else ""
    )
    note = (
        f"{few}Blue lines are the most accurate, orange ones the least. "
        f"Drag along an axis to pick lines. {OBSERVED}"
    )
    columns = ["number", *CHOICES, axis, "value"]
    data = drawn[columns].rename(columns={"number": "trial", "value": "accuracy"} | CHOICES)
    return Picture(PARALLEL_TITLE, figure, data, note)


def _dimension(trials: pd.DataFrame, choice: str, title: str) -> dict[str, Any]:
    if choice in BINNED:
        return {"label": title, "values": trials[choice]}
    levels = labelled(trials, choice)
    names = list(levels.cat.categories)
    return {
        "label": title,
        "values": levels.cat.codes,
        "tickvals": list(range(len(names))),
        "ticktext": names,
    }


def _size_dimension(trials: pd.DataFrame, axis: str) -> dict[str, Any]:
    ends = size_range(trials[axis].tolist())
    ticks = nice_ticks(*ends)
    return {
        "label": axis,
        "values": np.log10(trials[axis]),
        "range": np.log10(ends).tolist(),
        "tickvals": np.log10(ticks).tolist(),
        "ticktext": tick_words(axis, ticks),
    }
