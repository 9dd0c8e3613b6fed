"""A student's network as pictures: stage by stage, and byte by byte."""

import math
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from dashboards.picture import GREY, Picture, block_colour, ink_on, nothing, styled
from dashboards.views import TrialView
from search.trial_facts import layers_of
from space.architecture import Architecture, Stage
from space.budget import format_bytes
from space.count import layer_costs

ARCHITECTURE_TITLE, BYTES_TITLE = "Architecture", "Where the bytes go"
UNKNOWN = "The trial does not say what its network is: another program made it, or it failed early."
SLAB, GAP, LABEL = 0.34, 0.07, 1.5  # widths of a block, between blocks, and that a caption needs
INPUT_HEIGHT = 2.0


class Box(NamedTuple):
    """A stage as it is drawn."""

    left: float
    slabs: int
    height: float
    colour: str
    above: str
    below: str


def is_known(view: TrialView) -> bool:
    return isinstance(view.row["architecture"], Mapping) and view.subject.size is not None


def architecture(view: TrialView) -> Picture:
    """Stages from left to right: as high as they are wide, a slab for every block."""
    if not is_known(view):
        return nothing(ARCHITECTURE_TITLE, UNKNOWN)
    network = Architecture.from_dict(dict(view.row["architecture"]))
    data = stages_of(network, int(view.subject.size or 0))
    boxes = list(_boxes(data))
    figure = styled(go.Figure(), height=340)
    for box in boxes:
        _draw(figure, box)
    right = boxes[-1].left + LABEL
    top = max(box.height for box in boxes)
    figure.update_xaxes(range=[-0.2, right], visible=False, fixedrange=True)
    figure.update_yaxes(range=[-top * 0.75 - 1.2, top + 1.4], visible=False, fixedrange=True)
    figure.update_layout(margin={"l": 4, "r": 4, "t": 4, "b": 4}, hovermode=False)
    note = "Height: channels (logarithmic); one slab a block. Above: channels x pixels behind it."
    return Picture(ARCHITECTURE_TITLE, figure, data, note)


def stages_of(network: Architecture, size: int) -> pd.DataFrame:
    """stage, block, blocks, channels, pixels, settings: input, stem, stages, classifier."""
    pixels: dict[str, int] = {}
    for cost in layer_costs(network, size):
        pixels[cost.layer.name.split(".")[0]] = cost.output_size
    rows: list[tuple[Any, ...]] = [("input", "", 0, network.channels, size, "")]
    for place, stage in enumerate((network.stem, *network.stages)):
        name, canonical = f"stage {place}" if place else "stem", stage.canonical()
        at = pixels[f"s{place}"]
        rows.append((name, stage.block, stage.depth, stage.width, at, settings_words(canonical)))
    head = f"1x1 to {network.head.width}, then " if network.head.width else ""
    rows.append(("classes", "", 0, network.classes, 1, f"{head}average, linear"))
    return pd.DataFrame(
        rows, columns=["stage", "block", "blocks", "channels", "pixels", "settings"]
    )


def settings_words(stage: Stage) -> str:
    """Everything of a stage but block, depth and width."""
    words = [
        f"{stage.kernel}x{stage.kernel}",
        f"{stage.groups} groups" if stage.groups > 1 else "",
        f"expanded {stage.expansion}x" if stage.expansion > 1 else "",
        f"SE {stage.se}" if stage.se else "",
        "shortcuts" if stage.residual else "",
        stage.activation,
    ]
    return ", ".join(filter(None, words))


def _boxes(stages: pd.DataFrame) -> Iterator[Box]:
    left = 0.0
    for row in stages.to_dict("records"):
        slabs = max(1, row["blocks"])
        count = f"{row['blocks']}x " if row["blocks"] > 1 else ""
        title = f"{count}{row['block']} {row['channels']}" if row["block"] else row["stage"]
        details = row["settings"].split(", ") if row["settings"] else []
        yield Box(
            left=left,
            slabs=slabs,
            height=math.log2(row["channels"] + 1),
            colour=block_colour(row["block"]) if row["block"] else GREY,
            above=f"{row['channels']} x {row['pixels']}²",
            below="<br>".join([f"<b>{escape(title)}</b>", *map(escape, details)]),
        )
        left += max(LABEL, slabs * (SLAB + GAP) + 0.3)


