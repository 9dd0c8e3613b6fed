"""Requests over real sockets: too long, too slow, cut off, too many, nested too deeply."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from commands import environment
from dashboard_server import free_port, served

from benchmarks import synthetic_studies
from dashboards.server import connections
from dashboards.server.connections import ARRIVAL, MOST, Server
from dashboards.server.guard import LONGEST_BODY
from dashboards.server.serve import listening

UPDATE = "POST /_dash-update-component HTTP/1.1\r\nContent-Type: application/json\r\n"
AT_ONCE = 3  # seconds; what takes longer has waited for something


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "studies.db"
    synthetic_studies.make(path, 5)
    return path


@pytest.fixture(scope="module")
def address(database: Path) -> Iterator[str]:
    with served(database) as found:
        yield found.removeprefix("http://")


def connected(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=ARRIVAL + AT_ONCE)


def answer(address: str, sent: bytes) -> bytes:
    """All that comes back for what is sent, however much of it is taken."""
    with connected(address) as connection:
        try:
            connection.sendall(sent)
        except OSError:
            assert len(sent) > LONGEST_BODY
        received = b""
        while part := connection.recv(65_536):
            received += part
    return received


def status(address: str, head: str, body: bytes = b"", host: str = "") -> int:
    """Of the answer, which must come at once."""
    begin = time.monotonic()
    got = answer(address, f"{head}Host: {host or address}\r\n\r\n".encode() + body)
    assert time.monotonic() - begin < AT_ONCE
    assert b"Traceback" not in got
    return int(got.split()[1])


def test_who_asks_is_known_before_a_body_is_read(address: str) -> None:
    promised = UPDATE + "Content-Length: 1000\r\n"  # it never comes
    assert status(address, promised, host="evil.example") == 400
    assert status(address, promised + "Origin: http://evil.example\r\n") == 403
    assert status(address, promised + "Sec-Fetch-Site: cross-site\r\n") == 403
    assert status(address, promised.replace("/_dash", "/other")) == 405


def test_a_token_comes_before_a_body(database: Path) -> None:
    flags = ("--host", "0.0.0.0", "--allow-host", "127.0.0.1")
    with served(database, *flags) as found:
        where = found.removeprefix("http://")
        for head in (UPDATE, UPDATE.replace("/_dash", "/other"), UPDATE.replace("POST", "PUT")):
            assert status(where, head + "Content-Length: 1000\r\n") == 401


@pytest.mark.parametrize(
    ("head", "body", "expected"),
    [
        (f"Content-Length: {LONGEST_BODY + 1}\r\n", b"", 413),  # without waiting for it
        ("Content-Length: 60000000\r\n", b" " * 60_000_000, 413),
        ("Content-Length: 60000000\r\nExpect: 100-continue\r\n", b"", 413),
        ("Transfer-Encoding: chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n", 411),
        ("Transfer-Encoding: chunked\r\n", b"fffff\r\n" + b" " * 0xFFFFF + b"\r\n0\r\n\r\n", 411),
        ("Transfer-Encoding: chunked\r\n", b"1\r\n \r\n" * 200_000, 411),
        ("Transfer-Encoding: chunked\r\n", b"", 411),
        ("Content-Length: -5\r\n", b"{}", 400),
        ("Content-Length: many\r\n", b"{}", 400),
        ("", b"{}", 400),
    ],
)
def test_a_body_has_its_length_and_a_limit(
    address: str, head: str, body: bytes, expected: int
) -> None:
    assert status(address, UPDATE + head, body) == expected


def test_heads_have_a_limit(address: str) -> None:
    long = "".join(f"X-{place}: {'a' * 60_000}\r\n" for place in range(50))
    assert status(address, "GET / HTTP/1.1\r\n" + long) == 431
    assert status(address, f"GET /{'a' * 70_000} HTTP/1.1\r\n") == 414
    assert status(address, "GET / HTTP/1.1\r\n") == 200


@pytest.mark.parametrize("brackets", ["[]", ('{"a":', "}")])
def test_nesting_has_a_limit(address: str, brackets: tuple[str, str]) -> None:
    asked = {
        "output": "..page.children...version.data..",
        "outputs": [{"id": "page", "property": "children"}, {"id": "version", "property": "data"}],
        "inputs": [{"id": "address", "property": "pathname", "value": "/study/1"}],
        "state": [{"id": "address", "property": "search", "value": ""}],
        "changedPropIds": ["address.pathname"],
    }
    opening, closing = brackets
    for depth in (1, 10, 900, 990, 1_000, 2_000, 20_000):
        nested = f"{opening * depth}1{closing * depth}"
        alone = nested.encode()
        beside = json.dumps(asked | {"more": 0}).replace('"more": 0', f'"more": {nested}').encode()
        for body in (alone, beside):
            found = status(address, f"{UPDATE}Content-Length: {len(body)}\r\n", body)
            assert found in ((400,) if depth > 1_000 or body == alone else (200, 400))


def closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        while connection.recv(65_536):  # a refusal
            continue
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_half_open_connections_shut_nobody_out_and_are_closed(address: str) -> None:
    begun = (
        b"",
        b"GET / HT",
        f"GET / HTTP/1.1\r\nHost: {address}\r\nX-Slow: ".encode(),
        f"{UPDATE}Host: {address}\r\nContent-Length: 1000\r\n\r\n".encode(),
    )
    with ExitStack() as stack:
        left = [stack.enter_context(connected(address)) for _ in range(2 * MOST)]
        for place, one in enumerate(left):
            with suppress(OSError):
                one.sendall(begun[place % len(begun)])
        assert status(address, "GET / HTTP/1.1\r\n") == 200
        end = time.monotonic() + ARRIVAL + AT_ONCE
        while left and time.monotonic() < end:
            left = [one for one in left if not closed(one)]
            assert len(left) <= MOST
            for one in left:
                with suppress(OSError):
                    one.send(b"a")  # a byte now and then buys no time
            time.sleep(0.3)
        assert left == []
    assert status(address, "GET / HTTP/1.1\r\n") == 200


def test_ctrl_c_waits_for_nobody(database: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "dashboards", "dashboard", "--no-browser"]
    process = subprocess.Popen(
        [*command, "--storage", str(database), "--port", str(port)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    with connected(f"127.0.0.1:{port}") as half:
        half.sendall(b"GET / HTTP/1.1\r\n")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=AT_ONCE) == ("", "")
    assert process.returncode == 0


@contextmanager
def serving(app: Callable[..., Any]) -> Iterator[tuple[Server, str]]:
    """A server of an application in a thread of this process."""
    with listening("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        server = Server("127.0.0.1", port, app, bound.fileno())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server, f"127.0.0.1:{port}"
    finally:
        server.shutdown()
        thread.join()


def test_who_takes_no_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "TAKEN", 0.3)

    def app(environ: Any, start: Any) -> Any:
        start("200 OK", [("Content-Length", "50000000")])
        return [b" " * 50_000_000]

    with serving(app) as (server, where), connected(where) as silent:
        silent.sendall(b"GET / HTTP/1.1\r\n\r\n")
        end = time.monotonic() + AT_ONCE
        time.sleep(0.1)
        assert len(server.clients) == 1
        while server.clients and time.monotonic() < end:
            time.sleep(0.05)
        assert not server.clients


def test_those_who_are_answered_give_no_place_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 1)
    go_on = threading.Event()

    def app(environ: Any, start: Any) -> Any:
        go_on.wait(ARRIVAL)
        start("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    with serving(app) as (server, where), connected(where) as first:
        first.sendall(b"GET / HTTP/1.1\r\n\r\n")
        end = time.monotonic() + AT_ONCE
        while [client.is_waited_for for client in list(server.clients)] != [False]:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert answer(where, b"").split()[1] == b"503"
        go_on.set()
        assert b"".join(iter(lambda: first.recv(65_536), b"")).endswith(b"ok")
