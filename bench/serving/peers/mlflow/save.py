"""The two models in MLflow's form: `python save.py penguins|digits MODEL FOLDER`."""

import sys
from pathlib import Path

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

project, source, folder = sys.argv[1:4]
if Path(folder).exists():
    sys.exit(0)
if project == "penguins":
    import joblib

    names = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
    inputs = Schema([ColSpec("double", name) for name in names])
    mlflow.sklearn.save_model(
        joblib.load(source),
        folder,
        signature=ModelSignature(inputs, Schema([ColSpec("long")])),
        serialization_format="cloudpickle",
        pip_requirements=["scikit-learn"],
    )
else:
    import onnx

    model = onnx.load(source)
    given, made = model.graph.input[0].name, model.graph.output[0].name
    mlflow.onnx.save_model(
        model,
        folder,
        signature=ModelSignature(
            Schema([TensorSpec(np.dtype("float32"), (-1, 1, 28, 28), given)]),
            Schema([TensorSpec(np.dtype("float32"), (-1, 10), made)]),
        ),
        onnx_execution_providers=["CPUExecutionProvider"],
        onnx_session_options={"intra_op_num_threads": 1},
        pip_requirements=["onnxruntime"],
    )
