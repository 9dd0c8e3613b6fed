"""The whole command line: the commands of `search`, `dashboard` and `report`."""

from pathlib import Path

import click

from search.cli.main import cli, main
from search.cli.options import JSON, STORAGE

__all__ = ["cli", "main"]


@cli.command()
@STORAGE
@click.option("--port", type=int, default=8050, show_default=True, help="Port to listen on.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    help="With another --host: a name of this machine that browsers may use. May be repeated.",
)
@click.option("--no-browser", is_flag=True, help="Print the address, open no browser.")
@JSON
def dashboard(
    storage: str, port: int, host: str, names: tuple[str, ...], no_browser: bool, as_json: bool
) -> None:
    """Open a local web page over the study database.

    With --json no browser is opened: the address is printed as soon as the page answers.
    """
    from dashboards.server.serve import serve

    serve(storage, host, port, names, browser=not no_browser, as_json=as_json)


@cli.command("report")
@click.argument("studies", nargs=-1)
@STORAGE
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The file to write.",
)
@JSON
def report_command(studies: tuple[str, ...], storage: str, out: Path, as_json: bool) -> None:
    """Write studies as one HTML file that needs no network (default: all of them)."""
    from dashboards.report import write

    write(storage, studies, out, as_json)