def _draw(figure: go.Figure, box: Box) -> None:
    for slab in range(box.slabs):
        x = box.left + slab * (SLAB + GAP)
        figure.add_shape(
            type="rect",
            x0=x,
            x1=x + SLAB,
            y0=0,
            y1=box.height,
            fillcolor=box.colour,
            line={"width": 0},
            opacity=0.9,
        )
    words = ((box.above, box.height, "bottom"), (box.below, 0.0, "top"))
    for text, y, anchor in words:
        figure.add_annotation(
            x=box.left,
            y=y,
            text=text,
            xanchor="left",
            yanchor=anchor,
            align="left",
            showarrow=False,
            font={"size": 11},
        )


def bytes_by_layer(view: TrialView) -> Picture:
    """Stages, their blocks, their layers, each as wide as its bytes; all sum to the file."""
    if not is_known(view) or not view.subject.spec:
        return nothing(BYTES_TITLE, UNKNOWN)
    data = stored_layers(view)
    whole = int(data["bytes"].sum())
    parts = _tree(data, whole, stage_colours(view.row))
    figure = styled(go.Figure(), height=420)
    figure.add_trace(
        go.Icicle(
            ids=parts["id"],
            labels=parts["label"],
            parents=parts["parent"],
            values=parts["bytes"],
            branchvalues="total",
            marker={"colors": parts["colour"], "line": {"width": 1, "color": "#FFFFFF"}},
            textfont={"color": [ink_on(colour) for colour in parts["colour"]]},
            tiling={"orientation": "v"},
            customdata=parts["words"],
            hovertemplate="%{customdata}, %{percentRoot:.1%}<extra></extra>",
            sort=False,
        )
    )
    figure.update_layout(margin={"l": 4, "r": 4, "t": 4, "b": 4})
    return Picture(BYTES_TITLE, figure, data, "Click a part to look into it.")


def stored_layers(view: TrialView) -> pd.DataFrame:
    """layer, type, stage, block, bytes, parameters, macs; the file's header as a part."""
    layers = layers_of(view.row, view.subject.spec)
    rows = [
        (x["name"], x["type"], *_place(x["name"]), x["bytes"], x["parameters"], x["macs"])
        for x in layers
        if x["bytes"]
    ]
    header = int(view.row["bytes"]) - sum(row[4] for row in rows)
    rows.append(("header", "file header", "header", "", header, 0, 0))
    columns = ["layer", "type", "stage", "block", "bytes", "parameters", "macs"]
    return pd.DataFrame(rows, columns=columns)


def _place(layer: str) -> tuple[str, str]:
    """Stage and block of a layer's name: `s1.0.conv`."""
    stage, block, *_ = layer.split(".")
    if not stage.startswith("s"):
        return stage, ""
    place = int(stage[1:])
    return (f"stage {place}" if place else "stem"), f"block {int(block) + 1}"


def _tree(layers: pd.DataFrame, whole: int, colours: Mapping[str, str]) -> pd.DataFrame:
    """Rows of an icicle: id, label, parent, bytes, colour, words."""
    rows = [("file", "file", "", whole, GREY, f"file: {format_bytes(whole)}")]
    for stage, of_stage in layers.groupby("stage", sort=False):
        colour, size = colours.get(str(stage), GREY), int(of_stage["bytes"].sum())
        rows.append((stage, stage, "file", size, colour, f"{stage}: {format_bytes(size)}"))
        for block, of_block in of_stage.groupby("block", sort=False):
            parent = f"{stage}/{block}" if block else str(stage)
            if block:
                size = int(of_block["bytes"].sum())
                words = f"{stage}, {block}: {format_bytes(size)}"
                rows.append((parent, block, stage, size, colour, words))
            inner = of_block[of_block["layer"] != stage]  # the header has no layers
            rows.extend(_leaf(row, parent, colour) for row in inner.to_dict("records"))
    return pd.DataFrame(rows, columns=["id", "label", "parent", "bytes", "colour", "words"])


def _leaf(row: Mapping[Any, Any], parent: str, colour: str) -> tuple[Any, ...]:
    label = f"{row['layer'].split('.')[-1]} {row['type']}"
    words = (
        f"{row['layer']} {row['type']}: {row['bytes']:,} bytes, "
        f"{row['parameters']:,} parameters, {row['macs']:,} MACs"
    )
    return f"layer/{row['layer']}", label, parent, row["bytes"], colour, words


def stage_colours(row: Any) -> dict[str, str]:
    """Stage -> the colour of its block type; parts that are no stage are grey."""
    network = Architecture.from_dict(dict(row["architecture"]))
    stages = (network.stem, *network.stages)
    return {
        f"stage {place}" if place else "stem": block_colour(stage.block)
        for place, stage in enumerate(stages)
    }
