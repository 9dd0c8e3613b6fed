"""Studies where nothing can be written: looked at with every command that only reads."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from commands import distilnas, inside, refused

from search.database.engine import open_engine

SEARCH = (
    *("search", "--name", "s", "--trials", "2", "--epochs", "2", "--teacher", "none"),
    *("--device", "cpu"),
)
LOOKS: dict[str, tuple[str, ...]] = {
    "studies": ("studies", "--json"),
    "show": ("show", "s"),
    "show a trial": ("show", "s", "0"),
    "report": ("report", "s", "--out", "report.html"),
    "export": ("export", "s", "--out", "best.safetensors"),
    "export in another format": ("export", "s", "--format", "fp16", "--out", "best.safetensors"),
    "doctor": ("doctor", "s"),
}


class Disk:
    """A disk of its own, which can be made read-only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(path)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a tmpfs")

    def lock(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(self.path)], check=True)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study `s`; made by a process that leaves no file open."""
    folder = tmp_path_factory.mktemp("study")
    answer = distilnas(folder, *SEARCH, "--cache", "cache")
    assert answer.status == 0, answer.err
    return folder


@pytest.fixture
def disk(tmp_path: Path, study: Path) -> Iterator[Disk]:
    """With the study on it."""
    made = Disk(tmp_path / "disk")
    try:
        shutil.copytree(study, made.path, dirs_exist_ok=True)
        yield made
    finally:
        subprocess.run(["umount", "--lazy", str(made.path)], check=True)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_finished_study_is_looked_at(tmp_path: Path, disk: Disk) -> None:
    before = files(disk.path)
    disk.lock()
    here = tmp_path / "here"
    here.mkdir()
    storage = ("--storage", str(disk.path / "studies.db"))
    for what, look in LOOKS.items():
        answer = inside(here, *look, *storage)
        assert answer.status == 0, (what, answer)
        assert "s" in answer.out
    best, cache = str(disk.path / "runs/s/best.safetensors"), ("--cache", "cache")
    assert inside(here, "test", best, "--data", "digits", *cache).status == 0
    assert inside(here, "size", best).status == 0
    assert files(here) >= {"report.html", "best.safetensors"}
    assert files(disk.path) == before


def test_what_would_write_says_so_in_one_line(tmp_path: Path, disk: Disk) -> None:
    disk.lock()
    storage = ("--storage", str(disk.path / "studies.db"))
    cache = ("--cache", str(tmp_path / "cache"))
    for command in (
        ("resume", "s", "--trials", "1"),
        ("worker", "s"),
        ("search", "--name", "t", "--trials", "1", "--teacher", "none", "--dry-run"),
    ):
        refused(inside(tmp_path, *command, *storage, *cache), "studies.db must be writable")
    refused(inside(disk.path, "report", "--out", "r.html"), "r.html")
    away = ("--storage", str(disk.path / "new.db"))
    refused(inside(tmp_path, "search", *away, *cache, "--teacher", "none"), "cannot", "--storage")


def test_doctor_looks_and_mends_nothing(tmp_path: Path, disk: Disk) -> None:
    (disk.path / "runs/s/best.safetensors").unlink()
    disk.lock()
    answer = inside(tmp_path, "doctor", "s", "--storage", str(disk.path / "studies.db"))
    assert answer.status == 1, answer
    assert "can be mended: best.safetensors is missing" in answer.out


def test_a_log_that_a_killed_process_left_is_read(tmp_path: Path, disk: Disk) -> None:
    """With transactions that are in no other file yet."""
    killed = (
        "import os, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1])\n"
        "db.execute('PRAGMA journal_mode=WAL')\n"
        "db.execute('PRAGMA wal_autocheckpoint=0')\n"
        "db.execute(\"UPDATE studies SET study_name = 'renamed'\")\n"
        "db.commit()\n"
        "os._exit(0)\n"
    )
    database = disk.path / "studies.db"
    subprocess.run([sys.executable, "-c", killed, str(database)], check=True)
    (disk.path / "studies.db-shm").unlink()
    assert (disk.path / "studies.db-wal").stat().st_size
    disk.lock()
    answer = inside(tmp_path, "studies", "--json", "--storage", str(database))
    assert [study["name"] for study in answer.json] == ["renamed"]


def test_a_database_in_use_is_read_beside_its_writer(tmp_path: Path) -> None:
    """What is committed while it is open is seen, also by a reader without the right to write."""
    path = tmp_path / "live.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE t (x)")
        reader = open_engine(str(path))
        for count in (1, 2):
            writer.execute("INSERT INTO t VALUES (1)")
            with reader.connect() as connection:
                found = connection.execute(sa.text("SELECT COUNT(*) FROM t")).scalar_one()
            assert found == count
            with pytest.raises(sa.exc.OperationalError), reader.connect() as connection:
                connection.execute(sa.text("INSERT INTO t VALUES (2)"))


@pytest.mark.slow
def test_a_role_that_may_only_read(tmp_path: Path, postgres: str) -> None:
    flags = ("--cache", "cache", "--storage")
    prepared = distilnas(tmp_path, *SEARCH, "--prepare", *flags, postgres)
    assert prepared.status == 0, prepared.err
    owner = sa.create_engine(postgres, poolclass=sa.NullPool)
    with owner.begin() as connection:
        for statement in (
            "CREATE ROLE reader LOGIN",
            "GRANT USAGE ON SCHEMA public TO reader",
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
        ):
            connection.execute(sa.text(statement))
    url = sa.make_url(postgres).set(username="reader", password=None)
    storage = ("--storage", url.render_as_string(hide_password=False))
    for what in ("studies", "show"):
        assert inside(tmp_path, *LOOKS[what], *storage).status == 0, what
    refused(distilnas(tmp_path, "resume", "s", "--trials", "1", "--cache", "cache", *storage))
