"""The examples of docs/scaling.md, run as they are written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import ROOT, environment, inside
from members import quick_train

from search.database import table
from search.database.engine import open_engine

EXAMPLES = ROOT / "docs" / "examples"
SLURM, KUBERNETES = EXAMPLES / "slurm.sh", EXAMPLES / "kubernetes.yaml"


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A folder with a study `photos` that waits for workers, and `distilnas` on the path."""
    study = ("--name", "photos", "--trials", "2", "--epochs", "1", "--teacher", "none")
    answer = inside(tmp_path, "search", *study, "--budget", "5KB", "--device", "cpu", "--prepare")
    assert answer.status == 0, answer.err
    assert "distilnas worker photos" in answer.out
    assert table.trials(open_engine(str(tmp_path / "studies.db")), "photos").empty
    program = tmp_path / "bin" / "distilnas"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m search "$@"\n')
    program.chmod(0o755)
    return tmp_path


def run(folder: Path, command: list[str], more: dict[str, str]) -> None:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    known = environment() | {"PATH": path, "HOME": str(folder)} | more
    done = subprocess.run(
        command, cwd=folder, env=known, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    frame = table.trials(open_engine(str(folder / "studies.db")), "photos")
    assert list(frame["state"]) == ["COMPLETE"] * 2


def test_slurm(prepared: Path) -> None:
    (prepared / ".distilnas-storage").write_text(str(prepared / "studies.db"))
    run(prepared, ["bash", str(SLURM), "photos"], {"SLURM_CPUS_PER_TASK": "1"})
    assert (prepared / "runs" / "photos" / "best.safetensors").exists()


def test_slurm_s_script_is_sound() -> None:
    subprocess.run(["bash", "-n", str(SLURM)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(SLURM)], check=True)
    text = SLURM.read_text()
    assert "#SBATCH --signal=B:TERM@" in text  # else SIGKILL comes without a warning
    assert text.rstrip().splitlines()[-1].startswith("exec distilnas worker ")


def job() -> Any:
    secret, job = yaml.safe_load_all(KUBERNETES.read_text())
    assert secret["kind"] == "Secret"
    assert job["apiVersion"] == "batch/v1"
    assert job["kind"] == "Job"
    return job


def test_kubernetes(prepared: Path) -> None:
    (container,) = job()["spec"]["template"]["spec"]["containers"]
    given = {entry["name"]: entry for entry in container["env"]}
    assert set(given) == {"DISTILNAS_STORAGE", "DISTILNAS_CACHE", "OMP_NUM_THREADS"}
    here = {
        "OMP_NUM_THREADS": "1",
        "DISTILNAS_STORAGE": str(prepared / "studies.db"),
        "DISTILNAS_CACHE": str(prepared / "cache"),
    }
    run(prepared, container["command"], here)


def test_kubernetes_s_job_is_sound() -> None:
    spec = job()["spec"]
    pod = spec["template"]["spec"]
    assert spec["parallelism"] > 1
    assert "completions" not in spec  # a queue of work: one pod's success is the Job's
    assert pod["restartPolicy"] == "OnFailure"
    assert pod["terminationGracePeriodSeconds"] >= 60
    (container,) = pod["containers"]
    threads = next(entry for entry in container["env"] if entry["name"] == "OMP_NUM_THREADS")
    assert threads["valueFrom"]["resourceFieldRef"]["resource"] == "limits.cpu"
    assert {"cpu", "memory"} <= set(container["resources"]["limits"])
    address = container["env"][0]["valueFrom"]["secretKeyRef"]
    secret, _ = yaml.safe_load_all(KUBERNETES.read_text())
    assert address["name"] == secret["metadata"]["name"]
    assert address["key"] in secret["stringData"]
    assert "value" not in container["env"][0]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_a_study_may_be_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.training.objective.train", quick_train)
    study = ("--name", "p", "--trials", "2", "--epochs", "2", "--teacher", "none")
    answer = inside(tmp_path, "search", *study, "--device", "cpu", "--prepare", "--json")
    assert answer.json == {"study": "p", "worker": "distilnas worker p"}
    answer = inside(tmp_path, "worker", "p", "--device", "cpu")
    assert answer.status == 0, answer.err
    assert answer.out == ""
    assert "study 'p' has ended" in answer.err
    assert (tmp_path / "runs" / "p" / "best.safetensors").exists()
