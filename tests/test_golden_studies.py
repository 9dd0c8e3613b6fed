"""A database with its files, as version 0.1.0 of 26 November 2026 wrote them, still opens.

`whole` is a finished search with a finalist, `arms` a finished ablation, `half` a search that was
interrupted in its second of three trials, with a checkpoint. `expected.json` is what that version
said of them.
"""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, inside

from search.database import table
from search.database.engine import open_engine

GOLDEN = ROOT / "tests" / "golden" / "studies-2026-11-26.tar.xz"
USUAL = ("--cache", "cache", "--device", "cpu")
RETRAINED = 0.1  # accuracy: another processor or PyTorch rounds otherwise


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def expected(golden: Path) -> Any:
    return json.loads((golden / "expected.json").read_text())


def trials(folder: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = inside(folder, "show", name, "--json").json["trials"]
    return found


def test_what_is_finished_says_what_it_said(golden: Path, expected: Any) -> None:
    for name in ("whole", "arms"):
        for now, then in zip(trials(golden, name), expected[name], strict=True):
            assert then.items() <= now.items()
    assert inside(golden, "ablate", "show", "arms", "--csv").out == expected["evidence"]
    assert inside(golden, "report", "--out", "page.html").status == 0
    assert inside(golden, "doctor", "whole").status == 0
    best = ("test", "runs/whole/best.safetensors", "--data", "digits", *USUAL, "--json")
    assert inside(golden, *best).json["accuracy"] == pytest.approx(expected["tested"], abs=0.01)
    export = ("export", "arms", "--trial", "1", "--format", "fp16", "--out", "out.safetensors")
    assert inside(golden, *export).status == 0


def test_what_was_interrupted_goes_on(golden: Path, expected: Any) -> None:
    before = expected["half"]
    assert [trial["state"] for trial in before] == ["COMPLETE", "RUNNING"]
    told = reported(golden)
    known = len(told)
    assert known >= 5
    answer = inside(golden, "resume", "half", *USUAL)
    assert answer.status == 0, answer.err
    after = trials(golden, "half")
    assert [trial["state"] for trial in after] == ["COMPLETE"] * 3
    assert before[0].items() <= after[0].items()
    assert after[1]["accuracies"][:known] == told
    assert after[1]["value"] == pytest.approx(0.955, abs=RETRAINED)


def reported(folder: Path) -> list[float]:
    """What the interrupted trial reported, epoch by epoch."""
    engine = open_engine(str(folder / "studies.db"))
    return list(table.curves(engine, "half", [1])["accuracy"])


def test_a_finished_search_goes_on_with_more(golden: Path, expected: Any) -> None:
    answer = inside(golden, "resume", "whole", "--trials", "1", *USUAL)
    assert answer.status == 0, answer.err
    after = trials(golden, "whole")
    assert len(after) > len(expected["whole"])
    for now, then in zip(after, expected["whole"], strict=False):
        assert then.items() <= now.items()
