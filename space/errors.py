"""The one exception that the command line turns into one line and exit status 2."""

import reprlib


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: the rule, the value that breaks it, the way out.
    """


def shown(value: object) -> str:
    """`repr(value)`, shortened: a damaged file must not fill the screen."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    return short.repr(value)
