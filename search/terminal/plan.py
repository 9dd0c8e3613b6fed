"""The plan of an ablation, as it is printed before anything is trained."""

from rich.console import Console
from rich.text import Text

from search.ablation.arms import Resolved, same_student
from search.ablation.forecast import Forecast
from search.study.limits import duration
from search.study.plan import AblationSpec, Arm, training_key
from search.terminal import output
from search.terminal.data import print_survey, survey_document
from search.terminal.evidence import summary
from space.count import cost
from space.file_format import stored_bytes
from trainers.data.survey import Survey

UNEVEN = 0.02  # of the budget: arms that far apart are hardly of one size


def planned(
    plan: AblationSpec,
    resolved: Resolved,
    seeds: int,
    expected: Forecast,
    console: Console,
    seen: Survey | None,
    *,
    as_json: bool,
) -> None:
    """Print the plan.

    Args:
        seen: of a dry run, whose answer the plan is: it goes to standard output.
    """
    if seen is not None and as_json:
        told = document(plan, resolved, seeds, expected)
        output.print_json(told | {"survey": survey_document(seen)})
        return
    out = console if seen is None else output.console()
    for line in [plan.question, *summary(plan, seeds)]:
        if line:
            out.print(line, soft_wrap=True)
    varied = ["pixels"] if len(plan.sizes) > 1 else []
    made = output.rows_table("arm", *varied, "bytes", "budget", "params", "MACs", "architecture")
    for arm in plan.arms:
        made.add_row(*map(Text, _cells(plan, arm)))
    for name, reason in resolved.impossible:
        empty = [""] * (len(made.columns) - 2)
        made.add_row(Text(name), *empty, Text(f"impossible: {reason}", style="red"))
    out.print(made)
    if seen is not None:
        print_survey(out, seen)
    for line in _remarks(plan, seeds, expected):
        out.print(line, soft_wrap=True)


def document(
    plan: AblationSpec, resolved: Resolved, seeds: int, expected: Forecast
) -> dict[str, object]:
    """The plan as JSON data."""
    arms = [
        arm.to_dict() | {"bytes": stored(plan, arm), "same_as": twin(plan, arm)}
        for arm in plan.arms
    ]
    return plan.to_dict() | {
        "arms": arms,
        "seeds": seeds,
        "impossible": [tuple_._asdict() for tuple_ in resolved.impossible],
        "seconds": {
            "students": expected.students,
            "teachers": expected.teachers,
            "logits": expected.logits,
        },
    }


def stored(plan: AblationSpec, arm: Arm) -> int:
    """Bytes of an arm's file."""
    return stored_bytes(arm.architecture, arm.format, plan.metadata_for(arm.recipe, arm.size))


def twin(plan: AblationSpec, arm: Arm) -> str | None:
    """An earlier arm that is the same thing under another name."""
    earlier = plan.arms[: plan.arms.index(arm)]
    return next((other.name for other in earlier if same_student(other, arm)), None)


def _cells(plan: AblationSpec, arm: Arm) -> tuple[str, ...]:
    counted = cost(arm.architecture, plan.metadata_for(arm.recipe, arm.size))
    share = "" if arm.budget_share is None else f"{arm.budget_share:.1%}"
    marked = f"{arm.name} *" if arm.name == plan.baseline else arm.name
    size = f"{stored(plan, arm):,}"
    params, work = f"{counted.parameters:,}", output.short(counted.macs)
    pixels = [str(plan.size_of(arm))] if len(plan.sizes) > 1 else []
    return (marked, *pixels, size, share, params, work, arm.architecture.words)


def _trainings(plan: AblationSpec) -> int:
    """Arms that differ in more than the storage format."""
    return len({training_key(arm) for arm in plan.arms})


def _remarks(plan: AblationSpec, seeds: int, expected: Forecast) -> list[str]:
    same = [(arm.name, twin(plan, arm)) for arm in plan.arms]
    levels = next(arm.levels for arm in plan.arms if arm.name == plan.baseline)
    own = ", ".join(f"{factor}={label}" for factor, label in levels.items())
    remarks = [f"* baseline{f' ({own})' if own else ''}: the others are compared with it"]
    remarks += [f"{name!r} is the same student as {other!r}" for name, other in same if other]
    if seeds == 1:
        remarks.append("warning: one seed says nothing of chance; ask for more: --seeds 5")
    shares = [arm.budget_share for arm in plan.arms if arm.budget_share is not None]
    if shares and max(shares) - min(shares) > UNEVEN:
        remarks.append(
            f"warning: arms use {min(shares):.1%} to {max(shares):.1%} of the budget: widths go in "
            "steps, and so small a budget is not met closely"
        )
    parts = [
        f"{_trainings(plan) * seeds} trainings {duration(expected.students)}",
        *([f"teachers {duration(expected.teachers)}"] if expected.teachers else []),
        *([f"their logits {duration(expected.logits)}"] if expected.logits else []),
    ]
    return [
        *remarks,
        f"time: about {duration(expected.total)} one after the other ({', '.join(parts)})",
    ]
