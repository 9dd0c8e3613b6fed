"""The benchmark of many workers measures what it says, and refuses what it must."""

import csv
import sys
from pathlib import Path

import pytest
from commands import refused_benchmark

from benchmarks import results, scaling
from search.database import table
from search.database.engine import open_engine


def test_it_prints_and_writes_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scaling, "BARE_SECONDS", 0.2)
    monkeypatch.setattr(scaling, "EACH", 2)
    monkeypatch.setattr(scaling, "STUDENTS", 20)
    monkeypatch.setattr(scaling, "DATABASES", ("sqlite",))
    flags = ("--workers", "1,2", "--rows", "5,40", "--parts", "bare,grown")
    monkeypatch.setattr(sys, "argv", ["scaling.py", *flags, "--out", str(tmp_path)])
    results.run(scaling.main)
    out = capsys.readouterr().out
    assert " ".join(out.split()).startswith("bare: trials a second workers 1 2 sqlite ")
    assert "40 on sqlite" in out
    (path,) = tmp_path.glob("*-scaling-*.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["part"] for row in rows] == ["bare", "bare", "grown", "grown"]
    assert all(float(row["rate"]) > 0 for row in rows[:2])
    assert [row["rows"] for row in rows[2:]] == ["5", "40"]
    for step in ("claim", "look", "random", "tpe", "epoch", "end", "join"):
        assert all(0 < float(row[step]) < 10 for row in rows[2:]), step


@pytest.mark.slow
def test_real_workers(tmp_path: Path) -> None:
    address = str(tmp_path / "studies.db")
    assert 0 < scaling.real(address, tmp_path, 2, 4) < 1000
    assert list(table.trials(open_engine(address), "s")["state"]) == ["COMPLETE"] * 4


def test_wrong_flags(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["scaling.py", "--workers", "0"])
    refused_benchmark(scaling.main, "scaling.py: ", "at least 1", capsys)
