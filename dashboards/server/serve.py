"""`distilnas dashboard`: one local server, until Ctrl-C."""

import json
import logging
import os
import re
import secrets
import socket
import sys
import webbrowser
from collections.abc import Sequence
from threading import Thread

from dashboards.library import Library
from dashboards.server.connections import Server
from search.database.address import masked_for_shell
from search.terminal import output
from space.errors import InputError, require, require_range

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
NAME = re.compile(r"[\w.-]+|\[[0-9A-Fa-f:]+\]", re.ASCII)  # of a host


def serve(
    storage: str, host: str, port: int, names: Sequence[str], browser: bool, as_json: bool
) -> None:
    """Serve the page over a database.

    Args:
        host: the address to listen at; one that other machines reach needs names, and a token is
            made.
        names: hosts by which the page may be reached.
        browser: whether to open one.
        as_json: print the address as JSON and open no browser.

    Raises:
        InputError: no such database, a port that is taken, names that are missing.
    """
    require_range("--port", port, 1, 65_535)
    is_local = host in LOCAL_HOSTS
    _check(host, names, is_local)
    library = Library(storage)
    token = None if is_local else secrets.token_urlsafe(24)
    server = make(library, host, port, names, token)
    query = f"/?token={token}" if token else "/"
    shown = "localhost" if host == "::1" else host if is_local else names[0]
    address = f"http://{shown}:{port}{query}"
    database = masked_for_shell(storage)
    if as_json:
        document = {"address": address, "token": token, "storage": database}
        print(
            json.dumps(document), flush=True
        )  # in one line: its reader cannot wait for the end of output
    else:
        output.console().print(f"{database} at {address} (stop with Ctrl-C)", soft_wrap=True)
    Thread(target=library.warm, daemon=True).start()
    if browser and not as_json and _has_display():
        webbrowser.open(address)
    try:
        server.serve_forever()
    finally:
        server.server_close()


def _check(host: str, names: Sequence[str], is_local: bool) -> None:
    if not is_local and not names:
        raise InputError(
            f"--host {host} lets other machines in: name how they may call this one, "
            "e.g. --allow-host lab.example.org"
        )
    for name in names:
        rule = "a host without http:// and port, e.g. lab.example.org"
        require("--allow-host", name, NAME.fullmatch(name) is not None, rule)


def _has_display() -> bool:
    """Whether there is a screen; without one, a text browser would take over the terminal."""
    return sys.platform != "linux" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ


def make(library: Library, host: str, port: int, names: Sequence[str], token: str | None) -> Server:
    """The guarded server, bound to its port; debugging is off whatever the environment says."""
    from dashboards.pages.app import make_app
    from dashboards.server.guard import guard

    app = make_app(library)
    app.server.debug = False
    guard(app, port, names, token)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for every poll
    with listening(host, port) as bound:
        return Server(host, port, app.server, fd=bound.fileno())


def listening(host: str, port: int) -> socket.socket:
    """A bound socket; werkzeug itself would print its own advice and exit."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(
            f"port {port} of {host} cannot be used: {error.strerror}; choose another --port"
        ) from None
