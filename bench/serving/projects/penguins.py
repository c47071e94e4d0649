"""The bundled penguins with the pipeline that the peers serve: imputer, scaler, forest of 100."""

from dataclasses import replace
from typing import Any

from timonel import Model
from timonel.projects import penguins as bundled

PRECISION = {
    "bill_length_mm": 0.1,
    "bill_depth_mm": 0.1,
    "flipper_length_mm": 1.0,
    "body_mass_g": 25.0,
}


def measured(raw: Any) -> Any:
    """The rows with noise below the precision of each measurement.

    As they are, values lie exactly on a forest's thresholds, halfway between two others, and
    which side such a row falls on is a matter of one runtime's rounding.
    """
    import numpy as np

    rows = bundled.project.prepared(raw)[0]
    rng = np.random.default_rng(0)
    noise = {name: rng.uniform(-0.45, 0.45, len(rows)) * size for name, size in PRECISION.items()}
    return rows.with_columns((rows[name].cast(float) + noise[name]).round(4) for name in noise)


def forest(seed: int = 0) -> object:
    """The recipe; `peers/fit.py` has it too."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = RandomForestClassifier(100, random_state=seed)
    return make_pipeline(SimpleImputer(), StandardScaler(), classifier)


project = replace(bundled.project, prepare=measured, models=[Model("rf", forest)])
