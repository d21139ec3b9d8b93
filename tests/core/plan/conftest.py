"""Plans with figures that a test writes down."""

from __future__ import annotations

import numpy as np
import pytest

from spinn_stream.plan import PlanTable
from spinn_stream.plan.predict.predictor import Prediction
from spinn_stream.plan.sla.sla import METRICS

from .figures import Make


@pytest.fixture
def plans(table: PlanTable) -> Make:
    """Plans with these figures, one row for each metric named, and 1 for the others; each has a split of its own,
    unless `splits` names them."""

    def make(splits: list[int] | None = None, **rows: list[float]) -> Prediction:
        count = len(next(iter(rows.values())))
        chosen = [int(np.flatnonzero(table.split == split)[n]) for n, split in enumerate(splits or range(count))]
        known = {name.replace("_p95", ".p95"): np.array(values) for name, values in rows.items()}
        return Prediction(table.take(chosen), {name: np.ones(count) for name in METRICS} | known)

    return make
