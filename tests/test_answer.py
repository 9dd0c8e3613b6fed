"""Pages, the report and `show` answer first: which student, and whether to go on."""

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from commands import inside
from members import quick_train
from optuna.trial import TrialState, create_trial
from plotly.utils import PlotlyJSONEncoder

from benchmarks import synthetic_studies
from dashboards.figures.ablation import ABLATION_CHARTS
from dashboards.library import Library
from dashboards.pages import study as study_page
from dashboards.pages.downloads import Downloads
from search.ablation.effects import Analysis, analyse
from search.database import table
from search.database.engine import open_engine
from search.database.storage import open_storage
from search.study.plan import AblationSpec
from search.terminal.answer import sentence
from search.terminal.outlook import expected_gain

HERE = ("--cache", "cache", "--device", "cpu")
PLAN = """
budget = "5KB"
epochs = 1
seeds = 2
baseline = { architecture = "digits-student", teacher = "none" }
[factors]
depth = [1, 2]
budget = ["5KB", "3KB"]
"""
HOSTILE = "<img src=x onerror=alert(1)>"
PASSED = ("FAIL", "COMPLETE", "PRUNED")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Studies of every kind; the searches `s` with finalists and `synthetic` without files."""
    place = tmp_path_factory.mktemp("answers")
    (place / "a.toml").write_text(PLAN)
    search = ("search", "--epochs", "1", "--teacher", "none", *HERE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.training.objective.train", quick_train)
        for arguments in (
            (*search, "--name", "s", "--trials", "4", "--pruner", "none", "--finalists", "2"),
            (*search, "--name", "empty", "--prepare"),
            ("ablate", "a.toml", *HERE),
        ):
            answer = inside(place, *arguments)
            assert answer.status == 0, answer.err
    synthetic_studies.make(place / "studies.db", 80)
    storage = open_storage(str(place / "studies.db"), create=False)
    strange = optuna.create_study(storage=storage, study_name=HOSTILE, direction="minimize")
    strange.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=4)
    optuna.create_study(storage=storage, study_name="two", directions=["minimize", "maximize"])
    failed = synthetic_spec(storage, "failed")
    failed.add_trials([create_trial(state=TrialState.FAIL) for _ in range(2)])
    synthetic_spec(storage, "begun").add_trial(create_trial(state=TrialState.RUNNING))
    return place


def synthetic_spec(storage: optuna.storages.BaseStorage, name: str) -> optuna.Study:
    """A search of ours that has no trial yet."""
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    study.set_user_attr("target_trials", 16)
    study.set_user_attr("spec", synthetic_studies.make_spec().to_dict())
    return study


def page(folder: Path, name: str) -> Any:
    """A study's page, as the browser gets it."""
    library = Library(str(folder / "studies.db"))
    made = study_page.page(library, Downloads(library), library.identity(name), "")
    return json.loads(json.dumps(made, cls=PlotlyJSONEncoder))


def text(part: Any) -> str:
    """What a reader sees of a component."""
    if isinstance(part, dict):
        return text(part.get("props", {}).get("children"))
    if isinstance(part, list):
        return "".join(map(text, part))
    return "" if part is None else str(part)


def named(part: Any, identity: str) -> Any:
    """The component of an id, somewhere in a page."""
    inner = part.get("props", {}).get("children") if isinstance(part, dict) else part
    if isinstance(part, dict) and part.get("props", {}).get("id") == identity:
        return part
    found = (named(one, identity) for one in (inner if isinstance(inner, list) else [inner]) if one)
    return next((one for one in found if one), None) if isinstance(inner, list | dict) else None


def answered(folder: Path, name: str) -> str:
    """The text of a page's answer."""
    return text(named(page(folder, name), "answer"))


def reported(folder: Path, name: str) -> str:
    """The text of the report's answer."""
    assert inside(folder, "report", name, "--out", "r.html").status == 0
    written = (folder / "r.html").read_text()
    answer = written.partition('<section class="card answer">')[2].partition("</section>")[0]
    return html.unescape(re.sub(r"<[^>]*>", "", answer))


def test_numbers_are_those_of_show(folder: Path) -> None:
    for name in ("s", "a", "synthetic"):
        told = inside(folder, "show", name, "--json").json["answer"]
        best = told["best"]
        row = inside(folder, "show", name, str(best["trial"]), "--json").json
        assert best["bytes"] == row["bytes"]
        assert best["seed"] or best["accuracy"] == row["value"]
        words = [
            f"Best student: trial {best['trial']}, {best['accuracy']:.1%}",
            f"{best['bytes']:,} bytes",
        ]
        if best["images"]:
            ends = f"[{100 * best['low']:.1f}, {100 * best['high']:.1f}]"
            words.append(f"{best['accuracy']:.1%} {ends} on 359 validation images, ")
        for shown in (answered(folder, name), reported(folder, name)):
            assert all(word in shown for word in words), shown
            assert "/studies.db" in shown or f"resume {name}" in shown
        assert words[0][14:] in inside(folder, "show", name).out


def test_whether_to_go_on(folder: Path) -> None:
    told = inside(folder, "show", "synthetic", "--json").json
    rows = [row for row in told["trials"] if row["state"] in PASSED]
    best = told["answer"]["best"]
    assert told["answer"]["trials_since_gain"] == sum(row["number"] > best["trial"] for row in rows)
    values = [row["value"] for row in rows if row["state"] == "COMPLETE"]
    gain, more = told["answer"]["expected_gain"], told["answer"]["more_trials"]
    assert gain == pytest.approx(expected_gain(np.array(values), more / len(rows)))
    expected = f"{more} more trials may add about {100 * gain:.1f} points."
    for shown in (answered(folder, "synthetic"), reported(folder, "synthetic")):
        assert f"No gain in the last {told['answer']['trials_since_gain']} trials; " in shown
        assert expected in shown
    assert expected in inside(folder, "show", "synthetic").out
    few = inside(folder, "show", "s", "--json").json["answer"]
    assert few["expected_gain"] is None
    assert "may add" not in answered(folder, "s")


