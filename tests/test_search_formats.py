"""A row says what its student's file would score in every storage format."""

from pathlib import Path

import pytest
from commands import SMALL, inside
from members import quick_train

from search.database import table
from search.database.engine import open_engine
from search.study.folder import Folder
from search.study.spec import SearchSpec
from search.training.context import TrainingContext
from search.training.objective import scored
from space.file_format import FORMATS
from trainers.data.datasets import load
from trainers.engine.evaluation import choose_device


@pytest.mark.parametrize("own", FORMATS)
def test_every_format_is_scored_as_its_exported_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    monkeypatch.setattr("search.training.objective.train", quick_train)
    flags = ("--teacher", "none", "--trials", "1", "--format", own, "--seed", "4")
    answer = inside(tmp_path, "search", *SMALL, *flags)
    assert answer.status == 0, answer.err
    engine = open_engine(str(tmp_path / "studies.db"))
    stated = table.trial_attribute(engine, "s", 0, "format_accuracy")
    assert list(stated) == list(FORMATS)
    assert stated[own] == table.trials(engine, "s")["value"][0]
    spec = SearchSpec.from_dict(table.attributes(engine, "s")["spec"])
    data = load("digits", spec.size, cache=tmp_path / "cache")
    folder = Folder(str(tmp_path / "studies.db"), "s")
    context = TrainingContext(spec, data, {}, folder, choose_device("cpu"), tmp_path / "cache")
    for format in FORMATS:
        out = tmp_path / f"{format}.safetensors"
        answer = inside(tmp_path, "export", "s", "--format", format, "--out", str(out))
        assert answer.status == 0, answer.err
        assert scored(context, out).accuracy == stated[format]
    assert not list(folder.path.rglob("probe*"))
