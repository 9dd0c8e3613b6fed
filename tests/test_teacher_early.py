"""Teachers that are stopped early: files beside the whole one, and levels of an ablation."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from commands import Answer, inside, refused, trials
from members import quick_train
from tiny import CPU, RECIPE, one_thread

from search.terminal.progress import Display
from search.training.teacher_cache import TeacherSpec
from space.errors import InputError
from trainers.engine.evaluation import evaluate
from trainers.engine.result import Epoch
from trainers.engine.training import _Training, train
from trainers.model import weights_hash
from trainers.teachers import teacher as teachers
from trainers.teachers.description import read_info
from trainers.teachers.early import early_path
from trainers.teachers.teach import teach

__all__ = ["one_thread"]

DATA = tiny.data()
SIX = RECIPE.with_settings({"epochs": 6})
SMALL = "digits-student"  # the smallest network that can be a teacher
PLACE = ("--device", "cpu", "--cache", "cache")
TEACH = ("teacher", "train", "--network", SMALL, "--size", "8", "--data", "photos", *PLACE)


def into(seen: list[Epoch]) -> Callable[[Epoch], bool]:
    """A report that collects the epochs, and never ends the training."""

    def report(epoch: Epoch) -> bool:
        seen.append(epoch)
        return False

    return report


def ending(last: int) -> Callable[[Epoch], bool]:
    return lambda epoch: epoch.epoch == last


def numbers(seen: list[Epoch]) -> list[int]:
    return [epoch.epoch for epoch in seen]


def hashes(folder: Path, name: str = "teacher") -> dict[str, str]:
    """Of the teachers that lie in a folder, by name."""
    return {path.stem: teachers.load(path).hash for path in sorted(folder.glob(f"{name}*.pt"))}


# --- the engine's part


def test_it_is_the_network_that_the_engine_reported(tmp_path: Path) -> None:
    told: list[Epoch] = []
    path = tmp_path / "teacher.pt"
    whole = teach(SMALL, DATA, SIX, path, device=CPU, report=into(told), keep=(1, 5))
    assert list(hashes(tmp_path)) == ["teacher-1", "teacher-5", "teacher"]
    for epoch in (1, 5):
        early = teachers.load(early_path(path, epoch))
        assert early.info.accuracy == told[epoch - 1].accuracy
        assert early.info.accuracy == evaluate(early.model, DATA.validation, CPU)
        assert early.info.trained == f"from scratch on bars, stopped after {epoch} of 6 epochs"
        rest = replace(early.info, accuracy=whole.info.accuracy, trained=whole.info.trained)
        assert rest == whole.info
        # The same schedule, ended there: averaged weights, recalibrated batch norm.
        model, _ = teachers.untrained(SMALL, DATA, seed=SIX.seed)
        train(model, SIX, DATA, ending(epoch), device=CPU)
        assert weights_hash(model.network) == early.hash
    assert told[0].accuracy != told[4].accuracy  # else the above says little
    alone = teach(SMALL, DATA, SIX, tmp_path / "alone" / "teacher.pt", device=CPU)
    assert alone.hash == whole.hash


def stop_in(epoch: int) -> Callable[[Epoch], bool]:
    def report(done: Epoch) -> bool:
        if done.epoch == epoch:
            raise KeyboardInterrupt
        return False

    return report


@pytest.mark.parametrize("damage", ["none", "gone", "another's"])
def test_an_interrupted_one_is_resumed_and_writes_them_all(tmp_path: Path, damage: str) -> None:
    teach(SMALL, DATA, SIX, tmp_path / "a" / "teacher.pt", device=CPU, keep=(2, 4))
    path, early = tmp_path / "b" / "teacher.pt", tmp_path / "b" / "teacher-2.pt"
    with pytest.raises(KeyboardInterrupt):
        teach(SMALL, DATA, SIX, path, device=CPU, keep=(2, 4), report=stop_in(4))
    if damage == "gone":
        early.unlink()
    if damage == "another's":
        beside = early.with_suffix(".json")
        beside.write_text(beside.read_text().replace("from scratch", "by somebody else"))
    seen: list[Epoch] = []
    teach(SMALL, DATA, SIX, path, device=CPU, keep=(2, 4), report=into(seen))
    assert numbers(seen) == ([4, 5, 6] if damage == "none" else [1, 2, 3, 4, 5, 6])
    assert hashes(path.parent) == hashes(tmp_path / "a")
    assert read_info(early).trained.startswith("from scratch")


def test_one_that_was_to_keep_others_begins_anew(tmp_path: Path) -> None:
    """Also where a file lies there that looks like what it would have written."""
    path = tmp_path / "teacher.pt"
    model, info = teachers.untrained(SMALL, DATA, seed=5)
    told: list[Epoch] = []

    def report(epoch: Epoch) -> bool:
        told.append(epoch)
        return stop_in(4)(epoch)

    with pytest.raises(KeyboardInterrupt):
        teach(SMALL, DATA, SIX, path, device=CPU, report=report)
    words = "from scratch on bars, stopped after 2 of 6 epochs"
    info = replace(info, accuracy=told[1].accuracy, trained=words)
    stale = teachers.save(early_path(path, 2), model, info)
    seen: list[Epoch] = []
    teach(
        *(SMALL, DATA, SIX, path),
        device=CPU,
        keep=(2,),
        report=into(seen),
    )
    assert numbers(seen) == [1, 2, 3, 4, 5, 6]
    found = hashes(tmp_path)
    assert list(found) == ["teacher-2", "teacher"]
    assert found["teacher-2"] != stale.hash
    assert teachers.load(early_path(path, 2)).info == info


def test_a_schedule_that_is_broken_off(tmp_path: Path) -> None:
    teach(SMALL, DATA, SIX, tmp_path / "whole.pt", device=CPU, keep=(2, 4))
    path = tmp_path / "teacher.pt"
    seen: list[Epoch] = []
    early = teach(
        *(SMALL, DATA, SIX, path),
        device=CPU,
        keep=(2, 4),
        until=4,
        report=into(seen),
    )
    assert numbers(seen) == [1, 2, 3, 4]
    assert [p.name for p in sorted(tmp_path.glob("teacher*"))] == [
        *("teacher-2.json", "teacher-2.pt", "teacher-4.json", "teacher-4.pt")
    ]
    assert early.hash == teachers.load(tmp_path / "whole-4.pt").hash


def test_one_that_diverges_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = _Training.train_epoch
    there: list[int] = []

    def loss(training: _Training, epoch: int) -> float:
        there.append(len(list(tmp_path.glob("t-*.pt"))))
        return math.nan if epoch == 3 else trained(training, epoch)

    monkeypatch.setattr(_Training, "train_epoch", loss)
    with pytest.raises(InputError, match="diverged"):
        teach(SMALL, DATA, SIX, tmp_path / "t.pt", device=CPU, keep=(1, 3, 6))
    assert there == [0, 1, 1, 2]
    assert list(tmp_path.iterdir()) == []


# --- the command


@pytest.fixture
def photos(tmp_path: Path, make_folder: Callable[..., Path]) -> Path:
    counts = {f"{split}/{name}/{{}}.jpg": 8 for split in ("train", "val") for name in "ab"}
    make_folder(tmp_path / "photos", counts)
    return tmp_path


def described(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text())


def test_files_beside_the_whole_teacher(photos: Path) -> None:
    flags = ("--epochs", "4", "--keep", "3, 1,3", "--out", "new/t.pt")
    answer = inside(photos, *TEACH, *flags, "--json")
    assert answer.status == 0, answer.err
    assert answer.json["kept"] == [
        {
            "epoch": n,
            "file": f"new/t-{n}.pt",
            "accuracy": described(photos, f"new/t-{n}")["accuracy"],
        }
        for n in (1, 3)
    ]
    assert answer.json["file"] == "new/t.pt"
    assert described(photos, "new/t-3")["trained"].endswith("stopped after 3 of 4 epochs")
    told = inside(photos, "teacher", "test", "new/t-3.pt", "--data", "photos", *PLACE, "--json")
    assert told.json["looks"]["validation"]["accuracy"] == described(photos, "new/t-3")["accuracy"]
    # Fine-tuned, and in words.
    tune = ("teacher", "finetune", *TEACH[2:], "--pretrained", "new/t.pt", "--epochs", "2")
    answer = inside(photos, *tune, "--keep", "1", "--out", "u.pt")
    assert "u-1.pt: after epoch 1, validation accuracy" in answer.out
    assert "fine-tuned from t.pt" in described(photos, "u-1")["trained"]


def test_the_command_goes_on_after_an_interruption(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--epochs", "5", "--keep", "2,4")
    assert inside(photos, *TEACH, *flags, "--out", "whole/teacher.pt").status == 0
    seen: list[int] = []

    def tell(display: Display, label: str, epoch: Epoch) -> None:
        seen.append(epoch.epoch)
        if seen == [1, 2, 3]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Display, "epoch_done", tell)
    assert inside(photos, *TEACH, *flags, "--out", "here/teacher.pt").status == 130
    assert inside(photos, *TEACH, *flags, "--out", "here/teacher.pt").status == 0
    assert seen == [1, 2, 3, 3, 4, 5]
    assert hashes(photos / "here") == hashes(photos / "whole")


@pytest.mark.parametrize(
    ("keep", "rule"),
    [
        ("0", "epochs from 1 to 4, but got 0"),
        ("2,5", "epochs from 1 to 4, but got 5"),
        ("-1", "a list of epochs, e.g. 2,5,10"),
        ("2,,3", "a list of epochs"),
        ("early", "a list of epochs"),
        ("", "a list of epochs"),
    ],
)
def test_epochs_that_there_are_not(photos: Path, keep: str, rule: str) -> None:
    answer = inside(photos, *TEACH, "--epochs", "4", f"--keep={keep}")
    refused(answer, f"--keep must be {rule}")
    assert not (photos / "teacher.pt").exists()


def test_a_file_that_cannot_be_written_is_refused_first(photos: Path) -> None:
    (photos / "teacher-2.pt").mkdir()
    refused(inside(photos, *TEACH, "--epochs", "4", "--keep", "2"), "teacher-2.pt cannot")
    assert not (photos / "cache").exists()


# --- levels of an ablation

DESIGN = """
budget = "5KB"
epochs = 2
seeds = 1
recipe = "digits"
[baseline]
architecture = "digits-student"
teacher = "{first}"
[factors]
teacher = [{names}]
"""
TABLES = {
    "whole": "epochs = 4",
    "early": "epochs = 4\nstop_after = 1",
    "later": "epochs = 4\nstop_after = 3",
    "other": "epochs = 4\nseed = 1\nstop_after = 1",
    "all": "epochs = 4\nstop_after = 4",
}


def design(folder: Path, *names: str) -> str:
    text = DESIGN.format(first=names[0], names=", ".join(f"'{name}'" for name in names))
    # All are in the file: those that no arm listens to are not trained.
    order = dict.fromkeys((*names, *TABLES))
    tables = [f"[teachers.{name}]\nnetwork = '{SMALL}'\n{TABLES[name]}\n" for name in order]
    (folder / "plan.toml").write_text(text + "".join(tables))
    return "plan.toml"


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The epochs of teachers that are trained, with the label; students take no time."""
    seen: list[tuple[str, int]] = []
    told = Display.epoch_done

    def tell(display: Display, label: str, epoch: Epoch) -> None:
        if label.startswith("teacher "):
            seen.append((label, epoch.epoch))
        told(display, label, epoch)

    monkeypatch.setattr(Display, "epoch_done", tell)
    monkeypatch.setattr("search.training.objective.train", quick_train)
    return seen


