"""Trying again what fails for a while: a database or a store of files that is away."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0  # seconds
QUIET_SECONDS = 1.0  # of an absence that nobody needs to be told of

Say = Callable[[str], None]


def pauses() -> Iterator[float]:
    """Seconds to wait before each further attempt, each time about twice as long.

    They are random in part: many workers that wait for the same thing must not all come at once.
    """
    pause = FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1)
        pause = min(2 * pause, LONGEST_PAUSE)


@dataclass
class Retry:
    """Tries again until there is an answer or patience ends."""

    what: str  # is asked, in words
    passing: Callable[[Exception], str | None]  # why another attempt may do; None: it would not
    patience: float  # seconds
    say: Say = lambda text: None
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def __call__(self, attempt: Callable[[], Result]) -> Result:
        """What `attempt` returns. Doing it twice must be the same as doing it once.

        Raises:
            Exception: the last attempt's, when patience has ended or another attempt is useless.
        """
        began, waits, told = self.now(), pauses(), False
        while True:
            try:
                answer = attempt()
            except Exception as error:
                why, away = self.passing(error), self.now() - began
                if why is None or away > self.patience:
                    raise
                if not told and away > QUIET_SECONDS:
                    told = True
                    minutes = f"{self.patience / 60:.0f} min"
                    self.say(f"{self.what} does not answer ({why}); trying again for {minutes}")
            else:
                if told:
                    self.say(f"{self.what} answers again")
                return answer
            self.sleep(next(waits))
