"""What a worker uses up of a study's limits."""

from collections.abc import Callable

import sqlalchemy as sa

from search.study.limits import Limits, Spent, account
from search.workers.stopping import StopRequest


class Usage:
    """Device seconds of this worker that are not in the study's account yet."""

    def __init__(self, limits: Limits, stop_request: StopRequest, now: Callable[[], float]) -> None:
        """Start counting.

        Args:
            limits: the study's.
            stop_request: gets the limit that is reached, if one is.
            now: seconds by a clock that never jumps.
        """
        self.limits, self.stop_request, self.now = limits, stop_request, now
        self.devices, self.seconds, self.counted = 1, 0.0, now()

    @property
    def limited(self) -> bool:
        return any(limit is not None for limit in self.limits)

    def count(self, training: bool) -> None:
        """Count up to now.

        Args:
            training: whether this worker has trained since it counted last.
        """
        now = self.now()
        self.seconds += (now - self.counted) * self.devices if training else 0.0
        self.counted = now

    def add_to(self, connection: sa.Connection, study: int, training: bool, grace: float) -> Spent:
        """Add them to the study's account; call `added` once that is committed."""
        return account(connection, study, self.seconds, training, grace)

    def added(self, spent: Spent) -> None:
        self.seconds = 0.0
        self.stop_request.limit = self.limits.reached(spent)