def ablate(folder: Path, name: str, *names: str) -> Answer:
    answer = inside(folder, "ablate", design(folder, *names), "--name", name, *PLACE)
    assert answer.status == 0, answer.err
    return answer


def own(folder: Path, study: str, name: str) -> tuple[str, str]:
    """Hash of a study's teacher, and what it says of its training."""
    teacher = teachers.load(folder / "runs" / study / f"{name}.pt")
    return teacher.hash, teacher.info.trained


def test_one_training_gives_all_levels(tmp_path: Path, epochs: list[tuple[str, int]]) -> None:
    ablate(tmp_path, "one", "early", "whole", "later")
    assert epochs == [("teacher early", n) for n in (1, 2, 3, 4)]
    assert set(trials(tmp_path, "one")["params_teacher"]) == {"early", "whole", "later"}
    found = {name: own(tmp_path, "one", name) for name in ("early", "whole", "later")}
    assert len({hash for hash, _ in found.values()}) == 3
    assert found["early"][1] == "from scratch on digits, stopped after 1 of 4 epochs"
    assert found["whole"][1] == "from scratch on digits"
    shown = inside(tmp_path, "ablate", "show", "one").out
    assert "stopped after 3 of 4 epochs" in shown
    # Everything is in the cache now, and no other training is taken for it.
    epochs.clear()
    ablate(tmp_path, "two", "later", "early")
    assert epochs == []
    assert own(tmp_path, "two", "early") == found["early"]
    ablate(tmp_path, "three", "early", "other", "all")
    assert epochs == [("teacher other", 1)]
    assert own(tmp_path, "three", "other")[0] != found["early"][0]
    assert own(tmp_path, "three", "all") == found["whole"]


