"""The file: its size, known before its bytes are; its header, there and back."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import architectures, cards, plain_card

from space.architecture import Architecture, Stage
from space.errors import InputError
from space.file_format import (
    FORMATS,
    METADATA_KEY,
    header_entries,
    payload,
    read_header,
    stored_bytes,
    weights,
)

DTYPES = {"F32": torch.float32, "F16": torch.float16, "I8": torch.int8}
SMALL = Architecture(stem=Stage(width=8), stages=(Stage(width=16, se=4),), classes=3)
CARD = plain_card(SMALL)


@settings(max_examples=150)
@given(st.data())
def test_predicted_size_is_the_size_on_disk(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    architecture = data.draw(architectures())
    metadata = data.draw(cards(architecture))
    path = tmp_path_factory.getbasetemp() / "student.safetensors"
    for format in FORMATS:
        flat = {
            name: torch.zeros(count, dtype=DTYPES[dtype])
            for name, (dtype, count) in payload(architecture, format).items()
        }
        safetensors.torch.save_file(
            flat, path, metadata=header_entries(architecture, metadata, format)
        )
        assert os.path.getsize(path) == stored_bytes(architecture, format, metadata)


@given(st.data())
def test_header_there_and_back(data: st.DataObject) -> None:
    architecture = data.draw(architectures())
    metadata = data.draw(cards(architecture))
    for format in FORMATS:
        entry = header_entries(architecture, metadata, format)
        assert list(entry) == [METADATA_KEY]
        assert entry[METADATA_KEY].isascii()
        assert read_header(entry) == (architecture, metadata, format)


def test_payload_counts_elements_and_rows() -> None:
    elements = sum(weight.elements for weight in weights(SMALL))
    rows = sum(weight.shape[0] for weight in weights(SMALL))
    assert payload(SMALL, "fp32") == {"f": ("F32", elements + rows)}
    assert payload(SMALL, "fp16") == {"h": ("F16", elements + rows)}
    assert payload(SMALL, "int8") == {"q": ("I8", elements), "h": ("F16", 2 * rows)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"v": 2}, "version 1"),
        ({"format": "int4"}, "one of fp32, fp16, int8"),
        ({"format": 8}, "format must be text"),
        ({"classes": ["a"]}, "3 classes, but 1 class names"),
        ({"classes": [1, 2, 3]}, "classes, item 1 must be text, but got 1"),
        ({"classes": "abc"}, "classes must be a list"),
        ({"mean": [0.5]}, "mean must be one number per channel"),
        ({"mean": [0.5, 0.5, float("nan")]}, "mean must be finite"),
        ({"mean": [True, 0.5, 0.5]}, "mean, item 1 must be a number, but got True"),
        ({"std": [0.0, 1.0, 1.0]}, "std must be more than 0"),
        ({"std": [10**400, 1.0, 1.0]}, "std, item 1 must be finite"),
        ({"size": 0}, "input size must be 1 to"),
        ({"size": "8"}, "size must be a whole number"),
        ({"recipe": "12"}, "recipe fingerprint must be 12"),
        ({"architecture": 5}, "architecture must be a table of settings"),
    ],
)
def test_damaged_header_is_one_clear_line(change: dict[str, Any], words: str) -> None:
    document = json.loads(header_entries(SMALL, CARD, "int8")[METADATA_KEY])
    with pytest.raises(InputError, match=words) as error:
        read_header({METADATA_KEY: json.dumps(document | change)})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["format", "architecture", "classes", "size", "mean", "recipe"])
def test_missing_key_is_named(key: str) -> None:
    document = json.loads(header_entries(SMALL, CARD, "int8")[METADATA_KEY])
    del document[key]
    with pytest.raises(InputError, match=key):
        read_header({METADATA_KEY: json.dumps(document)})


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1", "null"])
def test_header_that_is_no_document(text: str) -> None:
    with pytest.raises(InputError):
        read_header({METADATA_KEY: text})


def test_file_of_another_program() -> None:
    with pytest.raises(InputError, match="not written by DistilNAS"):
        read_header({"format": "pt"})


def test_unknown_format_lists_the_valid_ones() -> None:
    with pytest.raises(InputError, match="fp32, fp16, int8"):
        stored_bytes(SMALL, "int4", CARD)


def test_card_must_suit_the_architecture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="class names"):
        header_entries(SMALL, replace(CARD, classes=("a",)), "int8")
