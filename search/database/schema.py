"""Optuna's tables, and how numbers are written in them.

Optuna keeps these private; nothing else of DistilNAS imports them.
"""

import sqlalchemy as sa
from optuna.storages._rdb import models

STUDIES: sa.Table = models.StudyModel.__table__
FACTS: sa.Table = models.StudySystemAttributeModel.__table__
RESULTS: sa.Table = models.StudyUserAttributeModel.__table__
TRIALS: sa.Table = models.TrialModel.__table__
VALUES: sa.Table = models.TrialValueModel.__table__
STEPS: sa.Table = models.TrialIntermediateValueModel.__table__
PARAMS: sa.Table = models.TrialParamModel.__table__
ATTRIBUTES: sa.Table = models.TrialUserAttributeModel.__table__
MARKS: sa.Table = models.TrialSystemAttributeModel.__table__

# A number is two columns: its value, and its kind, for NaN and the infinities.
written_value = models.TrialValueModel.value_to_stored_repr
read_value = models.TrialValueModel.stored_repr_to_value
written_step = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr
read_step = models.TrialIntermediateValueModel.stored_repr_to_intermediate_value
