"""The report: one file, no network, the numbers of the command line."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from commands import inside, refused

from benchmarks import synthetic_studies
from search.storage import open_storage

HOSTILE = "</script><img src=x onerror=alert(1)>"
MOST_BYTES = 8_000_000  # for 1,000 trials
ABLATION = """
epochs = 1
seeds = 2
budget = "5KB"
baseline = { architecture = "digits-student", teacher = "none" }
factors.se = [4, 0]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report")
    synthetic_studies.make(path / "studies.db", 1000)
    (path / "a.toml").write_text(ABLATION)
    answer = inside(path, "ablate", "a.toml", "--cache", "cache", "--device", "cpu")
    assert answer.status == 0, answer.err
    storage = open_storage(str(path / "studies.db"), create=False)
    strange = optuna.create_study(storage=storage, study_name=HOSTILE, direction="maximize")
    strange.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    return path


@pytest.fixture
def offline(chromium: Any) -> Any:
    """A browser without a network; what it complains of fails the test."""
    context, said = chromium.new_context(), []
    context.set_offline(True)
    page = context.new_page()
    page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda r: said.append(r.url) if r.url.startswith("http") else None)
    yield page
    context.close()
    assert said == []


def test_it_opens_without_a_network(folder: Path, offline: Any) -> None:
    out = folder / "all.html"
    answer = inside(folder, "report", "--out", str(out))
    assert answer.status == 0, answer.err
    assert str(out) in answer.out
    offline.goto(f"file://{out}")
    plots = offline.locator(".plot")
    assert plots.count() > 12
    for place in range(plots.count()):
        plots.nth(place).scroll_into_view_if_needed()
        plots.nth(place).locator(".main-svg").first.wait_for(state="attached")
    assert offline.get_by_role("heading", name=HOSTILE).count() == 1
    assert offline.locator("img").count() == 0
    assert offline.get_by_role("heading", name="Compared").count() == 1


def test_a_thousand_trials_are_small(folder: Path, offline: Any) -> None:
    """And the best of them are those of `distilnas show`."""
    out = folder / "one.html"
    assert inside(folder, "report", "synthetic", "--out", str(out)).status == 0
    assert out.stat().st_size < MOST_BYTES
    offline.goto(f"file://{out}")
    rows = offline.locator("table").first.locator("tbody tr").all_inner_texts()
    trials = inside(folder, "show", "synthetic", "--json").json["trials"]
    done = [trial for trial in trials if trial["state"] == "COMPLETE"]
    best = sorted(done, key=lambda trial: (-trial["value"], trial["number"]))[:10]
    assert [row.split("\t")[:4] for row in rows] == [
        [str(t["number"]), f"{t['value']:.1%}", f"{t['bytes']:,}", f"{t['params']:,}"] for t in best
    ]
    data = json.loads(offline.locator(".plot + script").first.text_content())
    assert set(data) == {"data", "layout"}


def test_an_ablation_has_its_tables(folder: Path, offline: Any) -> None:
    out = folder / "a.html"
    assert inside(folder, "report", "a", "--out", str(out)).status == 0
    offline.goto(f"file://{out}")
    text = offline.inner_text("main")
    marked = inside(folder, "ablate", "show", "a", "--markdown").out
    for line in marked.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for cell in cells if line.startswith("|") and "---" not in line else []:
            assert cell in text


def test_wrong_calls_are_one_line_and_lose_nothing(folder: Path, tmp_path: Path) -> None:
    refused(inside(folder, "report", "nothing"), "nothing", "synthetic")
    refused(inside(tmp_path, "report"), "does not exist", "distilnas search")
    there = tmp_path / "there.html"
    there.write_text("kept")
    refused(inside(folder, "report", "nothing", "--out", str(there)), "nothing")
    assert there.read_text() == "kept"
    refused(inside(folder, "report", "a", "--out", "no/folder/x.html"), "choose another --out")
