"""The bundled digits with the model zoo's `mnist-8.onnx`, registered as a pretrained version."""

from dataclasses import replace

from timonel import File, Idx, Model, Pretrained, Split
from timonel.projects import digits as bundled

network = Pretrained(file=File("models/mnist-8.onnx"), logits=True)
rows = Idx(File("mnist/t10k-images-idx3-ubyte.gz"), File("mnist/t10k-labels-idx1-ubyte.gz"), "all")
project = replace(bundled.project, source=rows, split=Split(), models=[Model("cnn", network)])
