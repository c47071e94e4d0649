"""The idx format."""

import gzip
import struct
from pathlib import Path

import pytest

from timonel.data.idx import read_images, read_labels
from timonel.errors import SourceError

PICTURES = bytes(range(24))


def images_file(path: Path, content: bytes = PICTURES, count: int = 4) -> Path:
    path.write_bytes(gzip.compress(struct.pack(">4sIII", b"\0\0\x08\x03", count, 2, 3) + content))
    return path


def test_pictures_are_read_row_by_row_with_their_shape(tmp_path: Path) -> None:
    pictures, height, width = read_images(images_file(tmp_path / "images.gz"))
    assert (height, width) == (2, 3)
    assert pictures == [PICTURES[0:6], PICTURES[6:12], PICTURES[12:18], PICTURES[18:24]]


def test_labels_are_read_from_a_file_that_is_not_gzipped(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(struct.pack(">4sI", b"\0\0\x08\x01", 3) + b"\x07\x00\x09")
    assert read_labels(path) == [7, 0, 9]


def test_pictures_given_as_labels_are_refused_with_both_magics(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"starts with 00000801\), got 00000803"):
        read_labels(images_file(tmp_path / "images.gz"))


@pytest.mark.parametrize("content", [PICTURES[:-1], PICTURES + b"x"], ids=["short", "long"])
def test_a_count_that_is_not_the_content_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SourceError, match="expected 24 bytes after the header"):
        read_images(images_file(tmp_path / "images.gz", content))


@pytest.mark.parametrize("kept", [0, 1, 3, 15, 25, 30])
def test_a_torn_file_is_refused_wherever_it_was_torn(tmp_path: Path, kept: int) -> None:
    path = images_file(tmp_path / "images.gz")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SourceError, match="expected"):
        read_images(path)


def test_a_gzip_with_flipped_bytes_is_refused(tmp_path: Path) -> None:
    path = images_file(tmp_path / "images.gz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(SourceError, match="expected"):
        read_images(path)


def test_mnist_test_pictures_and_labels_are_all_there(test_data: Path) -> None:
    pictures, height, width = read_images(test_data / "mnist" / "t10k-images-idx3-ubyte.gz")
    labels = read_labels(test_data / "mnist" / "t10k-labels-idx1-ubyte.gz")
    assert (len(pictures), height, width) == (10_000, 28, 28)
    assert {len(picture) for picture in pictures} == {784}
    assert labels[:10] == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
