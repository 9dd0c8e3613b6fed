"""What a process may use where a container lets it have less than the machine has."""

import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
import torch
from commands import ROOT, environment, inside, refused
from hypothesis import given, settings
from hypothesis import strategies as st

from search.workers.auto import _room
from trainers import machine
from trainers.engine.evaluation import choose_device
from trainers.machine import cores, free_memory

GB = 10**9
UNLIMITED = "9223372036854771712"  # of version 1
Limit = Callable[[str, Mapping[str, str]], None]


@pytest.fixture
def limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Limit:
    """A machine of 64 cores with 200 GB, and a process in a group: its name, files of groups."""

    def make(own: str, files: Mapping[str, str]) -> None:
        for name, text in {**files, "own": own, "meminfo": "MemAvailable: 200000000 kB\n"}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    monkeypatch.setattr(machine, "GROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN", tmp_path / "own")
    monkeypatch.setattr(machine, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    return make


V1 = "5:memory:/pod/box\n3:cpu,cpuacct:/pod/box\n1:name=systemd:/\n0::/\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {}, 64),
        ("0::/\n", {"cpu.max": "max 100000"}, 64),
        ("0::/\n", {"cpu.max": "200000 100000"}, 2),  # a container's own root
        ("0::/\n", {"cpu.max": "150000 100000"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000"}, 1),
        ("0::/\n", {"cpu.max": "12800000 100000"}, 64),
        ("0::/a/b\n", {"a/b/cpu.max": "800000 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "max 100000"}, 4),
        ("0::/a\n", {"other/cpu.max": "100000 100000"}, 64),
        ("0::/../a\n", {"a/cpu.max": "100000 100000"}, 64),  # another group of that name
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        (V1, {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        (
            V1,
            {
                "cpu,cpuacct/pod/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/pod/cpu.cfs_period_us": "50000",
            },
            1,
        ),
        ("", {"cpu.max": "no number"}, 64),
        ("0::/\n", {"cpu.max": "200000 0"}, 64),
    ],
)
def test_cores_of_a_container(limit: Limit, own: str, files: dict[str, str], expected: int) -> None:
    limit(own, files)
    assert cores() == expected
    assert _room(torch.device("cpu"), 1) == expected


def test_a_process_bound_to_some_cores(limit: Limit, monkeypatch: pytest.MonkeyPatch) -> None:
    limit("0::/\n", {"cpu.max": "800000 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7})
    assert cores() == 3


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {}, 204.8),
        ("0::/\n", {"memory.max": "max", "memory.current": "5000000000"}, 204.8),
        ("0::/\n", {"memory.max": "8000000000", "memory.current": "3000000000"}, 5),
        (
            "0::/a/b\n",
            {
                "a/b/memory.max": "8000000000",
                "a/b/memory.current": "1000000000",
                "a/memory.max": "9000000000",
                "a/memory.current": "7000000000",
            },
            2,
        ),
        (
            "0::/\n",
            {
                "memory.max": "max",
                "memory.high": "4000000000",
                "memory.current": "3500000000",
                "memory.stat": "anon 5\ninactive_file 1500000000\n",
            },
            2,
        ),
        ("0::/\n", {"memory.max": "1000000000", "memory.current": "2000000000"}, 0),
        (
            V1,
            {"memory/memory.limit_in_bytes": UNLIMITED, "memory/memory.usage_in_bytes": "7"},
            204.8,
        ),
        (
            V1,
            {
                "memory/pod/memory.limit_in_bytes": "6000000000",
                "memory/pod/memory.usage_in_bytes": "5000000000",
                "memory/pod/memory.stat": "inactive_file 1\ntotal_inactive_file 2000000000\n",
                "memory/pod/box/memory.limit_in_bytes": "5000000000",
                "memory/pod/box/memory.usage_in_bytes": "1000000000",
            },
            3,
        ),
    ],
)
def test_memory_of_a_container(
    limit: Limit, own: str, files: dict[str, str], expected: float
) -> None:
    limit(own, files)
    assert free_memory() == expected * GB
    assert _room(torch.device("cpu"), GB) == min(64, max(1, int(expected)))


def test_a_system_that_says_nothing(limit: Limit, tmp_path: Path) -> None:
    limit("", {})
    (tmp_path / "meminfo").unlink()
    (tmp_path / "own").unlink()
    assert free_memory() is None
    assert cores() == 64


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 10**7), st.integers(1000, 10**6)), max_size=4))
def test_cores_are_never_more_than_any_group_s(quotas: list[tuple[int, int]]) -> None:
    with TemporaryDirectory() as name:
        groups = [Path(name).joinpath(*"abcd"[:depth]) for depth in range(len(quotas))]
        for group, (quota, period) in zip(groups, quotas, strict=True):
            group.mkdir(exist_ok=True)
            (group / "cpu.max").write_text(f"{quota} {period}")
        own = Path(name) / "own"
        own.write_text(f"0::/{'/'.join('abcd'[: max(0, len(quotas) - 1)])}\n")
        with (
            patch.object(machine, "GROUPS", Path(name)),
            patch.object(machine, "OWN", own),
            patch.object(os, "sched_getaffinity", lambda process: set(range(64))),
        ):
            found = cores()
    assert 1 <= found <= 64
    assert all(found < quota / period + 1 for quota, period in quotas)
    assert found == 64 or any(found >= quota / period for quota, period in quotas)


