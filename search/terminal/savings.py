"""What stopping trials early has saved, from a study's table."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from search.database.row import originals


class Savings(NamedTuple):
    """Of the trials for which something was trained."""

    trained: int  # trials that ended
    stopped: int  # of them, early: by the pruner
    epochs: int  # that all of them would have taken
    saved: int  # of those, not trained because trials were stopped

    @property
    def words(self) -> str:
        """`13 of 16 trials were stopped early, which saved 180 of 320 epochs (56 %)`."""
        if not self.stopped:
            return f"none of {self.trained} trials was stopped early"
        verb = "was" if self.stopped == 1 else "were"
        return (
            f"{self.stopped:,} of {self.trained:,} trials {verb} stopped early, which saved "
            f"{self.saved:,} of {self.epochs:,} epochs ({self.saved / self.epochs:.0%})"
        )


def savings(trials: pd.DataFrame, spec: Mapping[str, Any]) -> Savings | None:
    """What a search's pruner saved; None for one that has none, and before a trial has ended.

    Args:
        trials: columns state, epochs and duplicate_of of `search.database.table.trials`.
        spec: of the study, as stored.
    """
    if spec.get("pruner", "none") == "none":
        return None
    trained = originals(trials[trials["epochs"].notna()])
    if trained.empty:
        return None
    epochs = int(spec["recipe"]["epochs"])
    stopped = trained.loc[trained["state"] == "PRUNED", "epochs"]
    saved = int((epochs - stopped).sum())
    return Savings(len(trained), len(stopped), epochs * len(trained), saved)
