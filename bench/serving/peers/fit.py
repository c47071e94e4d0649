"""The penguins' pipeline, fitted in a peer's environment with the scikit-learn it has.

`python fit.py ROWS.csv MODEL.joblib`: the rows and the recipe are those of Timonel's version.
"""

import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

with Path(sys.argv[1]).open() as file:
    names = file.readline().strip().split(",")[:-1]
    table = np.loadtxt(file, delimiter=",")
X, y = table[:, :-1].astype(np.float32), table[:, -1].astype(int)
if "--names" in sys.argv:  # for servers that hand over frames; others would be warned of them
    import pandas as pd

    X = pd.DataFrame(X, columns=names)
forest = RandomForestClassifier(100, random_state=0)
joblib.dump(make_pipeline(SimpleImputer(), StandardScaler(), forest).fit(X, y), sys.argv[2])
