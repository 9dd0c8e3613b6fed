"""How long one waits for the dashboard: `python benchmarks/dashboard.py`.

Synthetic studies (`benchmarks.synthetic_studies`) are opened in Chromium (Debian's package, driven
by Playwright), `--rounds` times each, the server new in every round. A line is a number of trials:

- first plot: from asking for the page to accuracy against size with all its points.
- filter: from the click to the chart drawn anew.
- poll: what the page asks every second and a half when nothing changed, answered by the server.
- wire: bytes that the page took until it stood still.
- optuna-dashboard: its first plot of the same database (`--peer`: up to so many trials), the peer
  in the same round; it is installed for this alone: pip install optuna-dashboard. It draws other
  charts, so this compares how long one waits, not what one sees.
"""

import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import torch
from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import TimeoutError as TookTooLong

from benchmarks import results, synthetic_studies
from space.errors import InputError, require_range

CHART = "document.querySelector('#front .js-plotly-plot')"
DRAWN = f"{CHART}?._fullData?.length > 2 && {CHART}.querySelector('.main-svg')"
PEER_DRAWN = "document.querySelectorAll('.js-plotly-plot .points path').length > 20"
SETTLED = 6_000  # milliseconds in which the other charts are drawn
PATIENCE = 300  # seconds
POLLS = 20
FLAGS = ("--disable-gpu", "--no-sandbox", "--enable-unsafe-swiftshader")


@contextmanager
def serving(command: list[str], address: str) -> Iterator[None]:
    """A server, from its first answer on."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(address, timeout=PATIENCE).close()
                break
            except OSError:
                time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def waited(page: Page, address: str, drawn: str) -> float | None:
    """Seconds until something is drawn; None beyond patience."""
    begin = time.perf_counter()
    page.goto(address, timeout=1000 * PATIENCE)
    try:
        page.wait_for_function(drawn, timeout=1000 * PATIENCE, polling=20)
    except TookTooLong:
        return None
    return time.perf_counter() - begin


def ours(browser: Browser, database: Path) -> dict[str, Any]:
    """One round of this project's page."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "dashboards", "dashboard", "--no-browser"]
    begin = time.perf_counter()
    with serving([*command, "--storage", str(database), "--port", str(port)], address):
        started = time.perf_counter() - begin
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        wire: list[int] = []
        page.on("response", lambda answer: wire.append(len_of(answer)))
        first = waited(page, f"{address}/study/1", DRAWN)
        page.wait_for_timeout(SETTLED)
        row = {"start": started, "first_plot": first, "wire": sum(wire)}
        row |= {"filter": filtered(page), "poll": polled(page)}
        page.close()
    return row


def len_of(answer: Any) -> int:
    return int(answer.headers.get("content-length", 0))


def filtered(page: Page) -> float:
    """Seconds from a click on a filter to the first chart drawn anew."""
    page.evaluate(f"window.drawn = 0; {CHART}.on('plotly_afterplot', () => drawn = Date.now())")
    begin = page.evaluate("Date.now()")
    page.get_by_role("button", name="pruned", exact=True).click()
    page.wait_for_function(f"drawn > {begin}", timeout=1000 * PATIENCE, polling=10)
    return float(page.evaluate("drawn") - begin) / 1000


def polled(page: Page) -> float:
    """Seconds of the median answer to the page's question whether anything changed."""
    page.wait_for_timeout(SETTLED)
    spans: list[float] = []

    def ended(request: Any) -> None:
        if "poll" in (request.post_data or ""):
            spans.append(request.timing["responseEnd"] - request.timing["requestStart"])

    page.on("requestfinished", ended)
    page.wait_for_timeout(1500 * POLLS / 2)
    return statistics.median(spans) / 1000


def peers(browser: Browser, database: Path) -> float | None:
    """Seconds until optuna-dashboard's first plot."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    program = str(Path(sys.executable).with_name("optuna-dashboard"))
    with serving([program, f"sqlite:///{database}", "--port", str(port)], address):
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        found = waited(page, f"{address}/dashboard/studies/1", PEER_DRAWN)
        page.close()
    return found


def line(browser: Browser, trials: int, rounds: int, with_peer: bool) -> dict[str, Any]:
    """Medians over the rounds."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "studies.db"
        synthetic_studies.make(database, trials)
        measured = [ours(browser, database) for _ in range(rounds)]
        other = (
            [peers(browser, database) for _ in range(rounds if trials <= 1000 else 1)]
            if with_peer
            else []
        )
    row: dict[str, Any] = {"trials": trials, "rounds": rounds}
    row |= {name: statistics.median(part[name] for part in measured) for name in measured[0]}
    known = [seconds for seconds in other if seconds is not None]
    return row | {"optuna_dashboard": statistics.median(known) if known else None}


def report(rows: list[dict[str, Any]]) -> None:
    columns = (
        "trials",
        "start, s",
        "first plot, s",
        "filter, s",
        "poll, ms",
        "wire, MB",
        "optuna-dashboard, s",
    )
    cells = [
        (
            f"{row['trials']:,}",
            f"{row['start']:.1f}",
            f"{row['first_plot']:.1f}",
            f"{row['filter']:.2f}",
            f"{1000 * row['poll']:.0f}",
            f"{row['wire'] / 1e6:.1f}",
            "" if row["optuna_dashboard"] is None else f"{row['optuna_dashboard']:.1f}",
        )
        for row in rows
    ]
    results.console().print(results.table("Waiting for the dashboard", columns, cells))


@click.command()
@click.option("--trials", default="1000,10000,50000", callback=results.numbers(10))
@click.option("--rounds", default=3, show_default=True)
@click.option(
    "--peer", default=10_000, show_default=True, help="Most trials for the peer; 0: none."
)
@results.OUT
def main(trials: tuple[int, ...], rounds: int, peer: int, out: Path) -> None:
    """Seconds that one waits, beside optuna-dashboard."""
    require_range("rounds", rounds, 1, 1000)
    chromium = shutil.which("chromium")
    if chromium is None:
        raise InputError("chromium must be installed: apt-get install chromium")
    if peer and not Path(sys.executable).with_name("optuna-dashboard").exists():
        raise InputError("the peer must be installed: pip install optuna-dashboard; or --peer 0")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        rows = [line(browser, count, rounds, count <= peer) for count in trials]
    report(rows)
    path = results.csv_path(out, "dashboard", torch.device("cpu"))
    results.write_csv(path, rows)
    results.console().print(f"\n{path}")


if __name__ == "__main__":
    results.run(main)
