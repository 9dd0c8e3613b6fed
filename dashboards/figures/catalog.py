"""The catalog: from a page's address and a chart's key to the picture."""

from collections.abc import Mapping

from dashboards.figures.ablation import ABLATION_CHARTS
from dashboards.figures.compare import COMPARE_CHARTS
from dashboards.figures.search import SEARCH_CHARTS
from dashboards.figures.trial import TRIAL_CHARTS
from dashboards.filters import Filters
from dashboards.library import Library
from dashboards.plotting.picture import Chart, Picture, V
from dashboards.routes import COMPARE, STUDY, TRIAL, Route, compared
from dashboards.views import AblationView
from space.errors import InputError


def picture(library: Library, where: Route, query: str, key: str) -> Picture:
    """The picture of a card.

    Raises:
        InputError: no such study, trial or picture.
    """
    if where.page == TRIAL:
        return _known(TRIAL_CHARTS, key).draw(library.trial(where.study, where.trial))
    if where.page == COMPARE:
        return _compared(library, query, key)
    if where.page == STUDY:
        view = library.study(where.study, Filters.parse(query))
        if isinstance(view, AblationView):
            return _known(ABLATION_CHARTS, key).draw(view)
        return _known(SEARCH_CHARTS, key).draw(view)
    raise InputError("there are no pictures on this page")


def _compared(library: Library, query: str, key: str) -> Picture:
    chart, filters = _known(COMPARE_CHARTS, key), Filters.parse(query)
    views = [library.view(study, filters) for study in compared(query)]
    return chart.draw(views)


def _known(charts: Mapping[str, Chart[V]], key: str) -> Chart[V]:
    if key not in charts:
        raise InputError(f"there is no chart {key!r} on this page")
    return charts[key]