def test_no_more_is_trained_than_the_arms_listen_to(
    tmp_path: Path, epochs: list[tuple[str, int]]
) -> None:
    ablate(tmp_path, "some", "other", "later", "early")
    assert epochs == [("teacher other", 1), *(("teacher later", n) for n in (1, 2, 3))]
    stored = sorted(
        path.name.rpartition("-")[2] for path in (tmp_path / "cache/teachers").iterdir()
    )
    assert stored == ["1.json", "1.json", "1.pt", "1.pt", "3.json", "3.pt"]
    before = own(tmp_path, "some", "early")
    epochs.clear()
    ablate(tmp_path, "more", "whole", "early")
    assert epochs == [("teacher whole", n) for n in (1, 2, 3, 4)]
    assert own(tmp_path, "more", "early") == before


def test_the_forecast_counts_one_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.ablation.forecast.images_per_second", lambda *rest: 1.0)
    monkeypatch.setattr("search.ablation.forecast.epoch_seconds", lambda *rest: 0.0)
    flags = ("--dry-run", "--json", *PLACE)
    for names, trained in (
        (("early", "later"), 3),
        (("whole", "early", "later"), 4),
        (("early", "other", "later"), 4),
    ):
        answer = inside(tmp_path, "ablate", design(tmp_path, *names), *flags)
        assert answer.json["seconds"]["teachers"] == trained * 1079


def test_keys_of_levels_differ() -> None:
    whole = TeacherSpec(network=SMALL, recipe=SIX)
    paths = {whole.stopped(epoch).path(DATA, Path()) for epoch in (1, 2, 6)}
    assert len(paths) == 3
    assert whole.stopped(6) == whole
    assert whole.stopped(2).words == f"{SMALL} from scratch, 6 epochs, stopped after 2"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("epochs = 4\nstop_after = 0", "stop_after must be 1 to 4, but got 0"),
        ("epochs = 4\nstop_after = 5", "stop_after must be 1 to 4, but got 5"),
        ("epochs = 4\nstop_after = 'early'", "stop_after must be"),
        ("epochs = 4\nstop_after = 1.5", "stop_after must be"),
        ("file = 'x.pt'\nstop_after = 2", "only setting"),
    ],
)
def test_a_stop_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, words: str
) -> None:
    monkeypatch.setitem(TABLES, "early", table)
    refused(
        inside(tmp_path, "ablate", design(tmp_path, "early", "whole"), *PLACE), "'early'", words
    )
