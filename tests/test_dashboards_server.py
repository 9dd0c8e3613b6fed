"""Who may ask the dashboard for what: hosts, origins, methods, tokens, files; one by one."""

import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pytest
from commands import environment, inside, refused
from dash import Dash
from dashboard_server import free_port, served

from benchmarks import synthetic_studies
from dashboards.library import Library
from dashboards.pages.app import make_app
from dashboards.pages.downloads import Downloads
from dashboards.pages.trial import trial_page
from dashboards.server.guard import guard
from search.database.storage import open_storage

PAGES = (
    *("/", "/study/1", "/assets/style.css", "/_dash-layout", "/_dash-dependencies"),
    *("/_favicon.ico", "/csv/study/1?picture=front", "/download/x", "/nothing/at/all"),
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Got(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def ask(address: str, path: str, method: str = "GET", body: str = "", **headers: str) -> Got:
    """One request; `Host` and all else as given."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body or None, named)
    answer = connection.getresponse()
    got = Got(answer.status, dict(answer.getheaders()), answer.read())
    connection.close()
    return got


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "studies.db"
    synthetic_studies.make(path, 30)
    return path


@pytest.fixture(scope="module")
def address(database: Path) -> Iterator[str]:
    with served(database, DASH_DEBUG="1", FLASK_DEBUG="1", DASH_HOT_RELOAD="1") as found:
        yield found


def test_a_forged_host_is_refused_on_every_route(address: str) -> None:
    port = address.rpartition(":")[2]
    for path in PAGES:
        for host in ("", f"evil.example:{port}", "127.0.0.1", f"localhost.x:{port}"):
            assert ask(address, path, Host=host).status == 400, (path, host)
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert ask(address, "/", Host=host).status == 200


def test_another_page_is_refused_on_every_route(address: str) -> None:
    for path in PAGES:
        assert ask(address, path, Origin="https://evil.example").status == 403, path
        assert ask(address, path, Origin="null").status == 403, path
        assert ask(address, path, Origin="http://[").status == 403, path
        assert ask(address, path, Sec_Fetch_Site="cross-site").status == 403, path
    assert ask(address, "/", Origin=address).status == 200
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert ask(address, "/", **link).status == 200  # somebody follows a link to it


ODD: tuple[Any, ...] = (None, 7, "x", [{}], {"number": "x"})


def valid(app: Dash) -> Iterator[dict[str, Any]]:
    """What the page would ask of each callback that runs on the server."""
    found = {"pathname": "/study/1", "search": "?axis=macs", "data": "1", "n_clicks": 1}

    def named(registered: dict[str, str]) -> Any:
        identity = registered["id"]
        if identity.startswith("{"):
            filled = {"card": "front", "turn": "first"}
            parts = json.loads(identity).items()
            key: Any = {k: filled[k] if isinstance(part, list) else part for k, part in parts}
        else:
            key = identity
        one = {"id": key, "property": registered["property"].partition("@")[0]}
        one |= {"value": key if one["property"] == "id" else found.get(one["property"])}
        return [one] if "ALL" in identity else one

    for output, callback in app.callback_map.items():
        if "callback" in callback:
            several = callback["output"]
            outputs = several if isinstance(several, list) else [several]
            named_outputs = [named(one.to_dict()) for one in outputs]
            yield {
                "output": output,
                "outputs": named_outputs if isinstance(several, list) else named_outputs[0],
                "inputs": [named(one) for one in callback["inputs"]],
                "state": [named(one) for one in callback["state"]],
                "changedPropIds": [],
            }


def spoiled(value: Any) -> Iterator[Any]:
    """Copies in each of which one part, at whatever depth, is absent or something else."""
    yield from ODD
    if isinstance(value, dict):
        for name in value:
            yield {other: part for other, part in value.items() if other != name}
            yield from (value | {name: other} for other in spoiled(value[name]))
    elif isinstance(value, list):
        for place, part in enumerate(value):
            before, behind = value[:place], value[place + 1 :]
            yield before + behind
            yield from ([*before, other, *behind] for other in spoiled(part))


def test_nonsense_is_refused_and_never_fails(database: Path) -> None:
    app = make_app(Library(str(database)))
    guard(app, 80)
    client = app.server.test_client()

    def status(asked: Any) -> int:
        host = {"Host": "localhost"}
        answer = client.post("/_dash-update-component", json=asked, headers=host)
        return int(answer.status_code)

    asked = list(valid(app))
    assert len(asked) > 10
    for request in asked:
        assert status(request) in (200, 204, 404), request  # 404: the study is no ablation
        for odd in [*spoiled(request)][::3]:  # many are computed whole; all of them take minutes
            assert status(odd) in (200, 204, 400, 404), odd
    for output in app.callback_map.keys() - {request["output"] for request in asked}:
        assert status(asked[0] | {"output": output}) == 400  # the browser computes it


UNKNOWN = (
    '{"output": "url.search", "inputs": 3}',
    '{"output": "url.search", "inputs": [3]}',
    '{"output": ["url.search"], "inputs": []}',
)


def test_only_the_update_is_posted_to(address: str) -> None:
    for path in PAGES:
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            assert ask(address, path, method).status == 405, (path, method)
    for body in ("{}", "[]", "", "no JSON", '{"output": "a.b", "inputs": []}', *UNKNOWN):
        odd = ask(address, "/_dash-update-component", "POST", body, Content_Type="application/json")
        assert odd.status == 400, body
    foreign = ask(address, "/_dash-update-component", "POST", "{}", Origin="https://evil.example")
    assert foreign.status == 403


def test_every_answer_carries_the_headers(address: str) -> None:
    answers = [ask(address, path) for path in PAGES]
    answers += [ask(address, "/", Host="evil.example"), ask(address, "/", "PUT")]
    assert {answer.status for answer in answers} >= {200, 400, 404, 405}
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert answer.headers["Server"] == "distilnas"  # and no version
        policy = answer.headers["Content-Security-Policy"]
        for rule in ("default-src 'self'", "object-src 'none'", "frame-ancestors 'none'"):
            assert rule in policy
        assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


def test_debug_is_off_whatever_the_environment_says(address: str) -> None:
    settings = json.loads(ask(address, "/").body.split(b'"application/json">')[1].split(b"<")[0])
    assert not settings.get("ui")
    assert not settings.get("hot_reload")
    assert ask(address, "/?__debugger__=yes&cmd=resource&f=debugger.js").body.startswith(b"<!DOC")


def test_no_path_leads_elsewhere(address: str, database: Path) -> None:
    secret = database.parent / "secret.txt"
    secret.write_text("what nobody may read")
    for path in (
        "/assets/../secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        f"/assets/{secret}",
        "/download/../../secret.txt",
        "/download/..%2f..%2fsecret.txt",
        "/_dash-component-suites/dash/../../../../secret.txt",
        "/csv/study/1/../../secret.txt",
        "/csv/study/1?picture=../../secret.txt",
        "/csv/study/1?picture=__class__",
        "/csv/study/99?picture=front",
    ):
        got = ask(address, path)
        is_page = b"<!DOCTYPE html>" in got.body  # which says that there is no such page
        assert got.status in (400, 404) or is_page, path
        assert b"nobody may read" not in got.body


def contents(address: str, path: str) -> str:
    """What a page shows, as the browser asks for it."""
    outputs = [{"id": "page", "property": "children"}, {"id": "version", "property": "data"}]
    asked = {
        "output": "..page.children...version.data..",
        "outputs": outputs,
        "inputs": [{"id": "address", "property": "pathname", "value": path}],
        "state": [{"id": "address", "property": "search", "value": ""}],
        "changedPropIds": ["address.pathname"],
    }
    update = "/_dash-update-component"
    got = ask(address, update, "POST", json.dumps(asked), Content_Type="application/json")
    assert got.status == 200
    return json.dumps(json.loads(got.body))  # slashes are escaped in it


def test_files_go_by_ids_that_say_nothing(address: str, database: Path) -> None:
    file = database.parent / "runs" / "synthetic" / "trial0001" / "student.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    keys = re.findall('"/download/([^"]+)"', contents(address, "/study/1/trial/1"))
    assert len(set(keys)) == 2  # the file, and the architecture
    assert all(re.fullmatch(r"[\w-]{20,}", key) for key in keys)
    (key,) = (key for key in keys if ask(address, f"/download/{key}").body == b"weights")
    for guess in (key[:-1], key[::-1], "1", "synthetic", "student.safetensors"):
        assert ask(address, f"/download/{guess}").status == 404
    secret = database.parent / "elsewhere"
    secret.write_bytes(b"what nobody may read")
    file.unlink()
    file.symlink_to(secret)
    assert ask(address, f"/download/{key}").status == 404
    assert len(re.findall("/download/", contents(address, "/study/1/trial/1"))) == 1


def test_files_in_a_store_are_told_and_not_read(tmp_path: Path) -> None:
    database = tmp_path / "studies.db"
    synthetic_studies.make(database, 2)
    study = optuna.load_study(
        study_name="synthetic", storage=open_storage(str(database), create=False)
    )
    study.set_user_attr("artifacts", "s3://bucket/prefix")
    library = Library(str(database))
    page = str(trial_page(library, Downloads(library), 1, 0))
    command = "distilnas export synthetic --trial 0 --out trial0.safetensors"
    assert f"{command} --storage {database}" in page
    assert page.count("/download/") == 1  # the architecture


def test_a_csv_is_an_attachment(address: str) -> None:
    got = ask(address, "/csv/study/1?picture=front&state=COMPLETE")
    assert got.status == 200
    assert got.headers["Content-Disposition"] == 'attachment; filename="synthetic-front.csv"'
    rows = got.body.decode().splitlines()
    assert rows[0].startswith("trial,state,block,accuracy,bytes")
    assert all(",complete," in row for row in rows[1:])


def test_beyond_this_machine_a_token_is_asked_for(database: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "dashboards", "dashboard", "--no-browser", "--host", "0.0.0.0"]
    flags = ["--allow-host", "lab.example", "--port", str(port), "--storage", str(database)]
    process = subprocess.Popen(
        [*command, *flags], env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        printed = process.stdout.readline().split()
        (link,) = (word for word in printed if word.startswith("http://"))
        assert link.startswith(f"http://lab.example:{port}/?token=")
        token, address = link.partition("token=")[2], f"http://127.0.0.1:{port}"
        host = f"lab.example:{port}"
        for path in PAGES:
            assert ask(address, path, Host=host).status == 401, path
            assert ask(address, path, Host=host, Cookie=f"distilnas-{port}=wrong").status == 401
        assert ask(address, "/?token=wrong", Host=host).status == 401
        entered = ask(address, f"/?token={token}", Host=host)
        assert (entered.status, entered.headers["Location"]) == (302, "/")
        for path, found in (
            ("/study/1?state=PRUNED&token={}&state=a%26b", "/study/1?state=PRUNED&state=a%26b"),
            ("//evil.example/x?token={}", "/evil.example/x"),
            ("/%2fevil.example/%5c?token={}", "/evil.example/%5C"),
        ):
            entered = ask(address, path.format(token), Host=host)
            assert (entered.status, entered.headers["Location"]) == (302, found)
        cookie = entered.headers["Set-Cookie"]
        assert cookie.startswith(f"distilnas-{port}=")  # browsers keep them without the port
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert ask(address, "/", Host=host, Cookie=cookie.partition(";")[0]).status == 200
        assert ask(address, "/", Host=f"other:{port}", Cookie=cookie).status == 400
    finally:
        process.kill()
        process.communicate()


def test_a_wrong_call_is_one_line(tmp_path: Path, database: Path, address: str) -> None:
    def dashboard(*flags: str) -> list[str]:
        return ["dashboard", "--no-browser", *flags]

    here = str(database)
    refused(inside(tmp_path, *dashboard()), "studies.db", "does not exist", "distilnas search")
    (tmp_path / "no.db").write_text("this is no database, but text of some length" * 9)
    refused(inside(tmp_path, *dashboard("--storage", "no.db")), "must be an SQLite database")
    outside = ("--storage", here, "--host", "0.0.0.0")
    refused(inside(tmp_path, *dashboard(*outside)), "--allow-host")
    named = (*outside, "--allow-host", "http://lab.example:80")
    refused(inside(tmp_path, *dashboard(*named)), "--allow-host", "without http://")
    refused(inside(tmp_path, *dashboard("--storage", here, "--port", "0")), "1 to 65,535")
    taken = address.rpartition(":")[2]
    refused(
        inside(tmp_path, *dashboard("--storage", here, "--port", taken)), "choose another --port"
    )
    password = "postgresql+psycopg://me:topsecret@127.0.0.1:1/x"
    answer = inside(tmp_path, *dashboard("--storage", password))
    refused(answer, "cannot be used")
    assert "topsecret" not in answer.out + answer.err


@pytest.mark.parametrize("display", [":9", ""])
def test_it_opens_a_browser_where_one_is_seen_and_ends_quietly(
    tmp_path: Path, database: Path, display: str
) -> None:
    program, opened = tmp_path / "browser", tmp_path / "opened"
    program.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    program.chmod(0o755)
    hidden = ("DISPLAY", "WAYLAND_DISPLAY")
    variables = {name: value for name, value in environment().items() if name not in hidden}
    variables |= {"BROWSER": str(program)} | ({"DISPLAY": display} if display else {})
    command = [sys.executable, "-m", "dashboards", "dashboard", "--storage", str(database)]
    process = subprocess.Popen(
        [*command, "--port", str(free_port())],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    printed = process.stdout.readline()
    assert printed.startswith(f"{database} at http://127.0.0.1:")
    address = printed.split()[2]
    assert ask(address.removesuffix("/"), "/").status == 200  # so the browser has been begun
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0
    told = opened.read_text().strip() if opened.exists() else None
    assert told == (address if display else None)
