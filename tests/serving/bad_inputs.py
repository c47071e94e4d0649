"""Bad input of many kinds, as bodies, forms, requests and raw bytes; each must be a 4xx."""

import io
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "BODIES",
    "FORMS",
    "PENGUINS",
    "PICTURES",
    "RAW",
    "REQUESTS",
    "VALUES",
    "BadBody",
    "BadForm",
    "bomb",
    "png",
]

LARGE = 20_000_000


def png(width: int = 40, height: int = 40) -> bytes:
    """A picture with a thick stroke on it."""
    from PIL import Image, ImageDraw

    image = Image.new("L", (width, height), 255)
    ImageDraw.Draw(image).line((20, 5, 20, 35), fill=0, width=5)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def bomb(width: int = 50_000, height: int = 50_000) -> bytes:
    """A small PNG file that says it holds 2,500,000,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1_000_000), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def _jpeg() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.linear_gradient("L").save(file, "JPEG")
    return file.getvalue()


def _blank() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (64, 64), 255).save(file, "PNG")
    return file.getvalue()


def _pixels(last: str, count: int = 784) -> bytes:
    return b'{"pixels": [' + b"0," * (count - 1) + last.encode() + b"]}"


@dataclass(frozen=True)
class BadBody:
    """A JSON body; `statuses` it may be answered with. `parses`: whether it is JSON at all."""

    name: str
    body: bytes = field(repr=False)
    statuses: tuple[int, ...] = (422,)
    kind: str = "application/json"


BODIES = [
    BadBody("not JSON", b"hello"),
    BadBody("empty body", b""),
    BadBody("only blanks", b" \n "),
    BadBody("cut short", b'{"pixels": [0, 0'),
    BadBody("two documents", b"{} {}"),
    BadBody("single quotes", b"{'pixels': []}"),
    BadBody("a number", b"7"),
    BadBody("a text", b'"seven"'),
    BadBody("true", b"true"),
    BadBody("null", b"null"),
    BadBody("missing field", b"{}"),
    BadBody("null for the field", b'{"pixels": null}'),
    BadBody("wrong type", b'{"pixels": 5}'),
    BadBody("an object for a list", b'{"pixels": {"0": 1}}'),
    BadBody("783 numbers", _pixels("0", 783), (400,)),
    BadBody("785 numbers", _pixels("0", 785), (400,)),
    BadBody("783 bare numbers", b"[" + b"0," * 782 + b"0]", (400,)),
    BadBody("an empty list", b"[]", (400,)),
    BadBody("NaN", _pixels("NaN")),
    BadBody("Infinity", _pixels("Infinity")),
    BadBody("-Infinity", _pixels("-Infinity")),
    BadBody("1e999", _pixels("1e999")),
    BadBody("a text among numbers", _pixels('"1"')),
    BadBody("a truth among numbers", _pixels("true")),
    BadBody("an object among numbers", _pixels("{}")),
    BadBody("out of range", _pixels("256")),
    BadBody("below range", _pixels("-1")),
    BadBody("a whole number of 400 digits", _pixels("1" + "0" * 400)),
    BadBody("a whole number of 5,000 digits", _pixels("1" + "0" * 5_000)),
    BadBody("100,000 nested brackets", b"[" * 100_000),
    BadBody("100,000 brackets and their ends", b"[" * 100_000 + b"]" * 100_000),
    BadBody("100,000 nested objects", b'{"pixels":' * 100_000 + b"1" + b"}" * 100_000),
    BadBody("150 brackets", b"[" * 150 + b"]" * 150, (400,)),
    BadBody("20 MB", b'{"pixels": "' + b"a" * LARGE + b'"}', (413,)),
    BadBody("invalid UTF-8", b'{"pixels": "\xff\xfe\xfa"}'),
    BadBody("half a surrogate pair", b'{"pixels": "\\ud800"}'),
    BadBody("half a pair as a key", b'{"\\ud800": 1}'),
    BadBody("UTF-16", '{"pixels": []}'.encode("utf-16")),
    BadBody("a byte order mark", b"\xef\xbb\xbf{}"),
    BadBody("a NUL", b'{"pixels": "\x00"}'),
    BadBody("a list of rows where one is expected", b'[{"pixels": []}, {"pixels": []}]'),
    BadBody("XML", b"<pixels/>", kind="application/xml"),
    BadBody("a form's fields", b"pixels=1&pixels=2", kind="application/x-www-form-urlencoded"),
    BadBody("a type that is none", b"hello", kind=";;;=\t/"),
]

_ROW = {"bill_length_mm": 20, "bill_depth_mm": 40, "flipper_length_mm": 200, "body_mass_g": 4000}


def _row(text: str) -> bytes:
    """A penguin's row with `text` as its body mass."""
    fields = ", ".join(f'"{name}": {value}' for name, value in list(_ROW.items())[:3])
    return f'{{{fields}, "body_mass_g": {text}}}'.encode()


