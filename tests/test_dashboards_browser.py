"""Pages in a real browser: what is seen, clicked, filtered, downloaded; and by whom."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import axe_core_python
import optuna
import pytest
from commands import inside
from dashboard_server import served
from optuna.trial import TrialState, create_trial

from benchmarks import synthetic_studies
from dashboards.filters import Filters
from dashboards.library import Library
from search.database.storage import open_storage

AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
HOSTILE = "<img src=x onerror=alert(1)>'\"; DROP TABLE studies; --/../x"
ABLATION = """
epochs = 1
seeds = 2
budget = "5KB"
baseline = { architecture = "digits-student", teacher = "none" }
design = "factorial"
[factors]
se = [4, 0]
depth = [1, 2]
"""
PATIENCE = 15  # seconds; a quiet machine takes less than 3
FRONT = "document.querySelector('#front .js-plotly-plot')"
DRAWN = (  # trials in the first chart
    f"{FRONT}.calcdata.filter(points => points[0]?.trace.hovertemplate?.startsWith('trial '))"
    ".flat().length"
)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1: a search of 300 trials; 2: an ablation; then a stranger's, failures, nothing."""
    folder = tmp_path_factory.mktemp("studies")
    path = folder / "studies.db"
    synthetic_studies.make(path, 300)
    (folder / "a.toml").write_text(ABLATION)
    answer = inside(folder, "ablate", "a.toml", "--cache", "cache", "--device", "cpu")
    assert answer.status == 0, answer.err
    storage = open_storage(str(path), create=False)
    strange = optuna.create_study(storage=storage, study_name=HOSTILE, direction="maximize")
    strange.optimize(lambda trial: trial.suggest_float("<b>x", 0, 1), n_trials=6)
    failed = optuna.create_study(storage=storage, study_name="failed", direction="maximize")
    failed.add_trial(create_trial(state=TrialState.FAIL))
    optuna.create_study(storage=storage, study_name="empty", direction="maximize")
    return path


@pytest.fixture(scope="module")
def address(database: Path) -> Iterator[str]:
    with served(database) as found:
        yield found


@pytest.fixture
def opened(chromium: Any) -> Iterator[Callable[..., Any]]:
    """`opened(address)`: a page; errors of its console and dialogs fail the test."""
    contexts, said = [], []

    def page_at(address: str, **settings: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1400, "height": 900}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.goto(address)
        page.wait_for_selector("h1")
        return page

    yield page_at
    for context in contexts:
        context.close()
    assert said == []


def drawn(page: Any) -> None:
    """Wait until every card shows its picture, or why it has none."""
    page.wait_for_function(
        "[...document.querySelectorAll('section.card .frame')].every(frame =>"
        " frame.classList.contains('hidden') ||"
        " frame.querySelector('.js-plotly-plot')?.layout?.uirevision)"
        " && document.querySelectorAll('section.card .frame').length > 1",
        timeout=30_000,
    )


