"""vetiver: the model, a prototype row that requests are checked against, an app."""

import os

import joblib
import pandas as pd
from vetiver import VetiverAPI, VetiverModel

prototype = pd.DataFrame(
    {
        "bill_length_mm": [39.1],
        "bill_depth_mm": [18.7],
        "flipper_length_mm": [181.0],
        "body_mass_g": [3750.0],
    }
)
model = VetiverModel(joblib.load(os.environ["BENCH_JOBLIB"]), "penguins", prototype_data=prototype)
app = VetiverAPI(model, check_prototype=True).app