VALUES = {
    "null": "null",
    "a text": '"heavy"',
    "an empty text": '""',
    "an object": "{}",
    "NaN": "NaN",
    "NaN as a text": '"NaN"',
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "1e999": "1e999",
    "400 digits": "1" + "0" * 400,
    "5,000 digits": "1" + "0" * 5_000,
    "20 digits": "12345678901234567890",
    "below range": "-1",
    "above range": "50000",
}
"""What a penguin's `body_mass_g` cannot be, as JSON."""

PICTURES = {
    "783 numbers": ["0"] * 783,
    "785 numbers": ["0"] * 785,
    "NaN": ["NaN"],
    "Infinity": ["Infinity"],
    "1e999": ["1e999"],
    "a text among numbers": ['"1"'],
    "a truth among numbers": ["true"],
    "null among numbers": ["null"],
    "an object among numbers": ["{}"],
    "out of range": ["256"],
    "below range": ["-1"],
    "a whole number of 400 digits": ["1" + "0" * 400],
    "a whole number of 5,000 digits": ["1" + "0" * 5_000],
}
"""What a picture's `pixels` cannot be: numbers as JSON, to be filled up to 784 if there is one."""

PENGUINS = [
    BadBody("not JSON", b"hello"),
    BadBody("empty body", b""),
    BadBody("missing field", b'{"bill_length_mm": 20}'),
    BadBody("null", _row("null")),
    BadBody("a text", _row('"heavy"')),
    BadBody("a list", _row("[1]")),
    BadBody("an object", _row("{}")),
    BadBody("NaN", _row("NaN")),
    BadBody("NaN as a text", _row('"NaN"')),
    BadBody("Infinity", _row("Infinity")),
    BadBody("1e999", _row("1e999")),
    BadBody("400 digits", _row("1" + "0" * 400)),
    BadBody("5,000 digits", _row("1" + "0" * 5_000)),
    BadBody("out of range", _row("-1")),
    BadBody("a number of 20 digits", _row("12345678901234567890")),
    BadBody("a list of rows where one is expected", b"[" + _row("1") + b"]"),
    BadBody("100,000 nested brackets", b"[" * 100_000),
    BadBody("20 MB", _row('"' + "a" * LARGE + '"'), (413,)),
    BadBody("half a surrogate pair", _row('"\\udfff"')),
    BadBody("invalid UTF-8", _row('"x"').replace(b"x", b"\xff")),
]


@dataclass(frozen=True)
class BadForm:
    """A multipart body, as its bytes, or as parts: field → value or (file name, content)."""

    name: str
    parts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    kind: str = "multipart/form-data; boundary=edge"
    statuses: tuple[int, ...] = (422,)

    def encoded(self) -> tuple[bytes, str]:
        """The body and its content type."""
        if self.body is not None:
            return self.body, self.kind
        lines = b""
        for name, value in self.parts.items():
            file, content = value if isinstance(value, tuple) else (None, value)
            named = f'; filename="{file}"' if file is not None else ""
            lines += b"--edge\r\n"
            lines += f'Content-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode()
            lines += (content if isinstance(content, bytes) else str(content).encode()) + b"\r\n"
        return lines + b"--edge--\r\n", self.kind


