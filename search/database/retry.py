"""A study database that goes away for a while: whatever was asked of it is asked again."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from space.errors import first_line

Result = TypeVar("Result")

PATIENCE_SECONDS = 600.0  # that a database may be away
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between two attempts
# Of SQLite: asking again mends none of these.
LASTING = ("disk is full", "readonly database", "no such table", "malformed", "not a database")

Say = Callable[[str], None]


class Retry:
    """Asks until there is an answer, or patience ends."""

    def __init__(self, seconds: float = PATIENCE_SECONDS, say: Say = lambda text: None) -> None:
        self.seconds, self.say = seconds, say

    def __call__(self, ask: Callable[[], Result]) -> Result:
        """What `ask` returns; it must change nothing if it is done twice.

        Raises:
            StorageInternalError, SQLAlchemyError: the last attempt's, when patience has ended, or
                one that another attempt would not mend.
        """
        began, pause = time.monotonic(), FIRST_PAUSE
        told = False
        while True:
            try:
                answer = ask()
            except Exception as error:
                if not is_passing(error) or time.monotonic() - began > self.seconds:
                    raise
                if not told and pause > 1:  # a restart that takes a second is nobody's business
                    told = True
                    self.say(
                        "the study database does not answer "
                        f"({_first_line(error)}); asking again for {self.seconds / 60:.0f} min"
                    )
            else:
                if told:
                    self.say("the study database answers again")
                return answer
            # Not all at the same moment: many workers wait for the same database.
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, LONGEST_PAUSE)


def is_passing(error: BaseException) -> bool:
    """Whether the database may answer the same question a little later."""
    cause = error.__cause__ if not isinstance(error, DBAPIError) else error
    if not isinstance(cause, DBAPIError):
        return False
    passing = isinstance(cause, OperationalError | InterfaceError) or cause.connection_invalidated
    return passing and not any(words in str(cause.orig) for words in LASTING)


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ if not isinstance(error, DBAPIError) else error
    return first_line(cause.orig if isinstance(cause, DBAPIError) and cause.orig else error)