@pytest.mark.parametrize(
    ("path", "cards", "words"),
    [
        ("/study/1", 7, ["synthetic", "Pareto", "observed in search"]),
        ("/study/1/trial/5", 5, ["Trial 5", "Where the bytes go", "int8"]),
        ("/study/2", 5, ["no difference shown", "Marginal means", "Interactions"]),
        ("/study/2/trial/1", 5, ["student.safetensors", "se=4, depth=2", "seed", "depth 2"]),
        ("/compare?study=1&study=2", 3, ["Pareto fronts", "The best at each budget"]),
    ],
)
@pytest.mark.parametrize("width", [400, 1400])
def test_every_page_is_drawn(
    opened: Any, address: str, path: str, cards: int, words: list[str], width: int
) -> None:
    page = opened(address + path, viewport={"width": width, "height": 900})
    drawn(page)
    assert page.locator("section.card .frame").count() == cards
    text = page.inner_text("main") + " ".join(page.locator(".legendtext").all_text_contents())
    for word in words:
        assert word in text
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def audited(page: Any) -> dict[str, Any]:
    """What axe-core finds that is serious: rule -> the first places."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return {
        rule["id"]: [node["html"][:160] for node in rule["nodes"][:3]]
        for rule in found
        if rule["impact"] in ("serious", "critical")
    }


@pytest.mark.parametrize("path", ["/study/1", "/study/2", "/study/1/trial/5", "/compare?study=1"])
@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1400, "light")])
def test_charts_that_have_not_come_show_no_axes(
    opened: Any, address: str, path: str, width: int, scheme: str
) -> None:
    page = opened(address, viewport={"width": width, "height": 900}, color_scheme=scheme)
    held: list[Any] = []
    is_held = True

    def hold(route: Any) -> None:
        if is_held and "relayoutData" in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    page.route(lambda url: "_dash-update-component" in url, hold)
    page.goto(address + path)
    page.locator("section.card .js-plotly-plot .main-svg").first.wait_for(state="attached")
    words = page.locator("section.card .empty").filter(has_text="Reading the database")
    assert words.first.is_visible()
    assert words.count() == page.locator("section.card .frame").count()
    for part in (".main-svg", ".xaxislayer-above", ".tools button"):
        shown = page.locator(f"section.card {part}").all()
        assert not any(element.is_visible() for element in shown), part
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert audited(page) == {}
    is_held = False
    for route in held:
        route.continue_()
    drawn(page)
    page.locator("section.card .main-svg").first.wait_for()
    assert not any(element.is_visible() for element in words.all())


NEAR = {  # studies whose accuracies are nearly one, or one
    "near": [0.9801, 0.98013, 0.98017, 0.9802, 0.9803],
    "single": [0.98],
    "perfect": [1.0],
    "hopeless": [0.0, 0.0],
}


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("near") / "studies.db"
    synthetic_studies.make(path, 9)
    storage = open_storage(str(path), create=False)
    made = optuna.load_study(study_name="synthetic", storage=storage)
    whole = next(trial for trial in made.trials if trial.state == TrialState.COMPLETE)
    for name, values in NEAR.items():
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
        study.set_user_attr("spec", made.user_attrs["spec"])
        for place, value in enumerate(values):
            size = {"bytes": 20_000 + place, "params": 19_000 + place, "macs": 2_000_000 + place}
            attributes = whole.user_attrs | size | {"file_accuracy": value}
            steps = {1: value / 2, 2: value}
            study.add_trial(
                create_trial(
                    value=value,
                    params=whole.params,
                    distributions=whole.distributions,
                    user_attrs=attributes,
                    intermediate_values=steps,
                )
            )
    with served(path) as found:
        yield found


TICKS = """() =>
  [...document.querySelectorAll('.frame:not(.hidden) .js-plotly-plot')].flatMap(plot =>
  [...plot.querySelectorAll('.main-svg .cartesianlayer .subplot')].flatMap(subplot =>
    ['xtick', 'ytick'].map(kind => [plot.closest('section').id,
      [...subplot.querySelectorAll(`.${kind} text`)].map(tick => tick.textContent)]))
  .concat([...plot.querySelectorAll('.parcoords .axis')].map(axis => ['parallel',
      [...axis.querySelectorAll('.tick text')].map(tick => tick.textContent)])))"""


LOOKED_AT = (
    *(f"/study/{study}" for study in range(2, 2 + len(NEAR))),
    *("/study/2?axis=macs", "/study/3/trial/0", "/compare?study=2&study=3", "/compare?study=4"),
)


def test_no_two_ticks_say_the_same_and_none_what_cannot_be(opened: Any, near: str) -> None:
    page, found = opened(near), []
    for path in LOOKED_AT:
        page.goto(near + path)
        drawn(page)
        found += [(path, *ticks) for ticks in page.evaluate(TICKS)]
        if page.locator("#front").count():
            zoom_in(page)
            found += [(f"{path}, zoomed", *ticks) for ticks in page.evaluate(TICKS)]
    assert sum(len(ticks) for *_, ticks in found) > 300
    for *where, ticks in found:
        assert len(set(ticks)) == len(ticks), (where, ticks)
        shares = [float(tick.rstrip("%")) for tick in ticks if tick.endswith("%")]
        assert all(0 <= share <= 100 for share in shares), (where, ticks)
        assert not any(tick.startswith(("-", "\N{MINUS SIGN}")) for tick in ticks), (where, ticks)


def zoom_in(page: Any) -> None:
    """To a hundredth of the first chart's accuracies; farther out than there is anything."""
    page.evaluate(
        f"""() => {{ const [low, high] = {FRONT}.layout.yaxis.range, middle = (low + high) / 2;
        return Plotly.relayout({FRONT}, {{'yaxis.range':
          [middle - (high - low) / 200, middle + (high - low) / 200]}}) }}"""
    )
    other = "document.querySelector('#curves .js-plotly-plot')"
    page.evaluate(f"Plotly.relayout({other}, {{'yaxis.range': [-3, 7]}})")


def test_the_legend_hides_what_was_pruned(opened: Any, address: str) -> None:
    page = opened(f"{address}/study/1")
    drawn(page)
    shown = (
        f"() => {FRONT}.calcdata.map(points => points[0].trace).filter(trace =>"
        " trace.visible === true && trace.hovertemplate?.startsWith('trial '))"
        ".map(trace => trace.hovertemplate.split(/[ ,<]+/)[2])"
    )
    before = page.evaluate(shown)
    assert {"pruned", "complete"} <= set(before)
    page.locator("#front .legendtoggle").nth(
        page.locator("#front .legendtext").all_text_contents().index("pruned")
    ).click()
    page.wait_for_function(f"!({shown})().includes('pruned')")
    assert page.evaluate(shown).count("complete") == before.count("complete")