def _picture(name: str, content: bytes, *statuses: int) -> BadForm:
    parts = {"model": "clf", "image": ("picture.png", content)}
    return BadForm(name, parts, statuses=statuses or (422,))


def _raw(name: str, body: bytes, kind: str = "multipart/form-data; boundary=edge") -> BadForm:
    return BadForm(name, body=body, kind=kind, statuses=(400, 422))


GOOD = ("picture.png", png())
FORMS = [
    _picture("not an image", b"just a text"),
    _picture("an empty file", b""),
    _picture("a truncated PNG", png()[:-40]),
    _picture("only the start of a PNG", png()[:16]),
    _picture("a truncated JPEG", _jpeg()[:-400]),
    _picture("a JPEG's first bytes", _jpeg()[:3]),
    _picture("a decompression bomb", bomb(), 413),
    _picture("100 megapixels", bomb(10_000, 10_000), 413),
    _picture("a long hairline", bomb(2**31 - 1, 1), 413, 422),
    _picture("no pixels", bomb(0, 0)),
    _picture("a blank page", _blank()),
    _picture("an SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    _picture("a PostScript program", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n"),
    _picture("a PDF", b"%PDF-1.7\n"),
    _picture("20 MB", b"\x89PNG" + bytes(LARGE), 413),
    BadForm("missing image", {"model": "clf"}),
    BadForm("missing model", {"image": GOOD}),
    BadForm("an empty model", {"model": "", "image": GOOD}),
    BadForm("an unknown model", {"model": "svm", "image": GOOD}, statuses=(404,)),
    BadForm("../ in a name", {"model": "../../etc/passwd", "image": GOOD}, statuses=(404,)),
    BadForm("a NUL in a name", {"model": "cnn\x00", "image": GOOD}, statuses=(404,)),
    BadForm("a name of 100,000 letters", {"model": "m" * 100_000, "image": GOOD}, statuses=(404,)),
    BadForm(
        "invalid UTF-8 in a name", {"model": b"\xff\xfe", "image": GOOD}, statuses=(400, 404, 422)
    ),
    BadForm("text where a file is expected", {"model": "clf", "image": "picture"}),
    BadForm("a file where a text is expected", {"model": ("clf", b"clf"), "image": GOOD}),
    BadForm("too many fields", {f"f{i}": "x" for i in range(100)}, statuses=(400,)),
    BadForm("too many files", {f"f{i}": ("f", b"x") for i in range(100)}, statuses=(400,)),
    _raw("an empty form", b""),
    _raw("no form at all", b"hello"),
    _raw("no end", b'--edge\r\nContent-Disposition: form-data; name="model"\r\n\r\nclf'),
    _raw("another boundary", b"--other\r\n\r\n--other--\r\n"),
    _raw("no boundary", b"--edge--\r\n", "multipart/form-data"),
    _raw("an empty boundary", b"--edge--\r\n", "multipart/form-data; boundary="),
    _raw("a boundary of 100,000", b"--edge--\r\n", "multipart/form-data; boundary=" + "e" * 9_000),
    _raw("a character set that is none", b"--edge--\r\n", "multipart/form-data; charset=x-none"),
    _raw(
        "another character set that is none",
        b'--edge\r\nContent-Disposition: form-data; name="model"\r\n\r\nclf\r\n--edge--\r\n',
        "multipart/form-data; boundary=edge; charset=x-none",
    ),
    _raw("a part without a name", b"--edge\r\nContent-Disposition: form-data\r\n\r\nx\r\n--edge--"),
    _raw("a part without headers", b"--edge\r\n\r\nx\r\n--edge--\r\n"),
    _raw("a header without a name", b"--edge\r\n: x\r\n\r\nx\r\n--edge--\r\n"),
    _raw("a header with controls", b"--edge\r\nA\x00B: x\r\n\r\nx\r\n--edge--\r\n"),
]

