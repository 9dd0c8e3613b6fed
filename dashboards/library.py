"""The studies of one database as views. Reads only, and never a finished trial twice."""

from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import sqlalchemy as sa

from dashboards.filters import Filters
from dashboards.views import (
    AblationView,
    Mark,
    Subject,
    TrialView,
    View,
)
from search.database import study_list, table
from search.database.address import database_errors
from search.database.engine import open_engine
from search.database.row import OVERVIEW_COLUMNS
from search.study.folder import ARTIFACTS, Folder
from search.study.object_store import is_address
from search.study.plan import AblationSpec, is_plan
from search.terminal.answer import Answer, answer
from space.count import cost
from space.errors import InputError
from space.file_format import StudentMetadata, normalisation, stored_bytes
from space.spaces import REFERENCES, reference

if TYPE_CHECKING:
    import optuna

FINISHED = ("COMPLETE", "PRUNED", "FAIL")
NOT_FLOATS = ("number", "state", "started", "completed", "words", "reason", "block", "se")


class Read(NamedTuple):
    """A study's trials as they were at one moment."""

    version: str
    trials: pd.DataFrame


@dataclass
class Library:
    """Reads a database for pages and reports.

    Finished trials never change, so only the others, and new ones, are read again.
    """

    storage: str
    engine: sa.Engine = field(init=False)
    _read: dict[int, Read] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)  # a page sends several requests at once

    def __post_init__(self) -> None:
        with database_errors(self.storage):
            self.engine = open_engine(self.storage)
            self.studies()  # so that a wrong database is one line now, not an error on a page

    def studies(self) -> pd.DataFrame:
        """Columns as in `search.database.study_list.studies`; the last active study first."""
        return study_list.studies(self.engine).sort_values("last_activity", ascending=False)

    def name(self, identity: int) -> str:
        names = study_list.names(self.engine)
        if identity not in names:
            raise InputError(f"there is no study {identity} in this database")
        return names[identity]

    def identity(self, name: str) -> int:
        """A study's number. Raises InputError, naming the studies, if there is none."""
        identities = {name: identity for identity, name in study_list.names(self.engine).items()}
        if name not in identities:
            known = ", ".join(list(identities)[:8]) or "none"
            raise InputError(f"no study is named {name!r} in this database; there are: {known}")
        return identities[name]

    def subject(self, identity: int) -> Subject:
        name = self.name(identity)
        attributes = table.attributes(self.engine, name)
        spec = table.spec_of(attributes)
        goal = table.goal(self.engine, name, spec)
        return Subject(identity, name, spec, attributes, goal)

    def version(self, identity: int) -> str:
        """Changes with the study: see `search.database.table.version`."""
        return table.version(self.engine, self.name(identity))

    def trials(self, identity: int) -> pd.DataFrame:
        """All trials, as `dashboards.views` describes them."""
        name = self.name(identity)
        with self._lock:
            version, before = table.version(self.engine, name), self._read.get(identity)
            if before is None or before.version != version:
                before = Read(version, self._fresh(name, before))
                self._read[identity] = before
            return before.trials

    def warm(self) -> None:
        """Read the study that was active last, before somebody asks for it."""
        studies = self.studies()
        if len(studies):
            self.trials(int(studies["identity"].iloc[0]))

    def _fresh(self, name: str, before: Read | None) -> pd.DataFrame:
        known = _finished_part(before.trials) if before else pd.DataFrame()
        columns, since = OVERVIEW_COLUMNS, len(known)
        new = _as_numbers(table.trials(self.engine, name, columns, with_params=False, since=since))
        return pd.concat([known, new], ignore_index=True) if since else new

    def study(self, identity: int, filters: Filters) -> View | AblationView:
        """What a study's page and report show of it: this alone depends on the study's kind."""
        is_ablation = is_plan(self.subject(identity).spec)
        return self.ablation(identity) if is_ablation else self.view(identity, filters)

    def view(self, identity: int, filters: Filters) -> View:
        subject, trials = self.subject(identity), self.trials(identity)
        return View(
            subject=subject,
            trials=filters.apply(trials),
            filters=filters,
            study=lambda numbers: self._drawn(subject.name, numbers),
            curves=lambda numbers: table.curves(self.engine, subject.name, numbers),
            all=trials,
            references=lambda axis: reference_marks(subject, axis),
            teachers=teacher_marks(subject),
        )

    def _drawn(self, name: str, numbers: list[int]) -> "optuna.Study":
        # Importing Optuna takes a second, and other charts do not need it.
        from search.database.frozen_trials import drawn

        return drawn(self.engine, name, numbers)

    def ablation(self, identity: int) -> AblationView:
        """Raises InputError where the study is no ablation."""
        # Importing statsmodels takes a second, and pages of searches do not need it.
        from search.ablation.effects import analyse, interactions
        from search.terminal.evidence import with_notes

        subject = self.subject(identity)
        if not is_plan(subject.spec):
            raise InputError(f"study {subject.name!r} is no ablation")
        trials = table.trials(self.engine, subject.name)
        plan = AblationSpec.from_dict(subject.spec)
        analysis = with_notes(analyse(trials, plan), trials, subject.attributes)
        return AblationView(subject, plan, trials, analysis, interactions(trials, plan))

    def answer(self, view: View | AblationView) -> Answer:
        """What a study's page begins with, whatever the filters."""
        subject = view.subject
        if isinstance(view, AblationView):
            trials, analysis = view.trials, view.analysis
        else:
            trials, analysis = view.all, None
        told = subject.attributes, subject.goal, analysis
        return answer(self.engine, self.storage, subject.name, trials, *told)

    def trial(self, identity: int, number: int) -> TrialView:
        subject = self.subject(identity)
        name = subject.name
        found = table.trials(self.engine, name, since=number, until=number)
        if found.empty:
            raise InputError(f"study {name!r} has no trial {number}")
        curve = table.curves(self.engine, name, [number])
        if not subject.spec:
            return TrialView(subject, found.iloc[0], curve, None)
        confusion = table.trial_attribute(self.engine, name, number, "confusion")
        formats = table.trial_attribute(self.engine, name, number, "format_accuracy")
        return TrialView(subject, found.iloc[0], curve, confusion, formats)

    def folder(self, subject: Subject) -> Folder:
        """The folder of its files. Raises InputError for a name that no study of ours has."""
        return folder_of(self.engine, self.storage, subject.name)