def test_the_command_asks_for_what_is_left_or_for_more(folder: Path) -> None:
    assert inside(folder, "show", "s", "--json").json["answer"]["go_on"] == (
        "distilnas resume s --trials 4"
    )
    assert inside(folder, "show", "empty", "--json").json["answer"]["go_on"] == (
        "distilnas resume empty"
    )
    assert "distilnas resume a --seeds 5" in answered(folder, "a")


def test_the_winner_of_finalists_is_told(folder: Path) -> None:
    best = inside(folder, "show", "s", "--json").json["answer"]["best"]
    words = f"It has the best mean over 3 further seeds, {best['mean']:.1%}; this is its seed "
    assert f"{words}{best['seed']}." in answered(folder, "s")


def test_the_page_offers_the_file(folder: Path) -> None:
    library = Library(str(folder / "studies.db"))
    downloads = Downloads(library)
    made = study_page.page(library, downloads, library.identity("s"), "")
    (key,) = re.findall(r"/download/([\w-]+)", json.dumps(made, cls=PlotlyJSONEncoder))
    served = downloads.serve(key)
    assert served.data == (folder / "runs/s/best.safetensors").read_bytes()
    best = inside(folder, "show", "s", "--json").json["answer"]["best"]
    name = f"s-trial{best['trial']:04d}-seed{best['seed']}.safetensors"
    assert name in served.headers["Content-Disposition"]
    assert "/download/" not in json.dumps(page(folder, "synthetic"))  # it has no files


def test_an_ablation_answers_then_shows_differences_then_tables(folder: Path) -> None:
    library = Library(str(folder / "studies.db"))
    made = str(study_page.page(library, Downloads(library), library.identity("a"), ""))
    titles = [chart.title for chart in ABLATION_CHARTS.values()]
    order = ["id='answer'", titles[0], "id='evidence'", titles[1]]
    assert [made.index(word) for word in order] == sorted(made.index(word) for word in order)
    shown = inside(folder, "ablate", "show", "a", "--json").json["sentence"]
    assert shown.startswith("Against baseline: ")
    assert shown in answered(folder, "a")
    assert shown in reported(folder, "a")
    assert shown in inside(folder, "ablate", "show", "a").out
    written = (folder / "r.html").read_text()
    assert written.index(f"<h2>{titles[0]}</h2>") < written.index("<h2>Evidence</h2>")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty", "No trial yet"),
        ("begun", "No student has been trained to its end yet (1 running of 1 trial)."),
        ("failed", "2 trials of 2 failed; why: distilnas show failed"),
        (HOSTILE, "Made by another program: its best value is "),
        ("two", "Made by another program, with 2 objectives"),
    ],
)
def test_where_there_is_no_answer_one_line_says_so(folder: Path, name: str, words: str) -> None:
    said = answered(folder, name).partition("To go on")[0]
    assert said.startswith(words)
    assert words in reported(folder, name)
    shown = inside(folder, "show", name)
    assert words in shown.out
    assert inside(folder, "show", name, "--json").json["answer"]["best"] is None
    assert HOSTILE not in (folder / "r.html").read_text()


def test_it_follows_the_filters_of_nobody(folder: Path) -> None:
    library = Library(str(folder / "studies.db"))
    identity, downloads = library.identity("synthetic"), Downloads(library)
    both = [
        named(
            json.loads(
                json.dumps(
                    study_page.page(library, downloads, identity, query), cls=PlotlyJSONEncoder
                )
            ),
            "answer",
        )
        for query in ("", "?high=30KB")
    ]
    assert both[0] == both[1]


def evidence(folder: Path, verdicts: dict[str, tuple[str, float]]) -> tuple[AblationSpec, Analysis]:
    """The ablation's plan, and its analysis with other verdicts: arm -> verdict, difference."""
    engine = open_engine(str(folder / "studies.db"))
    plan = AblationSpec.from_dict(table.attributes(engine, "a")["spec"])
    analysis = analyse(table.trials(engine, "a"), plan)
    arms = analysis.arms.copy()
    for arm, (verdict, difference) in verdicts.items():
        arms.loc[arms["arm"] == arm, "verdict"] = verdict
        arms.loc[arms["arm"] == arm, "difference"] = difference
    return plan, analysis._replace(arms=arms)


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        (
            {"budget=3KB": ("worse", -0.036)},
            "Against baseline: budget 3KB costs 3.6 points; nothing shown for depth",
        ),
        (
            {"depth=1": ("better", 0.012), "budget=3KB": ("worse", -0.036)},
            "Against baseline: budget 3KB costs 3.6 points; depth 1 gains 1.2 points; "
            "nothing shown for depth 2",
        ),
        ({}, "Against baseline: nothing shown for depth and budget"),
    ],
)
def test_the_sentence_says_what_verdicts_say(
    folder: Path, verdicts: dict[str, tuple[str, float]], words: str
) -> None:
    assert sentence(*evidence(folder, verdicts), unfinished=False) == words
    so_far = words.replace("Against", "So far, against")
    assert sentence(*evidence(folder, verdicts), unfinished=True) == so_far
