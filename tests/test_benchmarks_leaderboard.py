"""benchmarks/leaderboard.py end to end, and the page that it writes."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, environment, refused_benchmark

from benchmarks import leaderboard, results

SCRIPT = ROOT / "benchmarks" / "leaderboard.py"
TINY = (
    *("--data", "digits", "--size", "8", "--budgets", "8KB", "--macs", "2M", "--trials", "2"),
    *("--epochs", "2", "--final-epochs", "2", "--seeds", "1"),
)


def row(student: str, seed: int, test: float) -> dict[str, object]:
    about = {"data": "cifar10", "size": 32, "device": "cpu", "budget": "20KB", "epochs": 60}
    counted = {"architecture": "conv 8", "params": 9, "macs": 3_210_000, "bytes": 19_900}
    hours = 7_200.0 if student == "found" else 0.0
    scored = {"validation": test - 0.01, "test": test, "search_s": hours}
    return {**about, "student": student, "seed": seed, **counted, **scored}


def test_the_page_has_the_newest_figures_beside_the_published_ones(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text((ROOT / "docs/results.md").read_text())
    for date, gain in (("2026-01-01", 0.5), ("2026-01-02", 0.0)):
        rows = [row("random", 0, 0.7 + gain), row("found", 0, 0.81), row("found", 1, 0.83)]
        results.write_csv(tmp_path / f"{date}-leaderboard-cifar10-20KB-torch-cpu-2.csv", rows)
    leaderboard.write_page(tmp_path, page)
    written = page.read_text().partition(leaderboard.BEGIN)[2].partition(leaderboard.END)[0]
    lines = [line for line in written.splitlines() if line.startswith("| ")]
    assert lines[2] == "| found | 19,900 | 3.2M | 2 | 81.0 ± 1.4 % | 82.0 ± 1.4 % | 2.0 |"
    assert lines[3] == "| random | 19,900 | 3.2M | 1 | 69.0 % | 70.0 % |  |"
    assert [line.split(" | ")[0].lstrip("| ") for line in lines[4:]] == [
        anchor.name for anchor in leaderboard.ANCHORS
    ]
    once = page.read_text()
    leaderboard.write_page(tmp_path, page)
    assert page.read_text() == once


@pytest.mark.parametrize(
    ("flags", "told"), [(["--page"], "must hold a file"), ([], "--data and --folder must be given")]
)
def test_without_figures_or_data_it_says_what_to_do(
    flags: list[str],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["leaderboard.py", *flags, "--out", str(tmp_path)])
    refused_benchmark(leaderboard.main, "leaderboard.py: ", told, capsys)


@pytest.mark.slow
def test_searches_trains_and_scores_and_goes_on(tmp_path: Path) -> None:
    places = ("--folder", str(tmp_path / "studies"), "--out", str(tmp_path / "out"))
    for _ in range(2):  # the second finds all studies done
        done = subprocess.run(
            [sys.executable, str(SCRIPT), *TINY, *places],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "found in mixed" in done.stdout
    (path,) = (tmp_path / "out").glob("*-leaderboard-digits-8KB-*.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    students = {line["student"] for line in rows}
    assert students == {"found", "found in mixed", "random", *leaderboard.HAND_MADE}
    assert len(rows) == len(students)
    assert all(7_000 < int(line["bytes"]) <= 8_000 for line in rows)
    assert all(int(line["macs"]) <= 2_000_000 for line in rows)
    assert all(0 < float(line["test"]) <= 1 for line in rows)
    assert {line["student"] for line in rows if float(line["search_s"])} == {
        "found",
        "found in mixed",
    }
