"""The answer that a study gives, in a few lines: for pages, the report, and `distilnas show`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import sqlalchemy as sa

from search.database.address import command
from search.database.goal import Goal
from search.database.row import originals
from search.database.table import spec_of
from search.study.plan import FACTORIAL, AblationSpec, is_plan
from search.study.ranking import Best, best_student
from search.terminal import output
from search.terminal.outlook import ENDED, Outlook, asked_last, outlook

if TYPE_CHECKING:
    from search.ablation.effects import Analysis

SHOWN = {"worse": "costs", "better": "gains"}  # verdicts
MORE_SEEDS = 3  # of an ablation, that are proposed
LEAST_GAIN = 0.0005  # 0.05 points; a smaller one would be printed as none


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A study's answer; texts are "" where there is nothing to say."""

    best: Best | None = None  # None: `nothing` says why
    nothing: str = ""  # why there is no answer yet, or none of ours
    sentence: str = ""  # what an ablation shows
    accuracy: str = ""  # of the best student
    certainty: str = ""  # its interval, and of how many images it is
    costs: str = ""  # the best student's bytes and MACs
    whose: str = ""  # its arm, or the further seeds that chose it
    gap: str = ""  # to its teacher
    ahead: str = ""  # whether to go on
    more: str = ""  # the command to go on with
    outlook: Outlook | None = None  # of a search: `ahead` in numbers

    @property
    def tail(self) -> str:
        """What follows the best student's accuracy in its line."""
        return f"{self.certainty}, {self.costs}" if self.costs else self.certainty

    @property
    def asides(self) -> str:
        """What is to be known beside it, in one line of sentences."""
        parts = filter(None, (self.whose, self.gap, self.ahead))
        return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts)

    @property
    def lines(self) -> list[str]:
        """All of it for a terminal."""
        found = [self.nothing, self.sentence]
        if self.best:
            found.append(f"best student: trial {self.best.number}, {self.accuracy}{self.tail}")
        found += [self.asides, self.more and f"to go on: {self.more}"]
        return [line for line in found if line]

    @property
    def document(self) -> dict[str, object]:
        """All of it for programs: accuracies and gains are shares, not per cent."""
        seen = self.outlook
        return {
            "best": best_document(self.best),
            "nothing": self.nothing or None,
            "sentence": self.sentence or None,
            "trials_since_gain": seen.since if seen else None,
            "more_trials": seen.more if seen else None,
            "expected_gain": seen.gain if seen else None,
            "go_on": self.more or None,
        }


def best_document(best: Best | None) -> dict[str, object] | None:
    if best is None:
        return None
    low, high = best.interval or (None, None)
    return {
        "trial": best.number,
        "seed": best.seed,
        "arm": best.arm,
        "accuracy": best.value,
        "low": low,
        "high": high,
        "images": best.images,
        "mean": best.mean,
        "bytes": best.bytes,
        "macs": best.macs,
        "teacher": best.teacher,
    }


def answer(
    engine: sa.Engine,
    storage: str,
    name: str,
    trials: pd.DataFrame,
    attributes: Mapping[str, Any],
    goal: Goal,
    analysis: "Analysis | None" = None,
) -> Answer:
    """A study's answer.

    Args:
        trials: all of the study's, columns of `search.database.table.trials`.
        attributes: of the study.
        goal: of the study.
        analysis: of an ablation; without it what the ablation shows is left out.
    """
    spec = spec_of(attributes)
    best = best_student(engine, name, trials, attributes, goal)
    if not spec:
        return Answer(nothing=_strange(best, goal))
    if best is None:
        more = "" if (trials["state"] == "FAIL").any() else command("resume", name, storage)
        return Answer(nothing=_nothing(trials, command("show", name, storage)), more=more)
    shared: dict[str, Any] = {
        "best": best,
        "accuracy": goal.words(best.value),
        "certainty": certainty(best),
        "costs": costs(best),
        "gap": _gap(best),
    }
    if is_plan(spec):
        seeds = int(attributes["seeds"])
        plan, whose = AblationSpec.from_dict(spec), f"it is one training of arm {best.arm}"
        more = command("resume", name, storage, *_seeds(trials, plan, seeds))
        if analysis is None:
            return Answer(**shared, whose=whose, more=more)
        shown = sentence(plan, analysis, unfinished=not has_ended(trials, plan, seeds))
        return Answer(
            **shared, whose=whose, more=more, sentence=shown, ahead=_more_seeds(analysis, seeds)
        )
    seen = outlook(trials, attributes, goal)
    more = command("resume", name, storage, *_trials(trials, attributes, seen))
    ahead = foretold(seen, best) if seen else ""
    return Answer(**shared, whose=_chosen(best), ahead=ahead, more=more, outlook=seen)