REQUESTS = [
    ("GET", "/digits/predict", 405),
    ("PUT", "/digits/predict", 405),
    ("DELETE", "/digits/predict/", 405),
    ("PATCH", "/penguins/predict", 405),
    ("HEAD", "/penguins/predict", 405),
    ("OPTIONS", "/penguins/predict", 405),
    ("POST", "/health", 405),
    ("POST", "/metrics", 405),
    ("BREW", "/digits/predict", 405),
    ("POST", "/digits/predit", 404),
    ("POST", "/cats/predict", 404),
    ("POST", "/digits/predict/more", 404),
    ("POST", "/digits//predict", 404),
    ("POST", "/../etc/passwd", 404),
    ("POST", "/digits/../../etc/passwd", 404),
    ("POST", "/digits/%2e%2e/%2e%2e/etc/passwd", 404),
    ("GET", "/docs/assets/../../../pyproject.toml", 404),
    ("GET", "/docs/assets/%2e%2e/%2e%2e/__init__.py", 404),
    ("GET", "/docs/assets/", 404),
    ("GET", "/%ff%fe", 404),
    ("GET", "/%00", 404),
    ("GET", "/" + "a" * 10_000, 404),
    ("GET", "/openapi.json/more", 404),
]
"""Method, path and status, none with a body."""

_HEAD = b"POST /penguins/predict HTTP/1.1\r\nHost: localhost\r\n"
RAW = {
    "not HTTP": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "a negative length": _HEAD + b"Content-Length: -5\r\n\r\nhello",
    "a length that is no number": _HEAD + b"Content-Length: many\r\n\r\nhello",
    "a superscript length": _HEAD + b"Content-Length: \xb2\r\n\r\nhello",
    "a length beyond counting": _HEAD + b"Content-Length: " + b"9" * 40 + b"\r\n\r\nhello",
    "two lengths": _HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a length and chunks": _HEAD
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk of no size": _HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "a header without a colon": _HEAD + b"garbage\r\n\r\n",
    "a header with controls": _HEAD + b"X-A\x00\x01: \x02\r\n\r\n",
    "a space before the colon": _HEAD + b"X-A : 1\r\nContent-Length: 2\r\n\r\n{}",
    "an unknown version": b"POST /penguins/predict HTTP/9.9\r\nHost: x\r\n\r\n",
    "a header of 100,000 bytes": _HEAD + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n",
    "a host that is none": b"GET /nothing HTTP/1.1\r\nHost: [\r\n\r\n",
    "another host that is none": b"GET /nothing HTTP/1.1\r\nHost: a@b:99999999\r\n\r\n",
    "no host": b"GET /nothing HTTP/1.1\r\n\r\n",
    "a path with raw bytes": b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a bad escape": b"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a query with raw bytes": b"POST /penguins/predict?model=\xff HTTP/1.1\r\nHost: x\r\n"
    b"Content-Length: 2\r\n\r\n{}",
}
"""Bytes sent to a socket as they are."""


def values() -> list[tuple[str, Any]]:
    """What of BODIES a Python caller could pass: the parsed values, and some that are no JSON."""
    found: list[tuple[str, Any]] = []
    for bad in BODIES:
        try:
            found.append((bad.name, json.loads(bad.body)))
        except (ValueError, RecursionError):
            continue
    return [
        *found,
        ("a path of nothing", "/nowhere/seven.png"),
        ("a folder", "/"),
        ("a NUL in a path", "seven\x00.png"),
        ("half a pair in a path", "\ud800.png"),
        ("bytes that are no picture", b"just a text"),
        ("no bytes", b""),
        ("a bomb", bomb()),
        ("an object", object()),
        ("a set", {1, 2}),
        ("a complex number", [1j] * 784),
    ]
