"""The journal's file format: what a record holds, how frames are written and read back.

A file is `MAGIC`, then frames: little-endian u32 length, u32 CRC-32 (seeded with the length), and
that many bytes of MessagePack. The first frame is a `Header`; a `Meta` explains a version before
its first record. Zeros where a frame would start are reserved space: the end. Fields are only ever
added at the end, with defaults, so that this release reads the files of earlier ones.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from timonel.schema import Column, Kind
from timonel.signature import Label

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "FORMAT",
    "MAGIC",
    "SHADOW",
    "Answered",
    "Feedback",
    "Header",
    "Meta",
    "Reading",
    "Record",
    "Value",
    "encode",
    "frame",
    "image_bytes",
    "image_values",
    "kinds_of",
    "read",
]

FORMAT = 1
MAGIC = b"timonel-journal\n"

Value = int | float | bool | str | bytes | None
"""An input as it was given; a picture is the bytes of `image_bytes`, missing is None."""

SHADOW = "shadow"
"""The `via` of answers that nobody was given."""

_HEAD = struct.Struct("<II")
_WIDEST = 2**63
_MODEST = 2**20


class Header(msgspec.Struct, array_like=True, tag=0, frozen=True):
    """Who wrote a file: `boot` and `worker` name the process, `created` is in ns since 1970."""

    format: int
    boot: str
    worker: str
    created: int


class Meta(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """What the records of one version mean: the columns of a row and the classes of its scores.

    `text_log` says that the project's predictions also go to its text log.
    """

    project: str
    columns: tuple[tuple[str, Kind], ...]
    model: str
    version: str
    classes: tuple[Label, ...]
    text_log: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """Project, model and version."""
        return self.project, self.model, self.version


class Answered(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What one model said: a label a row, and float32 probabilities (rows × classes) as bytes.

    `probabilities` is little-endian and empty when the model gives none; `version` is its label.
    Where the model failed, `error` says how, and the other two are empty.
    """

    model: str
    version: str
    labels: list[Label]
    probabilities: bytes
    error: str = ""


class Record(msgspec.Struct, array_like=True, tag=2, frozen=True, gc=False):
    """One answered request: `id` is the UUIDv7's 16 bytes, `time_ns` is since 1970.

    `rows` hold the inputs in the order of the project's columns; `via` is the way in (json, upload,
    …), `environment` the server's (dev, prod). `seconds` is what the answer took, up to here. With
    `via` SHADOW a challenger was asked as well, unseen, and `id` is that of the answer it shadows.
    """

    id: bytes
    time_ns: int
    project: str
    rows: Sequence[tuple[Any, ...]]  # of Value; msgspec tells no bytes from text in a union
    answers: list[Answered]
    via: str
    environment: str
    seconds: float = 0.0


class Feedback(msgspec.Struct, array_like=True, tag=3, frozen=True):
    """The true label, as text, of row `row` (from 0) of a prediction, said at `time_ns`.

    `id` is the 16 bytes of the prediction's UUIDv7.
    """

    id: bytes
    row: int
    project: str
    label: str
    time_ns: int


Item = Header | Meta | Record | Feedback

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Item)


def kinds_of(columns: Sequence[Column]) -> tuple[tuple[str, Kind], ...]:
    """The columns as a `Meta` states them: (name, kind) each."""
    return tuple((column.name, column.kind) for column in columns)


def encode(item: Item) -> bytes:
    """The payload of a frame."""
    try:
        return _ENCODER.encode(item)
    except (OverflowError, UnicodeEncodeError):
        if not isinstance(item, Record):
            raise
        rows = [tuple(_storable(value) for value in row) for row in item.rows]
        return _ENCODER.encode(msgspec.structs.replace(item, rows=rows))