def folder_of(engine: sa.Engine, storage: str, name: str) -> Folder:
    """A study's folder: the one that it states if that has its name, never an object store."""
    stated = table.attributes(engine, name).get(ARTIFACTS)
    own = isinstance(stated, str) and not is_address(stated) and Path(stated).name == name
    return Folder(storage, name, stated if own else None)


def _finished_part(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials before the first that may still change."""
    changing = (~trials["state"].isin(FINISHED)).to_numpy()
    return trials.iloc[: int(changing.argmax())] if changing.any() else trials


def _as_numbers(trials: pd.DataFrame) -> pd.DataFrame:
    """Numeric columns as floats, even where every value is missing."""
    for column in trials.columns.difference([*NOT_FLOATS]):
        trials[column] = pd.to_numeric(trials[column], errors="coerce").astype(float)
    return trials


def reference_marks(subject: Subject, axis: str) -> list[Mark]:
    """Sizes of the reference architectures on this study's data; none if the data is not known."""
    spec, size = subject.spec, subject.size
    if not subject.classes or size is None:
        return []
    marks = []
    for name in REFERENCES:
        network = reference(name, classes=len(subject.classes), channels=spec["channels"])
        try:
            network.check()
            counted = cost(network, card_of(subject))
        except InputError:
            continue  # this input is too small for it
        sizes = {"params": counted.parameters, "macs": counted.macs}
        if axis == "bytes":
            budget = subject.budget
            sizes["bytes"] = stored_bytes(
                network, budget.format if budget else "int8", card_of(subject)
            )
        marks.append(Mark(name, sizes[axis], None))
    return marks


def card_of(subject: Subject) -> StudentMetadata:
    """The metadata in the files of the study's students."""
    spec = subject.spec
    mean, std = normalisation(spec["channels"])
    return StudentMetadata(classes=subject.classes, size=spec["size"], mean=mean, std=std)


def teacher_marks(subject: Subject) -> tuple[Mark, ...]:
    """The teachers that the study describes."""
    described = subject.spec.get("described") or subject.attributes.get("described") or {}
    return tuple(
        Mark(facts["network"], facts["parameters"], facts["accuracy"])
        for facts in described.values()
    )
