"""The one exception that the command line turns into one line and exit status 2."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: the rule, the value that breaks it, the way out.
    """
