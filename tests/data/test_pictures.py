"""Any picture of a symbol becomes the same small one; anything else becomes a PictureError."""

import csv
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from timonel.data.pictures import PictureError, PictureTooLarge, enlarge, prepare


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def drawing(paper: int = 255, ink: int = 0, size: tuple[int, int] = (120, 160)) -> Image.Image:
    """A grey seven: a bar on top and a slanting leg."""
    image = Image.new("L", size, paper)
    stroke = ImageDraw.Draw(image)
    width, height = size
    points = [(0.3, 0.2), (0.7, 0.2), (0.45, 0.8)]
    stroke.line([(x * width, y * height) for x, y in points], fill=ink, width=max(2, width // 12))
    return image


REFERENCE = prepare(encoded(drawing()))


def close(picture: NDArray[np.uint8], other: NDArray[np.uint8] = REFERENCE) -> bool:
    """Nearly the same ink in nearly the same place: a pixel of rounding is allowed."""
    moved = (np.roll(picture, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1))
    return max(float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) for one in moved) > 0.95


def ink_only(paper: int, ink: int) -> Image.Image:
    """The drawing on glass: visible where there is ink."""
    glass = Image.new("RGBA", (120, 160), (paper, paper, paper, 0))
    glass.paste((ink, ink, ink, 255), mask=drawing(0, 255))
    return glass


def sixteen_bit() -> Image.Image:
    return Image.fromarray(np.asarray(drawing(), dtype=np.uint16) * 257)


def see_through_palette() -> bytes:
    image = drawing().convert("1").convert("P")
    return encoded(image, transparency=255)


def test_a_picture_becomes_white_ink_on_black_in_the_middle() -> None:
    assert REFERENCE.shape == (28, 28)
    assert REFERENCE.dtype == np.uint8
    assert REFERENCE.max() > 240
    rows = np.flatnonzero((REFERENCE > 50).any(axis=1))
    assert rows.max() - rows.min() + 1 == 20
    weights = REFERENCE / REFERENCE.sum()
    for axis in (0, 1):
        centre = (weights.sum(axis=1 - axis) * np.arange(28)).sum()
        assert centre == pytest.approx(13.5, abs=0.6)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(encoded(drawing(0, 255)), id="light on dark"),
        pytest.param(encoded(drawing(140, 60)), id="low contrast"),
        pytest.param(encoded(drawing().resize((1200, 1600))), id="large"),
        pytest.param(encoded(drawing().resize((1200, 1600)), "JPEG"), id="large jpeg"),
        pytest.param(encoded(drawing().convert("RGB"), "JPEG"), id="jpeg"),
        pytest.param(encoded(drawing().convert("CMYK"), "JPEG"), id="cmyk"),
        pytest.param(encoded(drawing().convert("1")), id="one bit"),
        pytest.param(encoded(drawing().convert("P"), "GIF"), id="palette"),
        pytest.param(encoded(drawing().convert("LA")), id="grey and alpha"),
        pytest.param(encoded(drawing().convert("LAB"), "TIFF"), id="lab"),
        pytest.param(encoded(drawing().convert("I"), "TIFF"), id="32 bit"),
        pytest.param(encoded(drawing().convert("F"), "TIFF"), id="floats"),
        pytest.param(encoded(sixteen_bit()), id="16 bit"),
        pytest.param(encoded(ink_only(255, 0)), id="dark ink on glass"),
        pytest.param(encoded(ink_only(0, 255)), id="light ink on glass"),
        pytest.param(encoded(ink_only(0, 0)), id="black ink on black glass"),
        pytest.param(see_through_palette(), id="see-through palette"),
        pytest.param(
            encoded(Image.merge("RGB", [Image.new("L", (120, 160), 255)] * 2 + [drawing()])),
            id="yellow on white",
        ),
    ],
)
def test_the_same_drawing_in_another_form_gives_the_same_picture(content: bytes) -> None:
    assert close(prepare(content))


def test_rotation_noted_by_a_camera_is_honoured() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = drawing().transpose(Image.Transpose.ROTATE_90)
    assert close(prepare(encoded(sideways, "JPEG", exif=exif)))
    assert not close(prepare(encoded(sideways, "JPEG")))


def test_uneven_light_a_grid_noise_and_specks_are_not_ink() -> None:
    light = np.linspace(200, 130, 320)[:, None] + np.linspace(0, -40, 240)[None, :]
    light[::20] -= 18
    light[:, ::20] -= 18
    light[300:304, 10:14] = 20
    light += np.random.default_rng(0).normal(0, 4, light.shape)
    ink = np.asarray(drawing(size=(240, 320))) < 128
    photo = np.where(ink, light * 0.3, light).clip(0, 255).astype(np.uint8)
    assert close(prepare(encoded(Image.fromarray(photo), "JPEG")))


def test_a_see_through_frame_around_paper_is_paper() -> None:
    page = drawing().convert("RGBA")
    framed = Image.new("RGBA", (150, 200), (0, 0, 0, 0))
    framed.paste(page, (15, 20))
    assert close(prepare(encoded(framed)))


