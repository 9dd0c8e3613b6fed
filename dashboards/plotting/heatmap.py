"""Heat maps: numbers in cells, black or white by the cell's colour."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.colors import sample_colorscale, unlabel_rgb

from dashboards.plotting.axes import share_ends
from dashboards.plotting.picture import GREY, ink_on

SCALE = "Cividis"  # looks the same to colour-blind people

Cells = npt.NDArray[np.float64]


def limits_of(values: Cells) -> tuple[float, float]:
    """Ends of a colour scale of shares (0 to 1), also if all values are equal."""
    ends = share_ends(values[~np.isnan(values)].tolist(), room=0)
    assert ends is not None, "accuracies are shares"
    return ends


def write_cells(
    figure: go.Figure,
    values: Cells,
    texts: Sequence[Sequence[str]],
    limits: tuple[float, float],
    **place: int,
) -> None:
    """Write a text on every cell, at columns and rows 0, 1, 2 ...; NaN cells have no colour."""
    rows, columns = np.indices(values.shape)
    figure.add_scatter(
        x=columns.ravel(),
        y=rows.ravel(),
        mode="text",
        text=[text for row in texts for text in row],
        textfont={"color": [_ink(value, limits) for value in values.ravel()], "size": 12},
        hoverinfo="skip",
        showlegend=False,
        **place,
    )


def _ink(value: float, limits: tuple[float, float]) -> str:
    if np.isnan(value):
        return GREY  # on the page's paper, light or dark
    low, high = limits
    (colour,) = sample_colorscale(SCALE, [(value - low) / (high - low)])
    return ink_on("#" + "".join(f"{round(part):02x}" for part in unlabel_rgb(colour)))
