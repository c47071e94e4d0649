"""A handwritten digit in a picture of 28×28 pixels: white ink on black, as MNIST has it."""

from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import AliasChoices, BaseModel, Field
from typing_extensions import TypedDict

from timonel import (
    Answer,
    Concat,
    Contract,
    Embedded,
    File,
    FirstOf,
    Gate,
    Idx,
    Image,
    Model,
    Pixels,
    Pretrained,
    Project,
    Python,
    Quality,
    Split,
    Upload,
)

ARTIFACT = Path(__file__).parent / "artifacts" / "digits-cnn"
MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)


class Digit(BaseModel):
    pixels: Annotated[Pixels, Image(28, 28)] = Field(
        validation_alias=AliasChoices("pixels", "data", "image")
    )


class Reply(TypedDict):
    prediccion: int
    prediction: int


class UploadReply(TypedDict):
    status_code: int
    query_id: str
    prediction: NotRequired[int]
    error: NotRequired[str]
    execution_time: str


def reply(answer: Answer) -> Reply:
    digit = int(answer.predictions[0])
    return {"prediccion": digit, "prediction": digit}


def upload_reply(answer: Answer) -> UploadReply:
    return {
        "status_code": 200,
        "query_id": answer.id,
        "prediction": int(answer.predictions[0]),
        "execution_time": f"{answer.seconds:.2f} seg",
    }


def upload_refusal(status: int, sentence: str, identifier: str, seconds: float) -> UploadReply:
    return {
        "status_code": status,
        "query_id": identifier,
        "error": sentence,
        "execution_time": f"{seconds:.2f} seg",
    }


def mnist(part: str, prefix: str, images: str, labels: str) -> Idx:
    def file(name: str, sha256: str) -> File:
        return File(f"mnist/{name}", tuple(mirror + name for mirror in MIRRORS), sha256)

    return Idx(
        file(f"{prefix}-images-idx3-ubyte.gz", images),
        file(f"{prefix}-labels-idx1-ubyte.gz", labels),
        part,
    )


def bundled_digits() -> dict[str, Any]:
    from sklearn.datasets import load_digits

    from timonel.data.pictures import enlarge

    digits = load_digits()
    pictures = [picture.tobytes() for picture in enlarge(digits.images)]
    # They come writer by writer, so the last fifth is of hands that training has not seen.
    parts = ["train" if row < 1_437 else "test" for row in range(len(pictures))]
    return {"pixels": pictures, "label": digits.target, "part": parts}


def perceptron(seed: int = 0) -> Any:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    warnings.simplefilter("ignore", ConvergenceWarning)  # six passes are meant to be few
    network = MLPClassifier((256,), batch_size=256, max_iter=6, alpha=1e-5, random_state=seed)
    return make_pipeline(Normalizer("max"), network)


def jittered(X: Any, y: Any, rng: Any) -> Any:
    from timonel.training.augment import Augment

    if len(X) < 10_000:  # few hands: what they do not show has to be made up
        few = Augment(60, shift=1.5, rotate=15, scale=0.3, shear=0.5, thickness=0.6, elastic=4)
        return few(X, y, rng)
    return Augment(5, shift=1.5, rotate=10, scale=0.15, shear=0.15, elastic=1.5)(X, y, rng)


project = Project(
    name="digits",
    description="A handwritten digit, from 784 numbers or from any picture.",
    source=FirstOf(
        Concat(
            mnist(
                "train",
                "train",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            mnist(
                "test",
                "t10k",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
        Embedded(
            Python(bundled_digits),
            "MNIST could not be reached: these are scikit-learn's 1,797 bundled digits, enlarged.",
        ),
    ),
    features=Digit,
    target="label",
    classes=range(10),
    models=[
        Model(
            "cnn",
            Pretrained(
                file=File(str(ARTIFACT / "model.onnx")),
                label="label",
                scores="probabilities",
                card=ARTIFACT / "card.md",
            ),
            embedded=ARTIFACT,
        ),
        Model("clf", perceptron, folds=0, augment=jittered, aliases=("clf.pickle",)),
    ],
    split=Split(given="part", validation=0.05),
    quality=Quality(duplicates="keep"),
    gate=Gate(floor=0.7),
    contract=Contract(
        reply=reply,
        rows="one",
        unknown="ignore",
        upload=Upload(reply=upload_reply, refusal=upload_refusal),
    ),
    text_log=True,
)
