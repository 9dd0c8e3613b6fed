"""Stop requests: a first signal stops after the epoch, with a checkpoint; a second one at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HEEDED = (signal.SIGINT, signal.SIGTERM)
STDERR = 2


class Stopped(KeyboardInterrupt):
    """Raised to stop because the process was asked to."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.status = 128 + number  # as shells report the end by a signal


class StopRequest:
    """Whether this process should start nothing more, and why."""

    def __init__(self) -> None:
        self.signal: int | None = None  # the one that was received
        self.limit: str | None = None  # of the study's limits, the one that is reached, in words

    @property
    def asked(self) -> bool:
        return self.signal is not None or self.limit is not None

    def raise_if_stopped(self) -> None:
        if self.signal is not None:
            raise Stopped(self.signal)

    @contextmanager
    def handling_signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM are requests within this context; outside, they end the process."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread receives signals
            return
        before = {number: signal.getsignal(number) for number in HEEDED}
        for heeded in HEEDED:
            if before[heeded] is not signal.SIG_IGN:  # as nohup sets it
                signal.signal(heeded, self._heed)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heed(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise Stopped(number)
        self.signal = number
        again = "Ctrl-C again" if number == signal.SIGINT else "the same signal again"
        # Not through the console, which this may interrupt in the middle of a line.
        os.write(STDERR, f"\nleaving after this epoch; {again} leaves at once\n".encode())
