"""A handwritten digit in a picture of 28×28 pixels: white ink on black, as MNIST has it."""

from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import AliasChoices, BaseModel, Field
from typing_extensions import TypedDict

from timonel.contract import Answer, Contract, Upload
from timonel.data.sources import Concat, Embedded, FirstOf, Idx, Python
from timonel.policies import Drift, Gate, Quality, Split
from timonel.project import File, Model, Pretrained, Project
from timonel.schema import Image, Pixels

ARTIFACT = Path(__file__).parent / "artifacts" / "digits-cnn"
MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
SHA256 = {  # of the unpacked files
    "train-images-idx3": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
NAMES = AliasChoices("pixels", "data", "image")


class Digit(BaseModel):
    pixels: Annotated[Pixels, Image(28, 28)] = Field(validation_alias=NAMES)


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
    return {"prediccion": int(answer.predictions[0]), "prediction": int(answer.predictions[0])}


def upload_reply(answer: Answer) -> UploadReply:
    digit, spent = int(answer.predictions[0]), f"{answer.seconds:.2f} seg"
    return {"status_code": 200, "query_id": answer.id, "prediction": digit, "execution_time": spent}


def upload_refusal(status: int, sentence: str, query: str, seconds: float) -> UploadReply:
    spent = f"{seconds:.2f} seg"
    return {"status_code": status, "query_id": query, "error": sentence, "execution_time": spent}


def mnist(part: str, prefix: str) -> Idx:
    def file(kind: str) -> File:
        name = f"{prefix}-{kind}-ubyte.gz"
        return File(f"mnist/{name}", tuple(m + name for m in MIRRORS), SHA256[f"{prefix}-{kind}"])

    return Idx(file("images-idx3"), file("labels-idx1"), part)


def bundled_digits() -> dict[str, Any]:
    from sklearn.datasets import load_digits

    from timonel.data.pictures import enlarge

    digits = load_digits()
    pictures = [picture.tobytes() for picture in enlarge(digits.images)]
    # They come writer by writer, so the last fifth is of hands that training has not seen.
    parts = ["train" if row < 1_437 else "test" for row in range(len(pictures))]
    return {"pixels": pictures, "label": digits.target, "part": parts}


def perceptron(seed: int = 0) -> Any:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    network = MLPClassifier((256,), batch_size=256, max_iter=6, alpha=1e-5, random_state=seed)
    return make_pipeline(Normalizer("max"), network)


def jittered(X: Any, y: Any, rng: Any) -> Any:
    from timonel.training.augment import Augment

    many = Augment(5, shift=1.5, rotate=10, scale=0.15, shear=0.15, elastic=1.5)
    # Of few hands, what they do not show has to be made up.
    few = Augment(60, shift=1.5, rotate=15, scale=0.3, shear=0.5, thickness=0.6, elastic=4)
    return (few if len(X) < 10_000 else many)(X, y, rng)


SENTENCE = "MNIST could not be reached: these are scikit-learn's 1,797 bundled digits, enlarged."
NETWORK = Pretrained(file=File(f"{ARTIFACT}/model.onnx"), label="label", card=ARTIFACT / "card.md")
MNIST = Concat(mnist("train", "train"), mnist("test", "t10k"))
UPLOAD = Upload(reply=upload_reply, refusal=upload_refusal)
project = Project(
    name="digits",
    description="A handwritten digit, from 784 numbers or from any picture.",
    source=FirstOf(MNIST, Embedded(Python(bundled_digits), SENTENCE)),
    features=Digit,
    target="label",
    classes=range(10),
    models=[
        Model("cnn", NETWORK, embedded=ARTIFACT),
        Model("clf", perceptron, folds=0, augment=jittered, aliases=("clf.pickle",)),
    ],
    split=Split(given="part", validation=0.05),
    quality=Quality(duplicates="keep"),
    gate=Gate(floor=0.7),
    drift=Drift(ordered=True),  # digits of one hand come together, here and in traffic
    contract=Contract(reply=reply, rows="one", unknown="ignore", upload=UPLOAD),
    text_log=True,
)
