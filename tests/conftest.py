"""Fixtures of several files: folders of made-up photographs, the food photographs, the GPU,
a PostgreSQL server."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import torch
from PIL import Image
from playwright.sync_api import sync_playwright

from benchmarks import postgres_server

# As in `commands.environment`: what is trained here is compared with what those processes train.
torch.set_num_threads(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture
def make_photograph() -> Callable[..., Path]:
    """`make_photograph(path, seed)` writes noise of 24 x 20 pixels, JPEG or by the ending."""

    def make(path: Path, seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return make


@pytest.fixture
def make_folder(make_photograph: Callable[..., Path]) -> Callable[..., Path]:
    """`make_folder(root, {"train/a/{}.jpg": 5})` writes five photographs, numbered from 0."""

    def make(root: Path, counts: Mapping[str, int]) -> Path:
        seed = 0
        for pattern, count in counts.items():
            for number in range(count):
                make_photograph(root / pattern.format(number), seed)
                seed += 1
        return root

    return make


@pytest.fixture
def flat_folder(tmp_path: Path, make_folder: Callable[..., Path]) -> Path:
    """Two classes in Food-11's layout: 5 and 6 photographs to train on, 2 and 2, 3 and 3."""
    counts = {
        "training/0_{}.jpg": 5,
        "training/1_{}.jpg": 6,
        "validation/0_{}.jpg": 2,
        "validation/1_{}.jpg": 2,
        "evaluation/0_{}.jpg": 3,
        "evaluation/1_{}.jpg": 3,
    }
    return make_folder(tmp_path / "flat", counts)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache folder that is not there yet."""
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def food() -> Path:
    """The unpacked food photographs that DISTILNAS_FOOD names."""
    folder = os.environ.get("DISTILNAS_FOOD", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs the folder of food photographs that DISTILNAS_FOOD names")
    return Path(folder)


@pytest.fixture(scope="session")
def postgres_server_address() -> Iterator[str]:
    """The address of a PostgreSQL server's first database: who uses it leaves it empty."""
    if postgres_server.missing():
        pytest.skip(f"needs PostgreSQL; missing: {postgres_server.missing()}")
    with postgres_server.Server() as server:
        yield server.address


@pytest.fixture
def postgres(postgres_server_address: str) -> Iterator[str]:
    """The address of an empty database."""
    address = sa.make_url(postgres_server_address).set(database=f"test_{secrets.token_hex(4)}")
    server = sa.create_engine(
        postgres_server_address, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT"
    )
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {address.database}"))
    yield address.render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {address.database} WITH (FORCE)"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs Debian's chromium: apt-get install chromium")
    flags = ["--disable-gpu", "--enable-unsafe-swiftshader", "--disable-background-networking"]
    root = ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to run as root otherwise
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*flags, *root])
        yield browser
        browser.close()