def certainty(best: Best) -> str:
    """` [95.3, 98.7] on 359 validation images`; "" where their number is not known."""
    if best.interval is None:
        return ""
    low, high = (100 * end for end in best.interval)
    return f" [{low:.1f}, {high:.1f}] on {best.images:,} validation images"


def costs(best: Best) -> str:
    known = [] if best.bytes is None else [f"{best.bytes:,} bytes"]
    return ", ".join([*known, *([] if best.macs is None else [f"{output.short(best.macs)} MACs"])])


def foretold(seen: Outlook, best: Best) -> str:
    """Whether to go on with a search: its last gain, and what more trials may bring."""
    since = f"no gain in the last {_many(seen.since, 'trial')}"
    parts = [since if seen.since else "the last trial is the best so far"]
    if best.value >= 1:
        return f"{parts[0]}; no validation image is left to gain"
    if seen.gain is not None:
        points = f"about {100 * seen.gain:.1f}" if seen.gain >= LEAST_GAIN else "less than 0.1"
        parts.append(f"{_many(seen.more, 'more trial')} may add {points} points")
    return "; ".join(parts)


def sentence(plan: AblationSpec, analysis: "Analysis", *, unfinished: bool) -> str:
    """What an ablation shows: `budget 6KB costs 3.6 points; nothing shown for block`.

    It says what the verdicts say, which are corrected for all comparisons, and no more.
    """
    rows = list(_compared(plan, analysis))
    shown = [row for row in rows if row["verdict"] in SHOWN]
    shown.sort(key=lambda row: -abs(row["difference"]))
    parts = [
        f"{row['words']} {SHOWN[row['verdict']]} {abs(100 * row['difference']):.1f} points"
        for row in shown
    ]
    parts += _not_shown(rows)
    if not parts:
        return ""
    begins = "So far, against" if unfinished else "Against"
    return f"{begins} {plan.baseline}: {'; '.join(parts)}"


def _compared(plan: AblationSpec, analysis: "Analysis") -> Iterator[dict[str, Any]]:
    """Comparisons with their words, and the group that they are told of in one."""
    own = plan.arm(plan.baseline).levels
    if plan.design == FACTORIAL:
        for _, row in analysis.levels.iterrows():
            if row["level"] != own[row["factor"]]:
                yield output.trial_document(row) | {
                    "words": f"{row['factor']} {row['level']}",
                    "group": row["factor"],
                }
        return
    for _, row in analysis.arms.iterrows():
        if row["arm"] != plan.baseline:
            levels = plan.arm(row["arm"]).levels
            changed = [factor for factor in levels if levels[factor] != own.get(factor)]
            one = changed[0] if len(changed) == 1 else ""
            words = f"{one} {levels[one]}" if one else row["arm"]
            yield output.trial_document(row) | {"words": words, "group": one}


def _not_shown(rows: list[dict[str, Any]]) -> Iterator[str]:
    """`nothing shown for block and se`: what has no verdict of a difference, in as few words."""
    told: dict[str, list[str]] = {}
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        rest = [row for row in members if row["verdict"] not in SHOWN]
        if rest:
            judged = any(row["p_holm"] is not None for row in rest)
            what = "nothing shown for" if judged else "too few seeds to judge"
            told.setdefault(what, []).append(_subject(group, rest, len(members)))
    for what, subjects in told.items():
        *others, last = subjects
        yield f"{what} {', '.join(others)} and {last}" if others else f"{what} {last}"


