"""A study database that goes away for a while: whatever was asked of it is asked again."""

import functools
import random
import time
from collections.abc import Callable, Container
from typing import Any, TypeVar

import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from search.database.frozen_trials import read_trials
from space.errors import first_line

Result = TypeVar("Result")

PATIENCE_SECONDS = 600.0  # that a database may be away
READING = "distilnas_reading"  # a connection's option: its transaction writes nothing
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


class RetryingStorage(RDBStorage):
    """Optuna's storage, which outlasts a database's absence."""

    def __init__(
        self,
        url: str,
        retry: Retry,
        engine_kwargs: dict[str, Any],
        read_only: bool = False,
    ) -> None:
        self.retry, self.read_only = retry, read_only
        super().__init__(url, engine_kwargs=engine_kwargs)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        return self.read(
            lambda connection: read_trials(
                connection, study_id, states, included_trial_ids, trial_id_greater_than
            )
        )

    def read(self, question: Callable[[sa.Connection], Result]) -> Result:
        """The answer to a question that changes nothing, from one moment of the database."""

        def ask() -> Result:
            with self.engine.connect().execution_options(**{READING: True}) as connection:
                return question(connection)

        return self.retry(ask)


# All that Optuna asks while a study runs; each is one transaction that may be done twice.
ASKED = (
    "set_study_user_attr",
    "set_study_system_attr",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "get_trial",
    "get_trial_user_attrs",
    "get_trial_system_attrs",
    "get_trial_id_from_study_id_trial_number",
    "get_all_trials",
    "_get_best_trial_id",
    "_set_trial_param",
)


def _outlasting(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def asked(self: RetryingStorage, *args: Any, **kwargs: Any) -> Any:
        return self.retry(lambda: method(self, *args, **kwargs))

    return asked


for _name in ASKED:
    setattr(RetryingStorage, _name, _outlasting(getattr(RDBStorage, _name)))
