"""Predict digits from picture files, without any server.

python examples/predict_without_server.py docs/images/seven.png
"""

import sys

import timonel


def main(pictures: list[str]) -> None:
    """Print the digit in each picture and how sure the model is."""
    model = timonel.load("digits/cnn")  # or digits/clf, once that is trained
    for picture in pictures:
        answer = model.predict(picture)
        print(f"{picture}: {answer.label} ({answer.probabilities[answer.label]:.1%})")


if __name__ == "__main__":
    main(sys.argv[1:])
