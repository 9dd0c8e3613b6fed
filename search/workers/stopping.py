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
    """The process was asked to leave, and does."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.status = 128 + number  # as the shell says of a process that a signal ended


class StopRequest:
    """Whether this process should begin nothing more, and why."""

    def __init__(self) -> None:
        self.signal: int | None = None  # that asked
        self.limit: str | None = None  # of the study, that is reached

    @property
    def asked(self) -> bool:
        return self.signal is not None or self.limit is not None

    def raise_if_stopped(self) -> None:
        if self.signal is not None:
            raise Stopped(self.signal)

    @contextmanager
    def handling_signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM are heeded here; elsewhere they end the process as always."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread is told of signals
            return
        before = {number: signal.getsignal(number) for number in HEEDED}
        for heeded in HEEDED:
            if before[heeded] is not signal.SIG_IGN:  # as nohup wishes
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
        # Not by the console: this may interrupt it in the middle of a line.
        os.write(STDERR, f"\nleaving after this epoch; {again} leaves at once\n".encode())
