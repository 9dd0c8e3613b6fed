"""A student's network as pictures: stage by stage, and byte by byte."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from dashboards.plotting.picture import GREY, Picture, block_colour, ink_on, nothing, styled
from dashboards.views import TrialView
from search.terminal.trial_facts import LayerRow, layers_of, size_of
from space.architecture import Architecture, Stage
from space.count import layer_costs
from space.solver import format_bytes

UNKNOWN = "The trial does not say what its network is: another program made it, or it failed early."
COSTS = ("bytes", "parameters", "macs")  # of a layer
STAGES = ("stage", "block", "blocks", "channels", "pixels", "settings")  # columns
LAYERS = ("layer", "type", "stage", "block", "output", *COSTS)
READABLE = {"minsize": 9, "mode": "hide"}  # pixels of a label
COLUMN = 1.0  # width of a stage, with room for its captions
SLAB, MOST_SLABS = 0.24, 0.9  # widths of a block and of all blocks, which get thinner if many
GAP = 0.17  # between blocks, as a share of a block
UNBUILT = "The trial has no file: it has not got that far, or its network could not be built."


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
        return nothing(UNKNOWN, STAGES)
    network = Architecture.from_dict(dict(view.row["architecture"]))
    data = stages_of(network, size_of(view.row, view.subject.spec))
    boxes = list(_boxes(data))
    figure = styled(go.Figure(), height=340)
    for box in boxes:
        _draw(figure, box)
    top = max(box.height for box in boxes)
    figure.update_xaxes(range=[0, COLUMN * len(boxes)], visible=False, fixedrange=True)
    figure.update_yaxes(range=[-top * 0.75 - 1.2, top + 1.4], visible=False, fixedrange=True)
    figure.update_layout(margin={"l": 4, "r": 4, "t": 4, "b": 4}, hovermode=False)
    note = "Height: channels (logarithmic); one slab a block. Above: channels x pixels after it."
    return Picture(figure, data, note)


def stages_of(network: Architecture, size: int) -> pd.DataFrame:
    """stage, block, blocks, channels, pixels, settings: input, stem, stages, classifier."""
    pixels: dict[str, int] = {}
    for cost in layer_costs(network, size):
        pixels[cost.layer.name.split(".")[0]] = cost.output_size
    rows: list[tuple[object, ...]] = [("input", "", 0, network.channels, size, "")]
    for place, stage in enumerate((network.stem, *network.stages)):
        name, canonical = f"stage {place}" if place else "stem", stage.canonical()
        at = pixels[f"s{place}"]
        rows.append((name, stage.block, stage.depth, stage.width, at, settings_words(canonical)))
    head = f"1x1 to {network.head.width}, then " if network.head.width else ""
    rows.append(("classes", "", 0, network.classes, 1, f"{head}average, linear"))
    return pd.DataFrame(rows, columns=STAGES)


def settings_words(stage: Stage) -> str:
    """A stage's settings in words, without block, depth and width."""
    words = [
        f"{stage.kernel}x{stage.kernel}",
        f"{stage.groups} groups" if stage.groups > 1 else "",
        f"expanded {stage.expansion}x" if stage.expansion > 1 else "",
        f"SE {stage.se}" if stage.se else "",
        "shortcuts" if stage.residual else "",
        f"repeated {stage.repeat}x" if stage.repeat > 1 else "",
        stage.activation,
    ]
    return ", ".join(filter(None, words))


def _boxes(stages: pd.DataFrame) -> Iterator[Box]:
    for place, row in enumerate(stages.to_dict("records")):
        blocks = f"{row['blocks']} blocks" if row["blocks"] > 1 else ""
        title = (row["block"] or row["stage"]).replace("-", "-<br>")
        details = [blocks, *row["settings"].split(", ")]
        yield Box(
            left=COLUMN * place,
            slabs=max(1, row["blocks"]),
            height=math.log2(row["channels"] + 1),
            colour=block_colour(row["block"]) if row["block"] else GREY,
            above=f"{row['channels']} x {row['pixels']}²",
            below="<br>".join([f"<b>{title}</b>", *filter(None, details)]),
        )


