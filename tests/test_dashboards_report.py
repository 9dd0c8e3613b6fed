"""The report as its reader meets it: one file, opened without a network."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from commands import SMALL, Answer, inside, refused

from benchmarks import synthetic_studies
from search.database.storage import open_storage

HOSTILE = "</script><img src=x onerror=alert(1)>'\" --/../x"
ABLATION = """
question = "Does <b>depth</b> pay?"
epochs = 1
seeds = 2
budget = "5KB"
baseline = { architecture = "digits-student", teacher = "none" }
design = "factorial"
[factors]
depth = [1, 2]
"""
TRIALS = 1_000
MOST_BYTES = 8_000_000
DRAWN = ".plot.js-plotly-plot"


def made(folder: Path, *arguments: str) -> Answer:
    answer = inside(folder, *arguments)
    assert answer.status == 0, answer.err
    return answer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real search with a finalist, an ablation, 1,000 made-up trials, a stranger's study."""
    place = tmp_path_factory.mktemp("reported")
    made(place, "search", *SMALL, "--finalists", "1")
    (place / "a.toml").write_text(ABLATION)
    made(place, "ablate", "a.toml", "--cache", "cache", "--device", "cpu")
    database = place / "studies.db"
    synthetic_studies.make(database, TRIALS)
    storage = open_storage(str(database), create=False)
    strange = optuna.create_study(storage=storage, study_name=HOSTILE, direction="maximize")
    strange.set_user_attr("spec", HOSTILE)
    strange.optimize(lambda trial: trial.suggest_float(HOSTILE, 0, 1), n_trials=6)
    made(place, "report", "--out", "all.html")
    for name in ("s", "a", "synthetic"):
        made(place, "report", name, "--out", f"{name}.html")
    return place