def test_torch_s_threads_follow(limit: Limit, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    limit("0::/\n", {"cpu.max": "200000 100000"})
    choose_device("cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # the user has said so
    choose_device("cpu")
    assert told == [2]


# --- without a home

PROGRAM = """
import pwd, sys
def nobody(number): raise KeyError(number)
pwd.getpwuid = nobody  # as in a container whose user stands in no list
from dashboards.cli import main
main()
"""
SEARCH = ("search", "--teacher", "none", "--trials", "1", "--epochs", "1", "--device", "cpu")


def homeless(folder: Path, *arguments: str) -> tuple[int, str]:
    left_out = ("HOME", "DISTILNAS_CACHE")
    known = {key: value for key, value in environment().items() if key not in left_out}
    command = [sys.executable, "-c", PROGRAM, *SEARCH, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=known, capture_output=True, text=True, check=False, timeout=120
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.slow
def test_a_process_without_a_home_is_told_of_the_cache_s_flag(tmp_path: Path) -> None:
    status, told = homeless(tmp_path)
    assert status == 2
    (line,) = [line for line in told.splitlines() if line.startswith("distilnas: ")]
    assert "HOME is not set" in line
    assert "--cache FOLDER" in line
    assert not (tmp_path / "studies.db").exists()
    status, told = homeless(tmp_path, "--cache", "cache")
    assert status == 0, told


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "--dry-run"),
        ("ablate", str(ROOT / "ablations" / "se.toml"), "--quick", "--dry-run"),
        ("teacher", "train", "--epochs", "1"),
        ("search", "--artifacts", "~/studies", "--cache", "cache", "--teacher", "none"),
    ],
)
def test_every_use_of_the_home_names_a_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("DISTILNAS_CACHE", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    flag = "--artifacts" if "--artifacts" in arguments else "--cache"
    refused(inside(tmp_path, *arguments, "--device", "cpu"), "HOME is not set", f"{flag} FOLDER")


@pytest.mark.parametrize("photographs", [True, False])
def test_a_home_that_cannot_be_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_folder: Callable[..., Path],
    photographs: bool,
) -> None:
    """HOME=/ is what many containers have; here a file stands where the cache's folder would."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".cache").write_text("")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("DISTILNAS_CACHE", raising=False)
    data: tuple[str, ...] = ()
    if photographs:
        make_folder(tmp_path / "photos", {"train/a/{}.jpg": 4, "train/b/{}.jpg": 4})
        data = ("--data", "photos", "--size", "8", "--teacher", "none")
    flags = ("--teacher-epochs", "1", "--trials", "1", "--epochs", "1", "--device", "cpu")
    refused(inside(tmp_path, "search", *data, *flags), "--cache FOLDER", str(home / ".cache"))
