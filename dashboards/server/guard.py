"""What the server refuses (hosts, origins, methods, a missing token); headers of all answers."""

import hmac
import traceback
from collections.abc import Sequence
from urllib.parse import quote, urlencode

from dash import Dash
from flask import Response, abort, redirect, request
from werkzeug.exceptions import BadRequest, HTTPException, UnsupportedMediaType
from werkzeug.wrappers import Response as BaseResponse

LOCAL = ("127.0.0.1", "localhost", "[::1]")
UPDATE = "/_dash-update-component"  # the only address that takes POST
LONGEST_BODY = 250_000  # bytes; the page's own bodies have a few thousand
SUITES = "/_dash-component-suites/"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def guard(app: Dash, port: int, hosts: Sequence[str] = (), token: str | None = None) -> None:
    """Refuse forged hosts, foreign origins and every request that the page itself does not make.

    Args:
        hosts: names by which the page may be reached, in addition to this machine's own.
        token: the secret that a browser must send once; None asks for none.
    """
    allowed = frozenset(_with_ports([*LOCAL, *hosts], port))
    policy = content_policy(app)

    app.server.config["MAX_CONTENT_LENGTH"] = LONGEST_BODY

    @app.server.before_request
    def check() -> BaseResponse | None:
        """Only headers are looked at here: a body is read after its sender was let in."""
        if request.headers.get("Host", "").lower() not in allowed:
            abort(400, "this page is not known under that name")
        if not _is_own(allowed):
            abort(403, "another page may not ask this one")
        entrance = None if token is None else _admit(token, f"distilnas-{port}")
        if entrance is not None:
            return entrance
        if request.method not in ("GET", "HEAD") and request.path != UPDATE:
            abort(405)
        if "Transfer-Encoding" in request.headers:
            abort(411)  # the page's own requests state their length
        return None

    @app.server.errorhandler(Exception)
    def refuse(error: Exception) -> HTTPException:
        """Dash reads a request without checking it, so nonsense may end in any error: it gets 400.

        One line says what it was, in case the request was right and the fault is ours.
        """
        if isinstance(error, HTTPException) and not isinstance(error, UnsupportedMediaType):
            return error
        if request.path != UPDATE:
            raise error
        place = traceback.extract_tb(error.__traceback__)[-1]
        app.server.logger.warning("%r at %s:%s", error, place.filename, place.lineno)
        return BadRequest("this page's own scripts ask otherwise")

    @app.server.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(HEADERS)
        response.headers["Content-Security-Policy"] = policy
        if request.path.startswith(SUITES) and response.status_code == 200:
            # Their addresses contain their versions, so a browser may cache them.
            response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
        return response


def _with_ports(hosts: Sequence[str], port: int) -> list[str]:
    """Hosts as a Host header writes them: with the port, which may be left out if it is 80."""
    names = [host.lower() for host in hosts]
    return [f"{name}:{port}" for name in names] + (names if port == 80 else [])


def _is_own(allowed: frozenset[str]) -> bool:
    """Whether the request comes from this page, or from no page at all (a typed address)."""
    origin = request.headers.get("Origin")
    if origin is not None and origin.lower().removeprefix("http://") not in allowed:
        return False
    site = request.headers.get("Sec-Fetch-Site", "none")
    navigates = request.headers.get("Sec-Fetch-Mode") == "navigate" and request.method == "GET"
    return site in ("none", "same-origin") or navigates


def _admit(token: str, cookie: str) -> BaseResponse | None:
    """A token in the address becomes a cookie; after that the cookie is enough.

    Browsers keep cookies by host, without the port: two dashboards name theirs differently.
    """
    if _same(request.args.get("token", ""), token):
        answer = redirect(_without_token())
        answer.set_cookie(cookie, token, httponly=True, samesite="Strict")
        return answer
    if not _same(request.cookies.get(cookie, ""), token):
        abort(401, "open the address that distilnas dashboard printed: it holds the token")
    return None


def _without_token() -> str:
    """The requested address without its token, on this host: `//elsewhere` would leave it."""
    given = [(name, value) for name, value in request.args.items(multi=True) if name != "token"]
    path = "/" + quote(request.path.lstrip("/"))
    return f"{path}?{urlencode(given)}" if given else path


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def content_policy(app: Dash) -> str:
    """Scripts of our own only; nothing is loaded from, or sent to, elsewhere.

    Plotly's WebGL charts compile their drawing code in the browser, and fail without
    'unsafe-eval'; scripts that somebody writes into the page are still refused.
    """
    rules = {
        "default-src": "'self'",
        "script-src": " ".join(["'self'", "'unsafe-eval'", *app.csp_hashes()]),
        "style-src": "'self' 'unsafe-inline'",  # Plotly and AG Grid write styles
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": "'self'",
        "worker-src": "'self' blob:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())