def _draw(figure: go.Figure, box: Box) -> None:
    step = min(SLAB, MOST_SLABS / box.slabs)
    for slab in range(box.slabs):
        x = box.left + slab * step
        figure.add_shape(
            type="rect",
            x0=x,
            x1=x + step * (1 - GAP),
            y0=0,
            y1=box.height,
            fillcolor=box.colour,
            line={"width": 0},
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
    """Stages, blocks and layers, each as wide as its bytes; together they are the file."""
    if not is_known(view):
        return nothing(UNKNOWN, LAYERS)
    if pd.isna(view.row["bytes"]):
        return nothing(UNBUILT, LAYERS)
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
            leaf={"opacity": 1},
            marker={"colors": parts["colour"], "line": {"width": 1, "color": "#FFFFFF"}},
            textfont={"color": [ink_on(colour) for colour in parts["colour"]]},
            tiling={"orientation": "v"},
            customdata=parts["words"],
            hovertemplate="%{customdata}, %{percentRoot:.1%}<extra></extra>",
            sort=False,
        )
    )
    figure.update_layout(margin={"l": 4, "r": 4, "t": 4, "b": 4}, uniformtext=READABLE)
    return Picture(figure, data, "Click a part to look into it.")


def stored_layers(view: TrialView) -> pd.DataFrame:
    """layer, type, stage, block, output, bytes, parameters, macs; the file's header as a part."""
    layers = layers_of(view.row, view.subject.spec)
    rows: list[tuple[object, ...]] = [
        (x["name"], x["type"], *_place(x["name"]), _output(x), *(x[size] for size in COSTS))  # type: ignore[literal-required]
        for x in layers
        if x["bytes"]
    ]
    header = int(view.row["bytes"]) - sum(layer["bytes"] for layer in layers)
    rows.append(("header", "file header", "header", "", "", header, 0, 0))
    return pd.DataFrame(rows, columns=LAYERS)


def _output(layer: LayerRow) -> str:
    return " x ".join(map(str, layer["output"]))


def _place(layer: str) -> tuple[str, str]:
    """Stage and block of a layer's name: `s1.0.conv`."""
    stage, block, *_ = layer.split(".")
    if not stage.startswith("s"):
        return stage, ""
    place = int(stage[1:])
    return (f"stage {place}" if place else "stem"), f"block {int(block) + 1}"


def _tree(layers: pd.DataFrame, whole: int, colours: Mapping[str, str]) -> pd.DataFrame:
    """Rows of an icicle: id, label, parent, bytes, colour, words."""
    whole_words = f"file, {format_bytes(whole)}"
    rows: list[tuple[object, ...]] = [("file", whole_words, "", whole, GREY, f"{whole:,} bytes")]
    drawn = set()
    for stage, block in layers[["stage", "block"]].drop_duplicates().to_numpy().tolist():
        of_stage, colour = layers[layers["stage"] == stage], colours.get(stage, GREY)
        inner = of_stage[of_stage["block"] == block]
        if stage not in drawn:
            rows.append(_part(of_stage, stage, stage, "file", colour))
            drawn.add(stage)
        parent = f"{stage}/{block}" if block else stage
        if block:
            rows.append(_part(inner, parent, block, stage, colour))
        leaves = inner[inner["layer"] != stage]  # the header has no layers
        rows.extend(_leaf(row, parent, colour) for _, row in leaves.iterrows())
    return pd.DataFrame(rows, columns=["id", "label", "parent", "bytes", "colour", "words"])


def _part(
    layers: pd.DataFrame, key: str, label: str, parent: str, colour: str
) -> tuple[object, ...]:
    size = int(layers["bytes"].sum())
    return key, label, parent, size, colour, f"{key.replace('/', ', ')}: {format_bytes(size)}"


def _leaf(row: pd.Series, parent: str, colour: str) -> tuple[object, ...]:
    name, kind = row["layer"].split(".")[-1], row["type"]
    label = kind if kind.startswith(name) else f"{name} {kind}"
    words = (
        f"{row['layer']} {row['type']} to {row['output']}: {row['bytes']:,} bytes, "
        f"{row['parameters']:,} parameters, {row['macs']:,} MACs"
    )
    return f"layer/{row['layer']}", label, parent, row["bytes"], colour, words


def stage_colours(row: pd.Series) -> dict[str, str]:
    """Stage -> the colour of its block type; parts that are no stage are grey."""
    network = Architecture.from_dict(dict(row["architecture"]))
    stages = (network.stem, *network.stages)
    return {
        f"stage {place}" if place else "stem": block_colour(stage.block)
        for place, stage in enumerate(stages)
    }
