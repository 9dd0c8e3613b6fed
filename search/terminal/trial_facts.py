"""What a trial's row says of its student, in words and layer by layer; without torch."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import pandas as pd
from rich.table import Table

from search.study.plan import is_plan
from search.terminal import output
from space.architecture import Architecture
from space.count import layer_costs
from space.file_format import ELEMENT_BYTES, arrays_payload, layer_weights
from space.layers import Layer
from space.solver import format_bytes
from trainers.ranges import suffix, values_words


def facts(row: pd.Series, spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of a trial: (name, words); of another program's, its value."""
    if not spec:
        return [] if pd.isna(row["value"]) else [("value", f"{row['value']:.6g}")]
    known = planned(row, spec)
    searched = row["searched"] if isinstance(row["searched"], Mapping) else None
    if isinstance(row["words"], str):
        shape = row["words"].removesuffix(suffix(searched) if searched else "")
        known.append(("architecture", shape))
    if searched:
        known.append(("searched", values_words(searched)))
    if not pd.isna(row["size"]):
        known.append(("input", f"{int(row['size'])} pixels"))
    if not pd.isna(row["bytes"]):
        solved = not pd.isna(row["budget_share"])
        share = f" ({row['budget_share']:.1%} of the budget)" if solved else ""
        known.append(("size", f"{int(row['bytes']):,} bytes{share}, {int(row['params']):,} params"))
        peak = format_bytes(int(row["activation_peak"]))
        known.append(("work", f"{int(row['macs']):,} MACs, {peak} of RAM for activations in int8"))
    if not pd.isna(row["value"]):
        stored = not pd.isna(row["file_accuracy"])
        network = f" of the file ({row['network_accuracy']:.2%} before storing)" if stored else ""
        known.append(("accuracy", f"{row['value']:.2%}{network}"))
    if isinstance(row["accuracies"], list):
        curve = " ".join(f"{accuracy:.1%}" for accuracy in row["accuracies"])
        known.append(("epochs", curve))
    if not pd.isna(row["seconds"]) and pd.isna(row["trained_as"]):
        known.append(("trained", f"{row['seconds']:.1f} s on {row['device']}"))
    if not pd.isna(row["trained_as"]):
        known.append(("network", f"of trial {int(row['trained_as'])}, not trained again"))
    if isinstance(row["reason"], str) and row["reason"]:
        known.append(("ended", row["reason"]))
    if isinstance(row["repairs"], list) and row["repairs"]:
        known.append(("repairs", "; ".join(row["repairs"])))
    return known


def planned(row: pd.Series, spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Which arm of an ablation it is, over which seed; nothing for a search's."""
    if not is_plan(spec) or not isinstance(row.get("params_arm"), str):
        return []
    arm = row["params_arm"] + (" (the baseline)" if row["params_arm"] == spec["baseline"] else "")
    levels = [f"{factor} {row[f'params_{factor}']}" for factor in spec["factors"]]
    named = [("arm", arm), ("seed", str(int(row["params_seed"])))]
    return named + [("levels", ", ".join(levels))] * bool(levels)


class LayerRow(TypedDict):
    """A layer, as it is listed."""

    name: str
    type: str
    output: list[int]  # C, H, W
    parameters: int
    macs: int
    bytes: int  # of its arrays in the file


def size_of(row: pd.Series, spec: Mapping[str, Any]) -> int:
    """Pixels of a trial's input: its own where the study has several sizes."""
    return int(spec["size"] if pd.isna(row["size"]) else row["size"])


def layers_of(row: pd.Series, spec: Mapping[str, Any]) -> list[LayerRow]:
    """Every layer of a trial's network."""
    architecture = Architecture.from_dict(row["architecture"])
    own = row["format"]  # studies of earlier versions have it in their budget only
    format = own if isinstance(own, str) else spec["budget"]["format"]
    found = []
    for cost in layer_costs(architecture, size_of(row, spec)):
        layer, side = cost.layer, cost.output_size
        found.append(
            LayerRow(
                name=layer.name,
                type=_type(layer),
                output=[layer.outputs, side, side],
                parameters=cost.parameters,
                macs=cost.macs,
                bytes=_stored(layer, format),
            )
        )
    return found


def _stored(layer: Layer, format: str) -> int:
    """Bytes of a layer's arrays in the file."""
    flat = arrays_payload(layer_weights(layer), format).values()
    return sum(ELEMENT_BYTES[dtype] * count for dtype, count in flat)


def _type(layer: Layer) -> str:
    has_kernel = layer.op in ("conv", "cheap", "split")
    kernel = f" {layer.kernel}x{layer.kernel}" if has_kernel else ""
    groups = f" g{layer.groups}" if layer.groups > 1 else ""
    stride = f" /{layer.stride}" if layer.stride > 1 else ""
    times = f", {layer.times} times" if layer.times > 1 else ""
    return f"{layer.op}{kernel}{groups}{stride}{times}"


def layers_table(layers: Sequence[LayerRow]) -> Table:
    """Every layer, and their sum, for a terminal."""
    made = output.rows_table("layer", "type", "output", "params", "MACs", "bytes")
    for layer in layers:
        channels, side, _ = layer["output"]
        made.add_row(
            layer["name"],
            layer["type"],
            f"{channels} x {side} x {side}",
            f"{layer['parameters']:,}",
            f"{layer['macs']:,}",
            f"{layer['bytes']:,}",
        )
    parameters, macs, stored = (
        sum(sizes)
        for sizes in zip(*((x["parameters"], x["macs"], x["bytes"]) for x in layers), strict=True)
    )
    made.add_section()
    made.add_row(
        "all",
        "without the header",
        "",
        f"{parameters:,}",
        f"{macs:,}",
        f"{stored:,} ({format_bytes(stored)})",
    )
    return made
