"""One line of an exception, whatever it says."""

import pytest

from space.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (OSError("\n  spaced  \nmore"), "spaced"),
        (AssertionError(), "AssertionError"),
        (RuntimeError(" \n "), "RuntimeError"),
    ],
)
def test_the_first_line_is_one(error: Exception, line: str) -> None:
    assert first_line(error).strip() == line
