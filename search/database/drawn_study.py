"""Some trials of a study as a study of their own, in memory: for Optuna's own computations.

Importing this loads Optuna.
"""

from collections.abc import Sequence

import optuna
import sqlalchemy as sa

from search.database import queries as rows
from search.database.frozen_trials import read_trials

NAME = "drawn"


def drawn(engine: sa.Engine, name: str, numbers: Sequence[int]) -> optuna.Study:
    """Trials with their parameters, distributions and values, and which way the study goes.

    Optuna's `add_trials` would check them, and refuse what Optuna's own studies may hold: a value
    that somebody enqueued beyond its distribution.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with rows.connection(engine) as connection:
        study = rows.study_id(connection, name)
        directions = rows.directions(connection, study)
        trials = rows.read(
            connection, "SELECT trial_id, number FROM trials WHERE study_id = :study", study=study
        )
        wanted = set(trials.loc[trials["number"].isin(numbers), "trial_id"].tolist())
        found = read_trials(connection, study, None, wanted, rows.EVERY)
    storage = optuna.storages.InMemoryStorage()
    ways = [optuna.study.StudyDirection[way] for way in directions]
    made = optuna.create_study(storage=storage, study_name=NAME, directions=ways)
    identity = storage.get_study_id_from_name(NAME)
    for trial in found:
        trial.user_attrs, trial.intermediate_values = {}, {}  # long, and of no concern here
        storage.create_new_trial(identity, template_trial=trial)
    return made
