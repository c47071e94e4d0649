"""Pictures of one symbol, made into what a model was trained on: small, centred, white on black.

Training, the API, the command line and the page all come through here, so a photo of a pen on
squared paper, a transparent drawing and a scanned bitmap reach the model alike.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from timonel.errors import TimonelError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["PictureError", "PictureTooLarge", "enlarge", "prepare"]

# Formats whose decoders read pixels and nothing else; EPS, for one, would run a program.
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
ORIENTATION = 0x0112
# Larger pictures are reduced to this side first: enough for a box of 20, quick for any camera.
SIDE = 400
# Strokes thinner than this many pixels in the box are thickened; it is the median of MNIST.
PEN = 2.5
# Less difference in grey between paper and ink than this is an empty page.
FAINTEST = 20.0

Grey = NDArray[np.float32]


class PictureError(TimonelError):
    """The bytes are not a picture that can be read, or there is nothing on it."""

    status = 422
    exit_code = 2


class PictureTooLarge(PictureError):
    """The picture's header says more pixels than the limit."""

    status = 413


def prepare(
    content: bytes,
    *,
    height: int = 28,
    width: int = 28,
    box: int = 20,
    max_pixels: int = 50_000_000,
) -> NDArray[np.uint8]:
    """The picture in a file's bytes as uint8 (height, width), white ink on black.

    Any size and mode; EXIF rotation and transparency are honoured, only the first frame is
    read. The ink is told from the paper, cropped, fitted into `box` x `box` with its aspect
    kept, and centred by mass.

    Raises PictureTooLarge when the header promises more than `max_pixels`, before decoding;
    PictureError for bytes that are no picture, are cut short, or show no ink.
    """
    ink = _ink(_decode(content, max_pixels))
    return _place(_fit(ink, box), height, width)


def enlarge(
    images: NDArray[Any], *, height: int = 28, width: int = 28, box: int = 20, peak: float = 16.0
) -> NDArray[np.uint8]:
    """Small pictures (n, h, w), 0..peak ink coverage, as uint8 (n, height, width), centred.

    Meant for scikit-learn's 8x8 digits: a cell holds how much ink fell on it, so a stroke is a
    ridge in the smooth surface through the cells, and what stands out from its surroundings is
    a stroke with edges again.
    """
    cells = np.pad(np.asarray(images, dtype=np.float32) / peak, ((0, 0), (1, 1), (1, 1)))
    pictures = np.zeros((len(cells), height, width), dtype=np.uint8)
    ratio = 2 * box / max(images.shape[1:])
    fine, coarse = (
        [_smooth(side, round(side * ratio), reach) for side in cells.shape[1:]]
        for reach in (0.5, 1.2)
    )
    surface = fine[0] @ cells @ fine[1].T - 0.8 * (coarse[0] @ cells @ coarse[1].T)
    for picture, ridges in zip(pictures, surface, strict=True):
        top = float(ridges.max())
        if top > 0:
            ink = np.clip((ridges / top - 0.3) / 0.3, 0, 1) * 255
            picture[:] = _place(_fit(_crop(ink, 100), box), height, width)
    return pictures


