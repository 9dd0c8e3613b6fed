"""The benchmark of the dashboard waits for what it says, and refuses what it must."""

import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from commands import refused_benchmark

from benchmarks import dashboard, synthetic_studies
from search.database import table
from search.database.engine import open_engine


def test_synthetic_studies_are_what_a_search_writes(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    synthetic_studies.make(path, 300)
    synthetic_studies.make(path, 20, seed=1, name="second")
    frame = table.trials(open_engine(str(path)), "synthetic")
    study = optuna.load_study(study_name="synthetic", storage=f"sqlite:///{path}")
    assert len(study.trials) == len(frame) == 300
    for trial in study.trials:
        row = frame.iloc[trial.number]
        assert trial.state.name == row["state"]
        assert trial.params == {name: row[f"params_{name}"] for name in trial.params}
        assert trial.user_attrs.get("bytes", 0) <= 300_000
        if "accuracies" in trial.user_attrs:
            assert list(trial.intermediate_values.values()) == trial.user_attrs["accuracies"]
    assert set(frame["state"]) == {"COMPLETE", "PRUNED", "FAIL", "RUNNING"}
    assert len(table.trials(open_engine(str(path)), "second")) == 20


@pytest.mark.slow
def test_it_prints_and_writes_its_file(
    chromium: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = dashboard.line(chromium, 40, 1, with_peer=False)
    assert row["trials"] == 40
    assert 0 < row["filter"] < row["first_plot"] < 60
    assert 0 < row["poll"] < 5
    assert row["wire"] > 4e6  # plotly.js alone
    dashboard.report([row])
    assert "first plot, s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("--rounds 0", "rounds must be 1 to 1,000"),
        ("--trials 1", "must be different numbers of at least 10"),
        ("--rounds many", "not a valid integer"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(
    wrong: str,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["dashboard.py", *wrong.split()])
    refused_benchmark(dashboard.main, "dashboard.py: ", told, capsys)
