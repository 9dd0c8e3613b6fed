"""Studies whose files lie in a store: a folder's, memory's, and an S3 server of the tests' own."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import command, distilnas, environment, inside, refused
from members import quick_train

from search.database import table
from search.database.engine import open_engine
from search.study.folder import Folder
from search.study.object_store import Store, is_address
from space.errors import InputError

KEYS = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}
# The server's client leaves sockets to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


class S3:
    """An S3 server with a bucket `bucket`, empty whenever it begins."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def make_bucket(self) -> None:
        import boto3

        client = boto3.client("s3", endpoint_url=self.endpoint)
        client.create_bucket(Bucket="bucket")
        client.close()

    @contextmanager
    def running(self) -> Iterator[None]:
        program = [sys.executable, "-m", "moto.server", "-p", str(self.port)]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(program, stdout=quiet, stderr=quiet)
        try:
            until = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", self.port), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < until, "the S3 server does not begin"
                    time.sleep(0.05)
            self.make_bucket()
            yield
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    pytest.importorskip("moto", reason="needs moto: pip install 'moto[server]' s3fs")
    server = S3()
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server.endpoint}.items():
        monkeypatch.setenv(name, value)
    with server.running():
        yield server


@pytest.fixture(params=["file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        request.getfixturevalue("s3")
        return Store("s3://bucket/studies/s")
    if request.param == "memory":
        return Store(f"memory://{tmp_path.name}/s")
    return Store(f"file://{tmp_path}/store/s")


def test_what_is_put_is_got(store: Store, tmp_path: Path) -> None:
    path, back = tmp_path / "a", tmp_path / "deeper" / "b"
    assert store.names() == []
    assert not store.get("trial0001/a", back)
    assert not back.exists()
    for content in (b"first", b"", os.urandom(300_000)):
        path.write_bytes(content)
        store.put(path, "trial0001/a")
        assert store.get("trial0001/a", back)
        assert back.read_bytes() == content
    store.put(path, "best")
    assert store.names() == ["best", "trial0001/a"]
    store.remove("best")
    store.remove("best")
    assert store.names() == ["trial0001/a"]


def test_it_travels_to_other_processes(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}/store/")
    (tmp_path / "a").write_bytes(b"x")
    store.put(tmp_path / "a", "a")
    travelled = pickle.loads(pickle.dumps(store))
    assert travelled.address == store.address
    assert travelled.names() == ["a"]


def test_addresses() -> None:
    assert is_address("s3://bucket/prefix")
    assert not is_address("/shared/studies")
    with pytest.raises(InputError, match="must hold no credentials") as refusal:
        Store("s3://key:secret@bucket/prefix")
    assert "secret" not in str(refusal.value)


def test_what_cannot_be_used_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="artifacts nosuch://x cannot be used"):
        Store("nosuch://x").names()
    monkeypatch.setitem(sys.modules, "adlfs", None)
    with pytest.raises(InputError, match=r"artifacts abfs://x/y cannot be used: .*adlfs"):
        Store("abfs://x/y").names()
    answer = inside(tmp_path, "search", "--artifacts", "s3://key:secret@bucket/p")
    refused(answer, "must hold no credentials", "~/.aws/credentials")
    assert "secret" not in answer.err


def test_a_wrong_bucket_is_one_line(s3: S3, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(InputError, match="artifacts s3://other/p cannot be used"):
        Store("s3://other/p").put(tmp_path / "a", "a")


@pytest.mark.slow
def test_a_store_that_is_away_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("moto", reason="needs moto: pip install 'moto[server]' s3fs")
    server = S3()
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server.endpoint}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("search.study.object_store.PATIENCE_SECONDS", 3.0)
    (tmp_path / "a").write_bytes(b"x")
    store = Store("s3://bucket/studies")
    with pytest.raises(InputError, match="artifacts s3://bucket/studies cannot be used"):
        store.put(tmp_path / "a", "a")
    monkeypatch.setattr("search.study.object_store.PATIENCE_SECONDS", 60.0)
    late = subprocess.Popen(
        [sys.executable, "-c", f"import time; time.sleep(4); {LATE.format(port=server.port)}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        store.put(tmp_path / "a", "a")
        assert store.names() == ["a"]
    finally:
        late.kill()
        late.wait()


# Two servers of one process share their buckets: the bucket is there before its address answers.
LATE = "; ".join(
    (
        "import threading, boto3",
        "from moto.server import ThreadedMotoServer",
        "first = ThreadedMotoServer('127.0.0.1', 0)",
        "first.start()",
        "address = 'http://{{}}:{{}}'.format(*first.get_host_and_port())",
        "boto3.client('s3', endpoint_url=address).create_bucket(Bucket='bucket')",
        "ThreadedMotoServer('127.0.0.1', {port}).start()",
        "threading.Event().wait()",
    )
)


def test_a_study_in_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: S3) -> None:
    """Made, resumed, examined and exported from folders that have nothing in common."""
    monkeypatch.setattr("search.training.objective.train", quick_train)
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    study = ("--name", "s", "--trials", "2", "--epochs", "2", "--teacher-epochs", "1")
    database = ("--storage", str(tmp_path / "studies.db"), "--device", "cpu")
    own = ("--artifacts", "s3://bucket/studies", "--finalists", "1")
    monkeypatch.setenv("DISTILNAS_CACHE", str(here / "cache"))
    answer = inside(here, "search", *study, *own, *database)
    assert answer.status == 0, answer.err
    names = Store("s3://bucket/studies/s").names()
    assert {"best.safetensors", "teacher.pt", "trial0000/student.safetensors"} <= set(names)
    assert not [name for name in names if "checkpoint" in name or "draft" in name]
    monkeypatch.setenv("DISTILNAS_CACHE", str(there / "cache"))
    answer = inside(there, "resume", "s", "--trials", "1", *database)
    assert answer.status == 0, answer.err
    exported = there / "out.safetensors"
    answer = inside(there, "export", "s", "--trial", "0", "--out", str(exported), *database[:2])
    assert answer.status == 0, answer.err
    assert exported.exists()
    lost = Folder(database[1], "s", "s3://bucket/studies/s")
    lost.drop("trial0000/student.safetensors")
    answer = inside(there, "doctor", "s", *database[:2])
    assert answer.status == 0, answer.out
    assert "mended: trial0000/student.safetensors is missing" in answer.out
    assert "trial0000/student.safetensors" in Store("s3://bucket/studies/s").names()


@pytest.mark.slow
def test_workers_that_share_a_database_and_a_store(
    tmp_path: Path, postgres: str, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two is killed in the middle of a trial; the other takes it up at its checkpoint."""
    folders = [tmp_path / name for name in ("one", "two")]
    asked = ("--name", "s", "--trials", "4", "--epochs", "16", "--teacher-epochs", "2")
    where = ("--storage", postgres, "--device", "cpu", "--grace", "3")
    flags = (*asked, "--budget", "5KB", "--artifacts", "s3://bucket/studies", "--prepare")
    folders[0].mkdir()
    monkeypatch.setenv("DISTILNAS_CACHE", str(folders[0] / "cache"))
    answer = distilnas(folders[0], "search", *flags, *where)
    assert answer.status == 0, answer.err
    workers = []
    for folder in folders:
        folder.mkdir(exist_ok=True)
        workers.append(
            subprocess.Popen(
                command("worker", "s", *where),
                cwd=folder,
                env=environment() | {"DISTILNAS_CACHE": str(folder / "cache")},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    until = time.monotonic() + 90
    while len(table.trials(open_engine(postgres), "s")) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    workers[0].send_signal(signal.SIGKILL)
    workers[0].communicate()
    _, err = workers[1].communicate(timeout=180)
    assert workers[1].returncode == 0, err
    frame = table.trials(open_engine(postgres), "s")
    assert sorted(frame["number"]) == list(range(len(frame)))
    assert set(frame["state"]) <= {"COMPLETE", "PRUNED"}
    monkeypatch.setenv("DISTILNAS_CACHE", str(tmp_path / "three"))
    answer = distilnas(tmp_path, "doctor", "s", *where[:2], "--json")
    assert answer.json["findings"] == []