def test_all_studies_are_listed(opened: Any, address: str, database: Path) -> None:
    page = opened(address)
    rows = page.locator("tbody tr").all_inner_texts()
    assert len(rows) == 5
    text = "\n".join(rows)
    for words in ("synthetic", "ablation", "300 KB in int8", "another program's", "8 of 8"):
        assert words in text
    assert HOSTILE in text
    commands = page.locator("li code").all_inner_texts()  # no worker, and trials are left
    assert commands == [f"distilnas resume synthetic --storage {database}"]
    page.get_by_role("link", name="synthetic").click()
    page.wait_for_url("**/study/1")


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (3, "have no bytes"),
        (4, "1 of 1 trials failed"),
        (5, "no trial yet"),
    ],
)
def test_what_cannot_be_drawn_says_why(opened: Any, address: str, study: int, words: str) -> None:
    page = opened(f"{address}/study/{study}")
    page.get_by_text(words).first.wait_for()


def test_a_name_is_text(opened: Any, address: str) -> None:
    page = opened(f"{address}/study/3")
    assert page.inner_text("h1") == HOSTILE
    drawn(page)
    assert page.locator("main img[src=x]").count() == 0
    compared = opened(f"{address}/compare?study=3&study=1")
    drawn(compared)
    assert compared.locator("main img[src=x]").count() == 0


def test_studies_are_compared(opened: Any, address: str) -> None:
    page = opened(f"{address}/compare?study=1")
    drawn(page)
    page.get_by_role("button", name="a", exact=True).click()
    page.wait_for_url("**/compare?study=1&study=2")
    fronts = "document.querySelector('#fronts .js-plotly-plot')"
    page.wait_for_function(f"{fronts}?.data?.map(t => t.name).join() === 'synthetic,a'")
    page.get_by_role("button", name="synthetic").click()
    page.wait_for_url("**/compare?study=2")
    page.wait_for_function(f"{fronts}.data.map(t => t.name).join() === 'a'")
    pressed = page.locator(".toggle[aria-pressed=true]").all_inner_texts()
    assert pressed == ["a"]


def test_a_page_that_is_not_there_is_told(opened: Any, address: str) -> None:
    for path in ("/study/99", "/study/1/trial/9999", "/nothing"):
        assert opened(address + path).inner_text("h1") == "Not found"


def test_filters_hold_for_all_and_stand_in_the_address(
    opened: Any, address: str, database: Path
) -> None:
    page = opened(f"{address}/study/1")
    drawn(page)
    page.get_by_role("button", name="group", exact=True).click()
    page.get_by_role("button", name="complete", exact=True).click()
    page.get_by_placeholder("from").fill("50KB")
    page.get_by_placeholder("from").press("Enter")
    page.wait_for_url("**low=50KB*")
    query = page.url.partition("?")[2]
    chosen = Filters.parse(query)
    assert chosen == Filters(("group",), (), ("COMPLETE",), 50_000)
    trials = Library(str(database)).view(1, chosen).trials
    assert 3 < len(trials) < 100
    words = f"{len(trials)} of 300 trials"
    page.get_by_text(words).wait_for()
    page.wait_for_function(f"{DRAWN} === {len(trials)}")
    page.locator("#trials .ag-row").first.wait_for()
    page.wait_for_function(
        "document.querySelector('#trials .ag-root').getAttribute('aria-rowcount')"
        f" == '{len(trials) + 1}'"
    )
    again = opened(page.url)
    again.get_by_text(words).wait_for()
    button = again.get_by_role("button", name="group", exact=True)
    assert button.get_attribute("aria-pressed") == "true"
    again.get_by_role("button", name="parameters").click()
    again.wait_for_url("**axis=params*")
    assert "low" not in again.url  # 50 KB are no parameters
    page.go_back()
    page.wait_for_function("!location.search.includes('low')")


def test_a_filter_that_is_no_size_stays_and_is_told(opened: Any, address: str) -> None:
    page = opened(f"{address}/study/1")
    drawn(page)
    field, told = page.get_by_placeholder("from"), page.locator("#misread")
    assert told.inner_text() == ""
    field.fill("thirty")
    field.press("Enter")
    page.wait_for_url("**low=thirty")
    page.wait_for_function("document.querySelector('#misread').textContent.includes('thirty')")
    assert field.input_value() == "thirty"
    page.get_by_text("300 of 300 trials").wait_for()
    assert audited(page) == {}
    again = opened(page.url + "&se=perhaps")
    again.wait_for_function("document.querySelector('#misread').textContent.includes('perhaps')")
    assert again.get_by_placeholder("from").input_value() == "thirty"
    assert "no size, such as 20KB" in again.inner_text("#misread")
    field.fill("50 KiB")
    field.press("Enter")
    page.wait_for_function("!document.querySelector('#misread').textContent")
    assert Filters.parse(page.url.partition("?")[2]) == Filters(low=51_200)
    assert field.input_value() == "50 KiB"
    page.get_by_role("button", name="parameters").click()
    page.wait_for_function("!location.search.includes('low')")
    assert field.input_value() == ""