def test_other_sizes_can_be_asked_for() -> None:
    picture = prepare(encoded(drawing()), height=40, width=32, box=24)
    assert picture.shape == (40, 32)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="no bytes"),
        pytest.param(b"hello", id="text"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", id="a program"),
        pytest.param(encoded(drawing())[:200], id="truncated png"),
        pytest.param(encoded(drawing(), "JPEG")[:-400], id="truncated jpeg"),
        pytest.param(encoded(Image.new("RGB", (50, 50), "white")), id="white"),
        pytest.param(encoded(Image.new("L", (1, 1))), id="one pixel"),
        pytest.param(encoded(Image.new("RGBA", (50, 50))), id="all see-through"),
        pytest.param(encoded(Image.new("F", (50, 50), float("nan")), "TIFF"), id="not a number"),
    ],
)
def test_what_shows_no_symbol_is_refused_with_a_remedy(content: bytes) -> None:
    with pytest.raises(PictureError, match="Expected") as refused:
        prepare(content)
    assert refused.value.status == 422
    assert refused.value.remedy


def bomb(width: int, height: int) -> bytes:
    """A PNG of 70 bytes that says it is enormous."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + (chunk(b"IEND", b""))
    )


@pytest.mark.parametrize("side", [8_000, 12_000, 60_000])
def test_a_picture_of_too_many_pixels_is_refused_from_its_header(side: int) -> None:
    with pytest.raises(PictureTooLarge, match="at most 50,000,000 pixels") as refused:
        prepare(bomb(side, side))
    assert refused.value.status == 413


def test_only_the_first_frame_of_many_is_read() -> None:
    blank = Image.new("L", (120, 160), 255)
    film = encoded(drawing(), "GIF", save_all=True, append_images=[blank] * 50)
    assert close(prepare(film))


SEEDS = [
    encoded(drawing(size=(40, 50))),
    encoded(drawing(size=(40, 50)), "JPEG"),
    encoded(drawing(size=(40, 50)), "GIF"),
    encoded(drawing(size=(40, 50)), "BMP"),
    encoded(drawing(size=(40, 50)), "TIFF"),
    encoded(drawing(size=(40, 50)), "WEBP"),
    encoded(drawing(size=(40, 50)), "PPM"),
    encoded(drawing(size=(40, 50)).convert("P"), transparency=0),
    encoded(sixteen_bit()),
]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 255)), max_size=8),
    cut=st.none() | st.integers(0, 5_000),
)
def test_a_damaged_picture_is_prepared_or_refused_and_nothing_else(
    seed: bytes, edits: list[tuple[int, int]], cut: int | None
) -> None:
    damaged = bytearray(seed)
    for place, value in edits:
        damaged[place % len(damaged)] = value
    try:
        picture = prepare(bytes(damaged[:cut]))
    except PictureError:
        return
    assert picture.shape == (28, 28)
    assert picture.any()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_politely(content: bytes) -> None:
    with pytest.raises(PictureError):
        prepare(content)


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**32 - 1),
    tone=st.sampled_from(["noise", "two", "spot"]),
)
def test_any_grey_pixels_are_prepared_or_called_blank(
    shape: tuple[int, int], seed: int, tone: str
) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    if tone == "two":
        pixels = np.where(pixels > 127, 255, 0).astype(np.uint8)
    if tone == "spot":
        pixels = np.where(pixels > 250, 255, 0).astype(np.uint8)
    try:
        picture = prepare(encoded(Image.fromarray(pixels)))
    except PictureError as error:
        refused = str(error)
    else:
        refused = ""
        assert picture.shape == (28, 28)
    assert not refused or "blank" in refused


def test_a_picture_that_was_prepared_stays_much_as_it_is() -> None:
    assert close(prepare(encoded(Image.fromarray(REFERENCE))))


def test_real_drawings_and_photos_are_prepared(test_data: Path) -> None:
    folder = test_data / "digit_pictures"
    with (folder / "labels.csv").open() as lines:
        files = [row["file"] for row in csv.DictReader(lines)]
    for file in files:
        picture = prepare((folder / file).read_bytes())
        assert 0.04 < (picture > 100).mean() < 0.3, file


def test_tiny_digits_are_enlarged_with_crisp_strokes_in_the_middle() -> None:
    digits = pytest.importorskip("sklearn.datasets").load_digits().images
    pictures = enlarge(digits)
    assert pictures.shape == (1797, 28, 28)
    assert pictures.dtype == np.uint8
    assert pictures.max(axis=(1, 2)).min() == 255
    assert 0.1 < (pictures > 127).mean() < 0.2
    rows = (pictures.sum(axis=2) * np.arange(28)).sum(axis=1) / pictures.sum(axis=(1, 2))
    assert np.abs(rows - 13.5).max() < 1.5


def test_an_empty_tiny_picture_is_enlarged_to_an_empty_one() -> None:
    assert not enlarge(np.zeros((1, 8, 8))).any()
