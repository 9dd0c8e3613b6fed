"""Workers on Ray: two nodes on this machine, one of them lost; and what is refused."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from commands import Answer, distilnas, epochs, inside, refused, start, states, trials, until

from search.database.storage import backend_of, open_storage

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'distilnas[ray]'")

# Ray leaves sockets and processes to the garbage collector.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
STUDY = (
    *("search", "--name", "s", "--cache", "cache", "--device", "cpu", "--teacher", "none"),
    *("--sampler", "random", "--pruner", "none", "--on", "ray", "--workers", "2"),
)
MEMORY = 80 * 1024**2  # bytes of a node's object store, which nothing is put into


class TwoNodes:
    """A cluster of two nodes of one core each, for the commands that are begun here."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        node: dict[str, Any] = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": MEMORY}
        self.cluster = Cluster(
            initialize_head=True, head_node_args={**node, "include_dashboard": False}
        )
        self.second: Any = self.cluster.add_node(**node)
        self.cluster.wait_for_nodes()

    def start(self, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
        return start(folder, *arguments, RAY_ADDRESS=self.cluster.address)

    def run(self, folder: Path, *arguments: str) -> Answer:
        process = self.start(folder, *arguments)
        out, err = process.communicate(timeout=480)
        return Answer(process.returncode, out, err)

    def lose_one(self) -> None:
        self.cluster.remove_node(self.second, allow_graceful=False)


@pytest.fixture
def cluster() -> Iterator[TwoNodes]:
    nodes = TwoNodes()
    yield nodes
    nodes.cluster.shutdown()


def test_a_node_is_lost_and_the_study_completes(
    cluster: TwoNodes, tmp_path: Path, postgres: str
) -> None:
    asked = ("--trials", "4", "--epochs", "24", "--storage", postgres)
    process = cluster.start(tmp_path, *STUDY, *asked)
    until(lambda: states(postgres).count("RUNNING") == 2 and len(states(postgres)) > 2, process)
    cluster.lose_one()
    out, err = process.communicate(timeout=480)
    assert process.returncode == 0, err
    assert "2 workers on Ray (2 nodes), 0 GPUs each" in err
    assert "secret" not in out + err  # the database's password
    assert states(postgres) == ["COMPLETE"] * 4
    answer = distilnas(tmp_path, "doctor", "s", "--storage", postgres, "--json")
    document = json.loads(answer.out)
    left = [finding for finding in document["findings"] if not finding["mended"]]
    assert left == []
    assert answer.status == 0
    assert len(list((tmp_path / "runs" / "s").glob("trial*/student.safetensors"))) == 4


def test_ctrl_c_leaves_what_can_be_gone_on_with(
    cluster: TwoNodes, tmp_path: Path, postgres: str
) -> None:
    asked = ("--trials", "3", "--epochs", "24", "--storage", postgres)
    process = cluster.start(tmp_path, *STUDY, *asked)
    until(lambda: states(postgres).count("RUNNING") == 2, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "distilnas resume s" in err
    assert "Traceback" not in err
    assert "RUNNING" in states(postgres)
    answer = cluster.run(tmp_path, "resume", "s", "--cache", "cache", "--storage", postgres)
    assert answer.status == 0, answer.err
    assert states(postgres) == ["COMPLETE"] * 3


def test_two_nodes_do_not_share_a_file(cluster: TwoNodes, tmp_path: Path) -> None:
    answer = cluster.run(tmp_path, *STUDY, "--trials", "1", "--epochs", "1")
    refused(answer, "workers on 2 nodes must share a database server", "SQLite", "postgresql")
    asked = cluster.run(tmp_path, *STUDY, "--name", "t", "--gpus-per-worker", "2")
    refused(asked, "--gpus-per-worker must be 0 to 0", "got 2")


def test_trials_are_stopped_early_on_this_machine_alone(tmp_path: Path) -> None:
    asked = ("--trials", "10", "--epochs", "16", "--pruner", "halving")
    answer = inside(tmp_path, *STUDY, *asked)
    assert answer.status == 0, answer.err
    found = trials(tmp_path)
    stopped = found[found["state"] == "PRUNED"]
    assert len(stopped) >= 2
    assert set(stopped["epochs"]) <= {4, 8}
    assert (found.loc[found["state"] == "COMPLETE", "epochs"] == 16).all()
    assert f"{len(stopped)} of 10 trials were stopped early" in answer.out


def actors() -> list[int]:
    """Processes of workers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().startswith(b"ray::RayWorker"):
                found.append(int(path.parent.name))
    return found


def test_a_crashed_worker_is_begun_anew_and_its_trial_goes_on(tmp_path: Path) -> None:
    asked = ("--trials", "1", "--epochs", "30", "--workers", "1")
    process = start(tmp_path, *STUDY, *asked)
    until(lambda: epochs(tmp_path) > 2, process)
    (actor,) = actors()
    os.kill(actor, signal.SIGSEGV)
    _, err = process.communicate(timeout=480)
    assert process.returncode == 0, err
    assert states(tmp_path) == ["COMPLETE"]
    storage = open_storage(str(tmp_path / "studies.db"), create=False)
    study = optuna.load_study(study_name="s", storage=storage)
    assert backend_of(study).facts["crashes:trial0000"] == ["Segmentation fault"]


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    refused(
        inside(tmp_path, *STUDY, "--trials", "1", "--epochs", "1"),
        "needs Ray",
        'pip install "distilnas[ray]"',
    )


def test_where_there_is_no_cluster(tmp_path: Path) -> None:
    flags = ("--trials", "1", "--epochs", "1", "--on", "ray://127.0.0.1:9")
    refused(inside(tmp_path, *STUDY, *flags), "no Ray cluster answers at ray://127.0.0.1:9")
    refused(inside(tmp_path, *STUDY, "--on", "slurm"), "on must be here, ray or ray://HEAD:PORT")
    assert not ray.is_initialized()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
