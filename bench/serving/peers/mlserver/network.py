"""MLServer's runtime for an ONNX file, which it has none for."""

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Network(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        self.input_name = self.session.get_inputs()[0].name
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0])
        pictures = rows.astype(np.float32).reshape(-1, 1, 1, 28, 28)
        # The graph takes one picture at a time.
        scores = [self.session.run(None, {self.input_name: picture})[0] for picture in pictures]
        labels = np.concatenate(scores).argmax(axis=1).reshape(-1, 1)
        output = NumpyCodec.encode_output("predict", labels)
        return InferenceResponse(model_name=self.name, outputs=[output])