@pytest.fixture
def read(chromium: Any, folder: Path) -> Iterator[Callable[..., Any]]:
    """`read("all.html")`: a page without a network; errors and dialogs fail the test."""
    contexts, said = [], []

    def opened(name: str, **settings: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1400, "height": 900}, **settings})
        contexts.append(context)
        context.set_offline(True)
        page = context.new_page()
        page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda asked: said.append(asked.url) if _is_remote(asked) else None)
        page.goto((folder / name).as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


def _is_remote(request: Any) -> bool:
    return not request.url.startswith(("file:", "data:", "blob:"))


def cells(page: Any, heading: str) -> list[list[str]]:
    """Rows of the table below a heading."""
    card = page.locator("section.card", has=page.get_by_role("heading", name=heading, exact=True))
    return [row.split("\t") for row in card.locator("tbody tr").all_inner_texts()]


@pytest.mark.parametrize("width", [400, 2000])
def test_every_figure_is_drawn_when_it_is_reached(read: Any, width: int) -> None:
    page = read("all.html", viewport={"width": width, "height": 900})
    plots = page.locator(".plot")
    assert plots.count() > 15
    page.locator(DRAWN).first.wait_for()
    assert page.locator(DRAWN).count() < plots.count()  # the rest waits
    for place in range(plots.count()):
        plots.nth(place).scroll_into_view_if_needed()
        plots.nth(place).locator(".main-svg, canvas").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_all_is_drawn_before_it_is_printed(read: Any) -> None:
    page = read("s.html")
    page.locator(DRAWN).first.wait_for()
    assert page.locator(DRAWN).count() < page.locator(".plot").count()
    assert page.pdf().startswith(b"%PDF")
    assert page.locator(DRAWN).count() == page.locator(".plot").count()


def test_the_best_are_those_of_the_command_line(read: Any, folder: Path) -> None:
    shown = made(folder, "show", "synthetic", "--json").json["trials"]
    complete = [row for row in shown if row["state"] == "COMPLETE" and row["duplicate_of"] is None]
    complete.sort(key=lambda row: (-row["value"], row["number"]))
    listed = cells(read("synthetic.html"), "The best trials")
    assert len(listed) == 10
    for cell, row in zip(listed, complete[:10], strict=True):
        assert cell[:2] == [str(row["number"]), f"{row['value']:.1%}"]
        assert cell[2:4] == [f"{row['bytes']:,}", f"{row['params']:,}"]
        assert cell[5] == row["words"]


def test_finalists_and_the_best_network_are_there(read: Any, folder: Path) -> None:
    told = made(folder, "show", "s", "--json").json
    page, (finalist,) = read("s.html"), told["finalists"]
    assert cells(page, "Finalists") == [
        [
            str(finalist["number"]),
            f"{finalist['mean']:.1%}",
            f"{finalist['spread']:.1%}",
            "3",
            told["trials"][finalist["number"]]["words"],
        ]
    ]
    best = cells(page, "The best trials")[0][0]
    page.get_by_role("heading", name=f"Architecture of trial {best}, the best").wait_for()


def test_an_ablation_has_the_command_line_s_evidence(read: Any, folder: Path) -> None:
    told = made(folder, "ablate", "show", "a", "--json").json
    page = read("a.html")
    rows = {row[0]: row for row in reversed(cells(page, "Evidence"))}  # the arms come first
    for arm in told["arms"]:
        assert f"{100 * arm['mean']:.1f}" in rows[arm["arm"]][2]
        assert f"{arm['bytes']:,}" in rows[arm["arm"]]
    notes = page.locator("ul.notes").inner_text()
    assert all(note in notes for note in told["notes"])
    assert "Does <b>depth</b> pay?" in page.locator("p.lead").inner_text()


def test_a_trial_of_an_ablation_says_its_arm_and_seed(folder: Path) -> None:
    told = made(folder, "ablate", "show", "a", "--json").json
    arms = [arm["arm"] for arm in told["arms"]]
    for number in range(2 * len(arms)):
        arm, seed = arms[number % len(arms)], number // len(arms)
        facts = [
            line.split(maxsplit=1)
            for line in made(folder, "show", "a", str(number)).out.splitlines()
        ]
        known = {words[0]: words[1] for words in facts if len(words) == 2}
        assert known["arm"].removesuffix(" (the baseline)") == arm
        assert known["arm"].endswith(" (the baseline)") == (arm == arms[0])
        assert known["seed"] == str(seed)
        assert known["levels"]
    assert "seed" not in made(folder, "show", "synthetic", "0").out


def test_data_stands_below_its_figure(read: Any) -> None:
    page = read("synthetic.html")
    card = page.locator("section.card", has=page.get_by_role("heading", name="Learning curves"))
    words = card.locator("summary").inner_text()
    count = int(words.removeprefix("Data: ").split(" ")[0].replace(",", ""))
    assert count > TRIALS
    assert words.endswith("the first 1,000 shown")
    assert not card.locator("table").is_visible()
    card.locator("summary").click()
    assert card.locator("tbody tr").count() == 1_000
    assert card.locator("th[scope=col]").count() == card.locator("th").count() > 0


def test_names_are_text_wherever_they_stand(read: Any) -> None:
    page = read("all.html")
    headings = page.get_by_role("heading", level=1).all_inner_texts()
    assert set(headings) == {"Compared", "s", "a", "synthetic", HOSTILE}
    assert HOSTILE in page.get_by_role("navigation").inner_text()
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.wait_for_timeout(500)  # time for a script that must not run
    assert page.locator("img").count() == 0


def test_colours_are_the_reader_s(read: Any) -> None:
    papers = set()
    for scheme in ("light", "dark"):
        page = read("s.html", color_scheme=scheme)
        page.locator(DRAWN).first.wait_for()
        papers.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        ink = "getComputedStyle(document.querySelector('.xtick text')).fill"
        page.locator(".xtick text").first.wait_for()
        assert page.evaluate(ink) == page.evaluate("getComputedStyle(document.body).color")
    assert len(papers) == 2


def test_it_is_small(folder: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.html")}
    assert set(sizes) == {"all.html", "s.html", "a.html", "synthetic.html"}
    assert max(sizes.values()) < MOST_BYTES


def test_nothing_in_it_leads_to_a_cloud(folder: Path) -> None:
    text = (folder / "s.html").read_text()
    assert '"showSendToCloud": false' in text
    assert "<script src" not in text
    assert "<link" not in text


def test_a_wrong_call_is_one_line_and_what_was_there_stays(folder: Path, tmp_path: Path) -> None:
    refused(inside(folder, "report", "nobody"), "nobody", "there are: ", "synthetic")
    refused(inside(tmp_path, "report"), "studies.db", "does not exist")
    blocked = tmp_path / "folder"
    blocked.mkdir()
    for out in (blocked, tmp_path / "missing" / "r.html"):
        refused(inside(folder, "report", "s", "--out", str(out)), "choose another --out")
    assert list(blocked.iterdir()) == []
    assert list(tmp_path.iterdir()) == [blocked]
    open_storage(str(tmp_path / "studies.db"), create=True)
    refused(inside(tmp_path, "report"), "no study yet", "distilnas search")


def test_an_unfinished_report_leaves_the_old_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "report.html"
    old.write_text("the old one")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    refused(inside(folder, "report", "s", "--out", str(old)), "No space left", "--out")
    assert old.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [old]