def _decode(content: bytes, max_pixels: int) -> Grey:
    """The brightness 0..255 of the first frame, upright, no larger than it needs to be."""
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise PictureError(
            "Expected the bytes of a picture; got none.", remedy="Send a PNG or a JPEG file."
        )
    Image.init()
    readable = [name for name in FORMATS if name in Image.OPEN]
    try:
        image = Image.open(io.BytesIO(content), formats=readable)
        pixels = image.width * image.height
        if pixels <= max_pixels:
            # A JPEG can be decoded at a half, a quarter or an eighth for less work.
            image.draft(None, (SIDE, SIDE))
            image.load()
            return _grey(_upright(image))
    except PictureError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as bomb:
        raise PictureTooLarge(
            f"Expected a picture of at most {max_pixels:,} pixels; its header says far more.",
            remedy="Send a smaller picture.",
        ) from bomb
    except UnidentifiedImageError as unknown:
        raise PictureError(
            f"Expected a picture; these {len(content):,} bytes are not one that can be read.",
            remedy=f"Send one of: {', '.join(readable)}.",
        ) from unknown
    except Exception as broken:
        raise PictureError(
            f"Expected a whole picture; decoding its {len(content):,} bytes failed "
            f"({type(broken).__name__}: {broken}).",
            remedy="Check that the file opens elsewhere, and send it again.",
        ) from broken
    raise PictureTooLarge(
        f"Expected a picture of at most {max_pixels:,} pixels; "
        f"got {image.width} x {image.height} = {pixels:,}.",
        remedy="Send a smaller picture.",
    )


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    try:
        turned = image.getexif().get(ORIENTATION, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:  # noqa: BLE001 -- damaged EXIF is no reason to refuse good pixels
        return image


def _grey(image: Image) -> Grey:
    """Brightness 0..255 of a picture of any mode, at most SIDE on its longer side."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0, neginf=0)
        top = float(values.max())
        full = 65535.0 if image.mode.startswith("I;16") else max(top, 1.0)
        if full > 255 and not image.mode.startswith("I;16"):
            full = max(full, 65535.0)
        scaled = np.clip(values * (255 / full), 0, 255).astype(np.uint8)
        image = Image.fromarray(scaled)
    if image.mode == "LAB":
        image = image.getchannel("L")
    if image.has_transparency_data:
        channels = _shrink(image if image.mode == "RGBA" else image.convert("RGBA"))
        colours = _composite(channels[..., :3], channels[..., 3:] / np.float32(255))
    elif image.mode in ("1", "L"):
        colours = _shrink(image.convert("L"))[..., None]
    else:
        colours = _shrink(image.convert("RGB"))
    return _contrasting(colours)


def _shrink(image: Image) -> Grey:
    from PIL import Image

    ratio = SIDE / max(image.size)
    if ratio < 1:
        size = max(1, round(image.width * ratio)), max(1, round(image.height * ratio))
        image = image.resize(size, Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float32)


def _composite(colours: Grey, alpha: Grey) -> Grey:
    """Lay a transparent picture on the paper it was meant for."""
    visible = colours[alpha[..., 0] > 0.5]
    if visible.size == 0:
        raise _blank()
    low, high = np.percentile(visible.mean(axis=1), [5, 95])
    if alpha.min() > 0.5 or (high - low > FAINTEST and (alpha > 0.5).mean() > 0.5):
        paper = np.median(visible, axis=0)  # the paper is in the picture; only fill its holes
    elif high - low <= FAINTEST:
        paper = np.full(3, 255.0 if low < 128 else 0.0)  # one colour: all that is visible is ink
    else:
        paper = np.full(3, 255.0 if visible.mean() < 128 else 0.0)
    laid: Grey = (colours * alpha + paper.astype(np.float32) * (1 - alpha)).astype(np.float32)
    return laid


def _contrasting(colours: Grey) -> Grey:
    """Brightness, unless one colour channel tells ink from paper much better (yellow on white)."""
    if colours.shape[2] == 1:
        return colours[..., 0]
    brightness: Grey = colours @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    spreads = colours.std(axis=(0, 1))
    best = int(spreads.argmax())
    return colours[..., best] if spreads[best] > 1.8 * brightness.std() else brightness


def _ink(grey: Grey) -> Grey:
    """How much ink is on each pixel, 0..255, cropped to it."""
    lifted = grey - _paper(grey)
    noise = 3 * float(np.median(np.abs(lifted)))
    dark, light = (np.maximum(side - noise, 0) for side in (-lifted, lifted))
    ink = np.maximum(-lifted if (dark**2).sum() >= (light**2).sum() else lifted, 0)
    # The strongest pixels, and at least a few, so that one spark does not set the scale.
    strongest = max(4, ink.size // 500)
    peak = float(np.sort(ink, axis=None)[-strongest:].mean()) if ink.size >= 4 else 0.0
    if peak < FAINTEST:
        raise _blank()
    mask = ink > max(0.45 * peak, noise)
    if not mask.any():
        raise _blank()
    mask = _main_marks(ink, mask)
    strong = ink[mask]
    ink *= _spread_mask(mask)
    ink = np.clip(ink * (255 / float(np.percentile(strong, 60))), 0, 255)
    return _crop(ink, 50)


def _crop(ink: Grey, least: float) -> Grey:
    """The smallest part of the picture that holds all ink above `least`."""
    rows, columns = (np.flatnonzero((ink > least).any(axis=axis)) for axis in (1, 0))
    cropped: Grey = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return cropped


def _paper(grey: Grey) -> Grey:
    """The brightness of the empty paper at each pixel: a smooth surface that ignores the ink.

    Begun from the border, where there is least ink, then fitted to all that lies close to it.
    """
    height, width = grey.shape
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    rim = max(1, min(height, width) // 25)
    border = np.ones(grey.shape, dtype=bool)
    border[rim:-rim, rim:-rim] = False
    level = float(np.median(grey[border]))
    reach = max(12.0, 3 * float(np.median(np.abs(grey[border] - level))))
    near = np.abs(grey - level) < reach
    paper = np.full_like(grey, level)
    terms = np.stack(np.broadcast_arrays(np.ones_like(x * y), y, x, y * y, x * x, y * x), axis=-1)
    step = max(1, max(height, width) // 64)
    for _ in range(4):
        thin = near[::step, ::step]
        if thin.mean() < 0.2:
            break
        weights = np.linalg.lstsq(
            terms[::step, ::step][thin], grey[::step, ::step][thin], rcond=None
        )[0]
        paper = terms @ weights
        near = np.abs(grey - paper) < reach
    return paper


def _main_marks(ink: Grey, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without its specks: marks with less than a tenth of the largest mark's ink.

    Marks are told apart on a coarse net, where a stroke of the same symbol close by joins in.
    """
    cell = max(1, math.ceil(max(mask.shape) / 64))
    padding = [(0, -side % cell) for side in mask.shape]
    rows, columns = (
        (side + extra) // cell for side, (_, extra) in zip(mask.shape, padding, strict=True)
    )
    cells = np.pad(ink * mask, padding).reshape(rows, cell, columns, cell).sum(axis=(1, 3))
    names = np.where(cells > 0, np.arange(1, cells.size + 1).reshape(cells.shape), 0)
    while True:
        spread = _largest_near(names) * (cells > 0)
        if np.array_equal(spread, names):
            break
        names = spread
    masses = np.bincount(names.ravel(), weights=cells.ravel())
    kept = (masses >= 0.1 * masses.max())[names] & (cells > 0)
    whole = kept.repeat(cell, axis=0).repeat(cell, axis=1)
    main: NDArray[np.bool_] = mask & whole[: mask.shape[0], : mask.shape[1]]
    return main


def _spread_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask and two pixels around it, where a stroke fades into the paper."""
    return _largest_near(_largest_near(mask))


def _largest_near(values: NDArray[Any]) -> NDArray[Any]:
    """The largest of each value and its eight neighbours."""
    framed = np.pad(values, 1)
    rows = np.maximum(np.maximum(framed[:-2], framed[1:-1]), framed[2:])
    near: NDArray[Any] = np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    return near


def _fit(ink: Grey, box: int) -> Grey:
    """The crop scaled into box x box, its aspect kept."""
    from PIL import Image

    ratio = box / max(ink.shape)
    size = max(1, round(ink.shape[1] * ratio)), max(1, round(ink.shape[0] * ratio))
    fitted = np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BICUBIC))
    # A hairline fades when it is scaled down; the model knows strokes that are white.
    top = max(float(np.percentile(fitted[fitted > 0.3 * fitted.max()], 60)), 1.0)
    return _pen(np.clip(fitted * max(1.0, 255 / top), 0, 255))


def _pen(ink: Grey) -> Grey:
    """Thin strokes made nearly as thick as the pens that the models learned from."""
    framed = np.pad(ink, 1)
    edges = np.abs(np.diff(framed, axis=0)).sum() + np.abs(np.diff(framed, axis=1)).sum()
    # A long stroke has two edges; a slanting one counts 4/pi times in rows and columns.
    thickness = 2 * float(ink.sum()) / max(float(edges) * math.pi / 4, 1e-6)
    growth = min(max((PEN - thickness) / 2, 0.0), 1.0)
    return ink + growth * (_largest_near(ink) - ink)


def _place(ink: Grey, height: int, width: int) -> NDArray[np.uint8]:
    """A black picture with the ink's centre of mass in its middle, as far as it fits."""
    total = max(float(ink.sum()), 1e-6)
    placed = np.zeros((height, width), dtype=np.uint8)
    corner = []
    for axis, side in ((0, height), (1, width)):
        mass = float((ink.sum(axis=1 - axis) * np.arange(ink.shape[axis])).sum()) / total
        start = round((side - 1) / 2 - mass)
        corner.append(min(max(start, 0), side - ink.shape[axis]))
    top, left = corner
    placed[top : top + ink.shape[0], left : left + ink.shape[1]] = np.rint(ink)
    return placed


def _smooth(small: int, large: int, reach: float) -> Grey:
    """Weights (large, small) of an enlargement that blurs over `reach` small pixels."""
    at = (np.arange(large) + 0.5) * small / large - 0.5
    weights = np.exp(-((at[:, None] - np.arange(small)[None, :]) ** 2) / (2 * reach**2))
    smooth: Grey = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return smooth


def _blank() -> PictureError:
    return PictureError(
        "Expected ink on paper; the picture is blank, or too faint to tell the two apart.",
        remedy="Send a picture with one symbol in clear contrast to its background.",
    )
