"""Flags that several commands of the command line have."""

import click

from search.addresses import DEFAULT_STORAGE

JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
STORAGE = click.option(
    "--storage",
    default=DEFAULT_STORAGE,
    show_default=True,
    help="Study database: a file or an address.",
)
CACHE = click.option(
    "--cache",
    default="~/.cache/distilnas",
    show_default=True,
    help="Folder for decoded photographs, teachers and teacher logits.",
)
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
WORKERS = click.option(
    "--workers",
    default="1",
    show_default=True,
    help="Students trained at once: a number, or auto: measured.",
)