def _storable(value: Value) -> Value:
    """The nearest value that MessagePack holds: no whole number over 64 bits, no half surrogate."""
    if isinstance(value, int) and not -_WIDEST <= value < 2 * _WIDEST:
        try:
            return float(value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    return value


def frame(payload: bytes) -> bytes:
    """A payload as it stands in a file."""
    size = len(payload)
    return _HEAD.pack(size, zlib.crc32(payload, size)) + payload


def image_bytes(pixels: "np.ndarray") -> bytes:
    """A picture (size,) in its narrowest exact form: uint8 if all are whole 0..255, or float32."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        narrow = pixels.astype(np.uint8)
    if (narrow == pixels).all():
        return narrow.tobytes()
    return pixels.astype("<f4").tobytes()


def image_values(content: bytes, size: int) -> "np.ndarray":
    """What `image_bytes` was given: float32 (size,); the content's length tells its form.

    Raises:
        ValueError: the content is neither `size` nor 4 · `size` bytes.
    """
    import numpy as np

    if len(content) == size:
        return np.frombuffer(content, np.uint8).astype(np.float32)
    if len(content) == 4 * size:
        return np.frombuffer(content, "<f4").astype(np.float32)
    raise ValueError(f"Expected {size} or {4 * size} bytes of pixels, got {len(content)}.")


class Reading:
    """One pass over a file: iterate for its records; what was met on the way is kept here.

    `header`, `metas` (by project, model, version) and `feedback` are filled as frames come; a
    record's metas come before it. `note` is a sentence when something could not be read; nothing
    after that is given. `intact` is False when what was skipped may have been acknowledged: damage,
    as opposed to a last record torn by the end of its writer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Header | None = None
        self.metas: dict[tuple[str, str, str], Meta] = {}
        self.feedback: list[Feedback] = []
        self.records = 0
        self.note: str | None = None
        self.intact = True

    def __iter__(self) -> Iterator[Record]:
        with self.path.open("rb") as file:
            start = file.read(len(MAGIC))
            if start != MAGIC:
                begun = start.rstrip(b"\0")
                self._stop(0, begun + file.read(), torn=MAGIC.startswith(begun))
                return
            position = len(MAGIC)
            while True:
                head = file.read(_HEAD.size)
                size, checksum = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0)
                payload = file.read(size) if _is_there(file, size) else b""
                item = self._item(payload, checksum) if len(payload) == size > 0 else None
                if item is None:
                    rest = (head + payload + file.read()).rstrip(b"\0")
                    whole = _HEAD.size + size
                    torn = len(rest) <= whole if len(payload) == size else len(rest) < _HEAD.size
                    self._stop(position, rest, torn=torn)
                    return
                position += _HEAD.size + size
                if isinstance(item, Record):
                    self.records += 1
                    yield item
                elif isinstance(item, Meta):
                    self.metas[item.key] = item
                elif isinstance(item, Feedback):
                    self.records += 1
                    self.feedback.append(item)
                else:
                    self.header = item
                    if item.format > FORMAT:
                        self.intact = False
                        self.note = (
                            f"{self.path.name}: expected format {FORMAT} or older, got "
                            f"{item.format}; upgrade timonel to read it."
                        )
                        return

    def _item(self, payload: bytes, checksum: int) -> Item | None:
        if zlib.crc32(payload, len(payload)) != checksum:
            return None
        try:
            item: Item = _DECODER.decode(payload)
        except (msgspec.DecodeError, RecursionError):
            return None
        return item

    def _stop(self, position: int, rest: bytes, *, torn: bool) -> None:
        if not rest:
            return
        whole = f"the {self.records} records before are whole"
        if torn:
            self.note = f"{self.path.name}: the last record is torn ({len(rest)} bytes); {whole}."
            return
        self.intact = False
        self.note = (
            f"{self.path.name}: damaged at byte {position}; the {len(rest)} bytes from there to "
            f"the end were skipped, {whole}."
        )


def _is_there(file: BinaryIO, size: int) -> bool:
    """Whether so many bytes may be read; a damaged length must not ask for gigabytes."""
    return size < _MODEST or size <= os.fstat(file.fileno()).st_size


def read(path: Path) -> Reading:
    """A pass over a journal file that never raises for its content, whatever that is.

    The file may still be written to: what is there whole is given.
    """
    return Reading(path)
