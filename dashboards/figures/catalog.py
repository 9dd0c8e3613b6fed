"""Which picture a card shows: from a page's address and a card's key to the picture."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from dashboards.figures.ablation import ABLATION as ABLATION_PICTURES
from dashboards.figures.compare import COMPARE as COMPARE_PICTURES
from dashboards.figures.search import SEARCH as SEARCH_PICTURES
from dashboards.figures.trial import TRIAL as TRIAL_PICTURES
from dashboards.filters import Filters
from dashboards.library import Library
from dashboards.plotting.picture import Picture
from dashboards.routes import COMPARE, STUDY, TRIAL, Route, compared
from dashboards.views import ABLATION
from space.errors import InputError

V = TypeVar("V")  # a view


def picture(library: Library, where: Route, query: str, key: str) -> Picture:
    """The picture of a card.

    Raises:
        InputError: no such study, trial or picture.
    """
    if where.page == TRIAL:
        return _known(TRIAL_PICTURES, key)(library.trial(where.study, where.trial))
    if where.page == COMPARE:
        return _compared(library, query, key)
    if where.page == STUDY and library.subject(where.study).kind == ABLATION:
        return _known(ABLATION_PICTURES, key)(library.ablation(where.study))
    if where.page == STUDY:
        return _known(SEARCH_PICTURES, key)(library.view(where.study, Filters.parse(query)))
    raise InputError("there are no pictures on this page")


def _compared(library: Library, query: str, key: str) -> Picture:
    draw, filters = _known(COMPARE_PICTURES, key), Filters.parse(query)
    views = [library.view(study, filters) for study in compared(query)]
    return draw(views)


def _known(pictures: Mapping[str, Callable[[V], Picture]], key: str) -> Callable[[V], Picture]:
    if key not in pictures:
        raise InputError(f"there is no picture {key!r} on this page")
    return pictures[key]
