"""Connections of the server: none stays open without use, and none shuts others out.

Werkzeug's server gives each connection a thread and waits as long as the other end likes; after
its answer it reads up to 10 GB that nobody asked for. Here a request must have arrived in time and
is no longer than it may be, and of too many connections the one that is waited for the longest
gives way.
"""

import io
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from socket import SHUT_RDWR, SHUT_WR, socket
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer
    from _typeshed.wsgi import WSGIApplication

T = TypeVar("T")

ARRIVAL = 10  # seconds in which a request must have arrived, its body included
TAKEN = 20  # seconds in which a part of an answer must have been taken
PART = 65_536  # bytes of an answer
LONGEST = 500_000  # bytes of a request that are read; the page's own have a few thousand
LINGER = 2  # seconds for which the other end may still send; it is dropped
MOST = 100  # connections at once; a browser opens six
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Client(io.RawIOBase):
    """The other end of a connection, to read from and to write to; no wait is endless."""

    def __init__(self, connection: socket) -> None:
        self.connection = connection
        self.is_waited_for = True
        self.end = time.monotonic() + ARRIVAL
        self.left = LONGEST

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read what has arrived; a request that is too long ends at LONGEST."""
        part = memoryview(buffer)[: self.left]
        count = self._wait(self.end, self.connection.recv_into, part) if part else 0
        self.left -= count
        return count

    def write(self, data: "ReadableBuffer") -> int:
        whole = memoryview(data)
        for begin in range(0, len(whole), PART):
            end = time.monotonic() + TAKEN
            self._wait(end, self.connection.sendall, whole[begin : begin + PART])
        return len(whole)

    def _wait(self, end: float, act: Callable[[memoryview], T], part: memoryview) -> T:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.connection.settimeout(left)
        self.is_waited_for = True
        try:
            return act(part)
        finally:
            self.is_waited_for = False

    def shutdown(self, how: int) -> None:
        self.connection.shutdown(how)

    def close(self) -> None:
        super().close()
        self.connection.close()

    def leave(self) -> None:
        """Close for writing and let the other end finish: what it still sends is dropped.

        Closed at once, the system would take back an answer that has not been read yet.
        """
        end, rest = time.monotonic() + LINGER, memoryview(bytearray(PART))
        with suppress(OSError):
            self.shutdown(SHUT_WR)
            while self._wait(end, self.connection.recv_into, rest):
                pass

    def cut(self) -> None:
        """Close at once, even if somebody waits."""
        with suppress(OSError):
            self.shutdown(SHUT_RDWR)


class Handler(WSGIRequestHandler):
    """Answers one request, without naming versions of software."""

    request: Client
    wfile: Any  # that client, too

    def setup(self) -> None:
        self.connection = self.request.connection
        self.rfile = io.BufferedReader(self.request)
        self.wfile = self.request

    def finish(self) -> None:
        self.request.leave()

    def parse_request(self) -> bool:
        is_whole = super().parse_request()
        if is_whole and not self.request.left:  # it was cut off
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        return is_whole and self.request.left > 0

    def handle_expect_100(self) -> bool:
        """Do not invite the body: the request may be refused without it."""
        del self.headers["Expect"]
        return True

    def version_string(self) -> str:
        return "distilnas"

    def log_error(self, format: str, *arguments: object) -> None:
        """Print nothing: what others send is not an error of ours."""


class Server(ThreadedWSGIServer):
    """One thread for each connection, at most MOST at once."""

    def __init__(self, host: str, port: int, app: "WSGIApplication", fd: int) -> None:
        self.clients: dict[Client, None] = {}  # in the order in which they came
        self.lock = Lock()
        super().__init__(host, port, app, Handler, fd=fd)

    def get_request(self) -> tuple[Any, object]:
        connection, address = super().get_request()
        return Client(connection), address

    def process_request(self, request: Any, client_address: object) -> None:
        """Answer in a thread, if one is free or can be freed; else say that all are busy."""
        if self._has_place(request):
            super().process_request(request, client_address)
        else:
            with suppress(OSError):
                request.write(BUSY)
            self.shutdown_request(request)

    def _has_place(self, client: Client) -> bool:
        with self.lock:
            waited = [other for other in self.clients if other.is_waited_for]
            if len(self.clients) >= MOST and waited:
                waited[0].cut()
                del self.clients[waited[0]]
            is_free = len(self.clients) < MOST
            if is_free:
                self.clients[client] = None
            return is_free

    def shutdown_request(self, request: Any) -> None:
        with self.lock:
            self.clients.pop(request, None)
        super().shutdown_request(request)
