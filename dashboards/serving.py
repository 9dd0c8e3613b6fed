"""`distilnas dashboard`: one local server, until Ctrl-C."""

import logging
import secrets
import webbrowser
from collections.abc import Sequence
from threading import Thread

from werkzeug.serving import BaseWSGIServer, make_server

from dashboards.library import Library
from search import report
from search.addresses import masked
from space.errors import InputError, require_range

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


def serve(storage: str, host: str, port: int, names: Sequence[str], browser: bool) -> None:
    """Serve the page over a database.

    Args:
        host: the address that is listened at; one beyond this machine demands names, and brings a
            token.
        names: hosts by which the page may be reached.
        browser: open one.

    Raises:
        InputError: no such database, a port that is taken, names that are missing.
    """
    require_range("--port", port, 1, 65_535)
    is_local = host in LOCAL_HOSTS
    if not is_local and not names:
        raise InputError(
            f"--host {host} lets other machines in: name how they may call this one, "
            "e.g. --allow-host lab.example.org"
        )
    library = Library(storage)
    token = None if is_local else secrets.token_urlsafe(24)
    server = make(library, host, port, names, token)
    query = f"/?token={token}" if token else "/"
    shown = "localhost" if host == "::1" else host if is_local else names[0]
    address = f"http://{shown}:{port}{query}"
    out = report.console()
    out.print(f"{masked(storage)} at {address} (stop with Ctrl-C)", soft_wrap=True)
    Thread(target=library.warm, daemon=True).start()
    if browser:
        webbrowser.open(address)
    try:
        server.serve_forever()
    finally:
        server.server_close()


def make(
    library: Library, host: str, port: int, names: Sequence[str], token: str | None
) -> BaseWSGIServer:
    """The server, guarded and bound to its port; debug is off whatever the environment says."""
    from dashboards.app import make_app
    from dashboards.server import guard

    app = make_app(library)
    app.server.debug = False
    guard(app, port, names, token)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every poll helps nobody
    try:
        return make_server(host, port, app.server, threaded=True)
    except (OSError, SystemExit):
        raise InputError(
            f"port {port} of {host} cannot be listened at: another program may have it; "
            "choose another --port"
        ) from None
