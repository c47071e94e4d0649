"""The per-class report as a picture."""

import io

import numpy as np
from PIL import Image

from timonel.training.evaluate import evaluate
from timonel.training.report import report_figure


def test_the_report_is_a_picture_that_grows_with_the_classes() -> None:
    heights = []
    for classes in (("a", "b"), tuple("abcdefghijklmnopqrstuvwxyz")):
        y = np.arange(200) % len(classes)
        content = report_figure(evaluate(y, y, None, classes))
        picture = Image.open(io.BytesIO(content))
        assert picture.format == "PNG"
        heights.append(picture.height)
    assert heights[1] > 2 * heights[0]