def test_a_point_and_a_row_open_their_trial(opened: Any, address: str) -> None:
    page = opened(f"{address}/study/1")
    drawn(page)
    box = page.locator("#front .scatterlayer .points path").nth(40).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#front .hoverlayer .hovertext")
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url("**/study/1/trial/*")
    page.get_by_text("of synthetic").wait_for()
    page.go_back()
    page.locator("#trials .ag-row").nth(3).click()
    page.wait_for_url("**/study/1/trial/3")


def zoom(page: Any) -> Any:
    """Drag a box over a chart; the axis' range behind it."""
    box = page.locator("#front .nsewdrag").first.bounding_box()
    before = page.evaluate("kept.layout.yaxis.range")
    page.mouse.move(box["x"] + 60, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 60, box["y"] + 160, steps=5)
    page.mouse.up()
    page.wait_for_function(
        "before => String(kept.layout.yaxis.range) !== String(before)", arg=before
    )
    return page.evaluate("kept.layout.yaxis.range")


def test_a_running_search_is_seen_at_once(opened: Any, tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    synthetic_studies.make(path, 30)
    with served(path) as address:
        page = opened(f"{address}/study/1")
        drawn(page)
        page.evaluate(f"window.kept = {FRONT}")
        zoomed = zoom(page)
        before = page.evaluate(DRAWN)
        page.wait_for_timeout(2500)  # the table's rows and the studies' count come, too
        answers: list[int] = []
        page.on("response", lambda response: answers.append(response.status))
        page.wait_for_timeout(4000)
        assert set(answers) == {204}  # nothing changed, and nothing was sent
        study = optuna.load_study(
            study_name="synthetic", storage=open_storage(str(path), create=False)
        )
        attributes = study.trials[0].user_attrs | {"words": "conv 4 | group 8 g2", "bytes": 90_000}
        study.add_trial(create_trial(value=0.6, user_attrs=attributes))
        page.get_by_text("31 of 31 trials").wait_for(timeout=1000 * PATIENCE)
        page.wait_for_function(f"{DRAWN} === {before + 1}", timeout=1000 * PATIENCE)
        assert page.evaluate(f"kept === {FRONT}")  # drawn into the same place, so no flicker
        assert page.evaluate("kept.layout.yaxis.range") == zoomed
        page.close()


def test_a_figure_is_downloaded_in_every_form(opened: Any, address: str) -> None:
    page = opened(f"{address}/study/1")
    drawn(page)
    for kind, begin in (("PNG", b"\x89PNG"), ("SVG", b"<svg")):
        with page.expect_download() as waiting:
            page.locator("#front").get_by_role("button", name=kind, exact=True).click()
        assert Path(waiting.value.path()).read_bytes().startswith(begin)
    with page.expect_download() as waiting:
        page.locator("#front").get_by_role("link", name="CSV").click()
    rows = list(csv.reader(io.StringIO(Path(waiting.value.path()).read_text())))
    assert len(rows) - 1 == page.evaluate(DRAWN)
    page.locator("#front").get_by_role("button", name="Data").click()
    table = page.locator("#front table")
    table.wait_for()
    assert table.locator("thead th").all_inner_texts() == rows[0]
    shown = [row.split("\t") for row in table.locator("tbody tr").all_inner_texts()]
    assert len(shown) == min(200, len(rows) - 1)
    assert [row[0] for row in shown[:20]] == [row[0] for row in rows[1:21]]


def test_a_students_file_is_downloaded(opened: Any, address: str, database: Path) -> None:
    page = opened(f"{address}/study/2/trial/1")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="student.safetensors").click()
    own = database.parent / "runs" / "a" / "trial0001" / "student.safetensors"
    assert Path(waiting.value.path()).read_bytes() == own.read_bytes()


@pytest.mark.parametrize("path", ["/", "/study/1", "/study/1/trial/5", "/study/2", "/compare"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_shut_out(opened: Any, address: str, path: str, scheme: str) -> None:
    """Axe-core finds nothing serious."""
    page = opened(address + path, color_scheme=scheme)
    page.wait_for_timeout(1500)
    assert audited(page) == {}


def test_colours_are_switched_and_kept(opened: Any, address: str) -> None:
    page = opened(address)
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark or light").click()
    page.wait_for_function(f"getComputedStyle(document.body).backgroundColor !== '{before}'")
    page.reload()
    page.wait_for_function(f"getComputedStyle(document.body).backgroundColor !== '{before}'")
