"""Addresses of pages: what a link says, and what an address asks for."""

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import parse_qs, urlencode

STUDIES, STUDY, TRIAL, COMPARE, LOST = "studies", "study", "trial", "compare", "lost"
PATH = re.compile(r"/study/(\d{1,9})(?:/trial/(\d{1,9}))?/?", re.ASCII)


class Route(NamedTuple):
    """The page that an address names."""

    page: str
    study: int = -1
    trial: int = -1


def route_of(path: str | None) -> Route:
    """The page of an address. Studies are named by number: a name may hold any character."""
    if path in (None, "", "/"):
        return Route(STUDIES)
    if path in ("/compare", "/compare/"):
        return Route(COMPARE)
    match = PATH.fullmatch(str(path))
    if match is None:
        return Route(LOST)
    study, trial = match.groups()
    return Route(STUDY, int(study)) if trial is None else Route(TRIAL, int(study), int(trial))


def study_link(study: int, query: str = "") -> str:
    return f"/study/{study}?{query}" if query else f"/study/{study}"


def trial_link(study: int, trial: int) -> str:
    return f"/study/{study}/trial/{trial}"


def compare_link(studies: Iterable[int]) -> str:
    return f"/compare?{urlencode([('study', study) for study in studies])}"


def compared(query: str | None) -> list[int]:
    """Studies that an address compares."""
    given = parse_qs((query or "").removeprefix("?")).get("study", [])
    return list(
        dict.fromkeys(
            int(text) for text in given if text.isascii() and text.isdecimal() and len(text) < 10
        )
    )
