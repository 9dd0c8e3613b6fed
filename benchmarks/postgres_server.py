"""A PostgreSQL server of one's own, which may be stopped and begun again."""

import os
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType

PROGRAMS = ("initdb", "postgres", "pg_ctl")
NOBODY = 65534  # the server refuses to run as root


def missing() -> list[str]:
    """Programs of Debian's package `postgresql` that are not on the path."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


class Server:
    """An empty database `postgres` at `address`; gone with the `with` that made it."""

    def __init__(self) -> None:
        as_user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        self.prefix = as_user if os.geteuid() == 0 else []
        self.place = Path(
            subprocess.check_output([*self.prefix, "mktemp", "-d"], text=True).strip()
        )
        self.port = _free_port()
        self._run("initdb", "-D", f"{self.place}/data", "-A", "trust", "-U", "tester")

    @property
    def address(self) -> str:
        return f"postgresql+psycopg://tester:secret@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c max_connections=200"
        sockets = f"-c unix_socket_directories={self.place}"
        log = f"{self.place}/log"
        self._control("-l", log, "-o", f"{options} {sockets}", "start")

    def stop(self, mode: str = "fast") -> None:
        """End it: `fast` ends its transactions first, `immediate` is as a crash."""
        self._control("-m", mode, "stop")

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop("immediate")
        shutil.rmtree(self.place, ignore_errors=True)

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", f"{self.place}/data", "-w", *arguments)

    def _run(self, *command: str) -> None:
        subprocess.run(
            [*self.prefix, *command],
            cwd=self.place,
            env=os.environ | {"HOME": str(self.place)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
