"""What a dry run of a search answers."""

from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table

from search.database.table import shown_budget
from search.study.limits import duration
from search.study.settings import Settings
from search.study.spec import SearchSpec
from search.terminal import output
from search.terminal.data import print_survey, survey_document
from search.training.costs import DEAR, SpaceCosts, StudentCost, TimedCost
from space.solver import Budget, Solution, format_bytes
from trainers.data.survey import Survey
from trainers.ranges import searched_words


def planned(
    settings: Settings,
    spec: SearchSpec,
    low: Solution,
    high: Solution,
    students: Sequence[StudentCost],
    costs: SpaceCosts,
    seen: Survey,
    as_json: bool,
) -> None:
    """A dry run's answer."""
    budget, words = spec.budget, Budget(**shown_budget(spec.to_dict()))
    shares = sorted(one.student.share for one in students)
    seconds = costs.median.seconds * settings.trials
    if as_json:
        output.print_json(
            {
                "settings": asdict(settings),
                "recipe": spec.recipe.to_dict(),
                "searched": spec.ranges.to_dict(),
                "budget": output.budget_document(budget),
                "smallest": {"cost": low.cost, "architecture": low.architecture.to_dict()},
                "largest_floor": {"cost": high.cost, "architecture": high.architecture.to_dict()},
                "shares": shares,
                "costs": {name: cost_document(cost) for name, cost in costs._asdict().items()},
                "seconds_per_epoch": costs.median.seconds_per_epoch,
                "seconds": seconds,
                "remark": remark(costs),
                "survey": survey_document(seen),
            }
        )
        return
    out = output.console()
    made = output.rows_table("setting", "value")
    for name, value in asdict(settings).items():
        if value is not None and name not in ("recipe", "search", *spec.ranges.settings):
            made.add_row(name, str(value))
    for name, value in spec.recipe.to_dict().items():
        wanted = spec.ranges.settings.get(name)
        made.add_row(f"recipe.{name}", wanted.words if wanted else str(value))
    out.print(made)
    if spec.ranges:
        out.print(searched_words(spec.ranges.to_dict()), soft_wrap=True)
        if settings.needs_teacher and spec.ranges.views > 1:
            out.print(f"the teacher's logits: computed for {spec.ranges.views} augmentations")
    out.print(
        f"data: {spec.source}, {len(spec.classes)} classes, {output.in_pixels(spec.sizes)}",
        soft_wrap=True,
    )
    print_survey(out, seen)
    out.print(
        f"smallest student: {budget.amount(low.cost)}: {low.architecture.words}", soft_wrap=True
    )
    out.print(
        f"largest student at its smallest widths: {budget.amount(high.cost)}: "
        f"{high.architecture.words}",
        soft_wrap=True,
    )
    out.print(
        f"{len(shares)} sampled students use {shares[0]:.1%} to {shares[-1]:.1%} of {words} "
        f"(median {shares[len(shares) // 2]:.1%})",
        soft_wrap=True,
    )
    out.print(costs_table(costs))
    out.print(
        f"time: about {duration(seconds)} for {settings.trials} trials of {spec.recipe.epochs} "
        "epochs, each as the median, one after the other, none stopped early, without the teacher",
        soft_wrap=True,
    )
    told = remark(costs)
    if told is not None:
        out.print(f"warning: {told}", soft_wrap=True)


def costs_table(costs: SpaceCosts) -> Table:
    made = output.rows_table("by MACs", "MACs", "RAM", "trial takes", "architecture")
    for name, (cost, _, a_trial) in costs._asdict().items():
        made.add_row(
            name,
            output.short(cost.macs),
            format_bytes(cost.ram),
            duration(a_trial),
            cost.student.architecture.words,
        )
    return made


def cost_document(timed: TimedCost) -> dict[str, object]:
    cost = timed.cost
    return {
        "macs": cost.macs,
        "ram": cost.ram,
        "cost": cost.student.cost,
        "seconds_per_epoch": timed.seconds_per_epoch,
        "seconds": timed.seconds,
        "architecture": cost.student.architecture.to_dict(),
    }


def remark(costs: SpaceCosts) -> str | None:
    """The way out of a space whose dearest students cost far more than most; None elsewhere."""
    if costs.spread <= DEAR:
        return None
    limit = 2 * costs.median.cost.macs
    return (
        f"the dearest student takes {costs.spread:.0f} times the MACs of the median and "
        f"{duration(costs.dearest.seconds)} a trial; --macs {limit} keeps all students within "
        "twice the median"
    )