def _subject(group: str, rest: list[dict[str, Any]], members: int) -> str:
    """A factor, or those of its levels (of the arms that change several settings) that remain."""
    if len(rest) == 1 and (members > 1 or not group):
        return str(rest[0]["words"])
    some = len(rest) < members
    if not group:
        return f"the other {len(rest)} arms" if some else f"{len(rest)} arms"
    return f"other levels of {group}" if some else group


def _more_seeds(analysis: "Analysis", seeds: int) -> str:
    """The differences that an ablation's seeds can show, and those that a few more could."""
    import numpy as np

    from search.ablation.paired import detectable

    tested = analysis.arms[analysis.arms["p"].notna()]
    if tested.empty:
        return f"{MORE_SEEDS} more seeds would tell chance from effect" if seeds == 1 else ""
    pairs = int(tested["pairs"].max())
    weights = tested["pairs"].astype(float) - 1
    sd = float(np.sqrt(np.average(tested["difference_sd"].astype(float) ** 2, weights=weights)))
    now, then = (100 * detectable(n, sd, len(tested)) for n in (pairs, pairs + MORE_SEEDS))
    return (
        f"{pairs} seeds show differences from about {now:.1f} points, {pairs + MORE_SEEDS} would "
        f"from about {then:.1f}"
    )


def _gap(best: Best) -> str:
    if best.teacher is None:
        return ""
    points = 100 * (best.teacher - best.value)
    if abs(points) < 0.05:
        return f"it is as accurate as its teacher ({best.teacher:.1%})"
    side = "below" if points > 0 else "above"
    return f"it is {abs(points):.1f} points {side} its teacher ({best.teacher:.1%})"


def _chosen(best: Best) -> str:
    if best.mean is None:
        return ""
    seeds = _many(best.seeds, "further seed")
    return f"it has the best mean over {seeds}, {best.mean:.1%}; this is its seed {best.seed}"


def _strange(best: Best | None, goal: Goal) -> str:
    """Another program's study."""
    made = "Made by another program"
    if goal.several:
        return f"{made}, with {goal.objectives} objectives: no trial is the best by all of them."
    if best is None:
        return f"{made}; no trial is complete."
    return f"{made}: its best value is {goal.exactly(best.value)}, of trial {best.number}."


def _nothing(trials: pd.DataFrame, show: str) -> str:
    states = trials["state"]
    if trials.empty:
        return "No trial yet: the best student is named here when the first one ends."
    if (states == "FAIL").all():
        return f"{_many(len(trials), 'trial')} of {len(trials):,} failed; why: {show}"
    running = int(states.isin(("RUNNING", "WAITING")).sum())
    failed = int((states == "FAIL").sum())
    counts = [
        *([f"{running:,} running"] if running else []),
        *([f"{failed:,} failed"] if failed else []),
    ]
    told = f" ({', '.join(counts)} of {_many(len(trials), 'trial')})" if counts else ""
    return f"No student has been trained to its end yet{told}."


def _trials(
    trials: pd.DataFrame, attributes: Mapping[str, Any], seen: Outlook | None
) -> tuple[str, ...]:
    """Flags of `resume`: as many trials as the outlook is about; none while some of those that the
    study was asked for are left."""
    ended = len(originals(trials[trials["state"].isin(ENDED)]))
    left = ended < int(attributes.get("target_trials", 0))
    more = asked_last(attributes) if seen is None or seen.gain is None else seen.more
    return () if left else ("--trials", str(more))


def _seeds(trials: pd.DataFrame, plan: AblationSpec, seeds: int) -> tuple[str, ...]:
    return ("--seeds", str(seeds + MORE_SEEDS)) if has_ended(trials, plan, seeds) else ()


def has_ended(trials: pd.DataFrame, plan: AblationSpec, seeds: int) -> bool:
    """Whether all trainings of an ablation have ended."""
    return int(trials["state"].isin(ENDED).sum()) >= seeds * len(plan.arms)


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
