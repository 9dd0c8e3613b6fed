"""The one exception that the command line turns into one line and exit status 2."""

import reprlib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: the rule, the value that breaks it, the way out.
    """


def first_line(error: BaseException) -> str:
    """What an exception says, in one line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def shown(value: object) -> str:
    """`repr(value)`, shortened: a damaged file must not fill the screen."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    return short.repr(value)


def require(name: str, value: object, holds: bool, rule: str) -> None:
    """Raise InputError `name must be rule, but got value` unless the rule holds."""
    if not holds:
        raise InputError(f"{name} must be {rule}, but got {shown(value)}")


def require_range(name: str, value: int, lowest: int, highest: int) -> None:
    """Raise InputError unless lowest <= value <= highest."""
    require(name, value, lowest <= value <= highest, f"{lowest:,} to {highest:,}")


def require_one_of(name: str, value: object, valid: Iterable[str]) -> None:
    """Raise InputError, listing the valid names, unless the value is one of them."""
    names = tuple(valid)
    require(name, value, value in names, f"one of {', '.join(names)}")
