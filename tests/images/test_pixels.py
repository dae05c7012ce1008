"""Seed images: every odd file is read to known values or refused with a reason."""

import contextlib
import hashlib
import io
import os
import re
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize, ToTensor

from camdrift.errors import ImageError, UserError
from camdrift.images.files import LARGEST_FILE, images_checksum
from camdrift.images.pixels import read_adversarial, read_image
from camdrift.images.sources import find_images, limit_images
from support.files import deny, touch

PHOTOS = Path(__file__).parents[3] / "shared" / "images" / "imagenette"


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(mode, colour, size=(8, 8)):
    return PIL.Image.new(mode, size, colour)


def grey16(value):
    return PIL.Image.fromarray(np.full((8, 8), value, np.uint16))


def tiff(bits, white_is_zero, data, sample_format=1):
    """A grey TIFF of 8 x 8 pixels, in variants that Pillow reads but does not write."""
    tags = [(256, 8), (257, 8), (258, bits), (259, 1), (262, 0 if white_is_zero else 1), (273, 8), (277, 1)]
    tags += [(278, 8), (279, len(data)), (339, sample_format)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    return head + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def forged_png(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0"))


def frames(kind):
    red, blue = plain("RGB", "red", (16, 16)), plain("RGB", "blue", (16, 16))
    return encoded(red, kind, save_all=True, append_images=[blue])


def noise(width, height, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return PIL.Image.fromarray(values)


def palette_with_hidden_red():
    image = plain("P", 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((7, 7), 1)
    return encoded(image, "PNG", transparency=0)


def levels(path, size=8, resize=8):
    """The pixels that are read, on the scale 0 to 255."""
    return read_image(Path(path), size=size, resize=resize).pixels * 255


def reason_for(path):
    with pytest.raises(ImageError) as caught:
        levels(path)
    return caught.value.message


READABLE = {
    "grey": (encoded(plain("L", 100), "PNG"), (100, 100, 100)),
    "1-bit white": (encoded(plain("1", 1), "PNG"), (255, 255, 255)),
    "grey with alpha 128": (encoded(plain("LA", (100, 128)), "PNG"), (177, 177, 177)),
    "transparent red": (encoded(plain("RGBA", (255, 0, 0, 0)), "PNG"), (255, 255, 255)),
    "opaque red": (encoded(plain("RGBA", (255, 0, 0, 255)), "PNG"), (255, 0, 0)),
    "one clear colour": (encoded(plain("RGB", (1, 2, 3)), "PNG", transparency=(1, 2, 3)), (255, 255, 255)),
    "palette, hidden red": (palette_with_hidden_red(), (255, 255, 255)),
    "CMYK TIFF": (encoded(plain("CMYK", (255, 0, 0, 0)), "TIFF"), (0, 255, 255)),
    "CMYK JPEG": (encoded(plain("CMYK", (255, 0, 0, 0)), "JPEG"), (0, 255, 255)),
    "16-bit PNG": (encoded(grey16(2570), "PNG"), (10, 10, 10)),
    "16-bit PNG, rounded up": (encoded(grey16(1000), "PNG"), (4, 4, 4)),  # 1000 / 257 = 3.89
    "16-bit TIFF": (encoded(grey16(65535), "TIFF"), (255, 255, 255)),
    "16-bit JPEG 2000": (encoded(grey16(2570), "JPEG2000"), (10, 10, 10)),
    "16-bit TIFF, white is zero": (tiff(16, True, struct.pack("<H", 2570) * 64), (245, 245, 245)),
    "12-bit TIFF": (tiff(12, False, b"\x80\x08\x00" * 32), (128, 128, 128)),  # 0x800 / 4095 * 255 = 127.5
    "PGM up to 1000": (b"P5 8 8 1000\n" + struct.pack(">H", 200) * 64, (51, 51, 51)),
    "float TIFF": (tiff(32, False, struct.pack("<f", 0.2) * 64, 3), (51, 51, 51)),
    "single GIF": (encoded(plain("RGB", (9, 8, 7)), "GIF"), (9, 8, 7)),
    "MPO of two views": (frames("MPO"), (254, 0, 0)),
    "damaged EXIF": (encoded(plain("L", 100), "PNG", exif=b"Exif\0\0II*\0\xff\xff"), (100, 100, 100)),
    "cut EXIF": (encoded(plain("L", 100), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0"), (100, 100, 100)),
}

REFUSED = {
    "truncated JPEG": (encoded(noise(64, 64), "JPEG")[:-500], "^truncated"),
    "truncated PNG": (encoded(noise(64, 64), "PNG")[:-500], "^truncated"),
    "truncated WEBP": (encoded(noise(64, 64), "WEBP")[:-500], "^cannot be decoded"),
    "empty": (b"", "^empty file"),
    "text": (b"How to label these images\n", "^not an image"),
    "drawing": (encoded(plain("RGB", 0), "EPS"), "^not an image"),
    "animated GIF": (frames("GIF"), "^several frames"),
    "animated PNG": (frames("PNG"), "^several frames"),
    "animated WEBP": (frames("WEBP"), "^several frames"),
    "TIFF of two pages": (frames("TIFF"), "^several frames"),
    "1 x 1": (encoded(plain("RGB", 0, (1, 1)), "PNG"), "^too small: 1 x 1 pixels"),
    "100 x 7": (encoded(plain("RGB", 0, (100, 7)), "PNG"), "^too small: 100 x 7 pixels"),
    "4000 x 10": (encoded(plain("RGB", 0, (4000, 10)), "PNG"), "^too narrow: 4000 x 10 pixels"),
    "10 x 201": (encoded(plain("RGB", 0, (10, 201)), "PNG"), "^too narrow: 10 x 201 pixels"),
    "twice Pillow's limit": (forged_png(60000, 60000), "^too large: 3,600,000,000 pixels"),
    "above Pillow's limit": (forged_png(9500, 9500), r"^too large: 90,250,000 pixels \(9500 x 9500\)"),
    "not a number": (tiff(32, False, struct.pack("<f", np.nan) * 64, 3), "^values from nan"),
    "floats up to 5": (tiff(32, False, struct.pack("<ff", 0, 5) * 32, 3), "^values from 0 to 5"),
    "negative floats": (tiff(32, False, struct.pack("<ff", -1, 1) * 32, 3), "^values from -1 to 1"),
    "32-bit integers": (tiff(32, False, struct.pack("<II", 0, 70000) * 32), "^values from 0 to 70000"),
}


@pytest.mark.parametrize(("data", "colour"), READABLE.values(), ids=READABLE)
def test_every_kind_of_image_is_read_to_its_colours(data, colour, tmp_path):
    path = tmp_path / "picture.jpg"  # judged by content, whatever the name says
    path.write_bytes(data)
    assert levels(path)[:, 0, 0].tolist() == pytest.approx(colour, abs=0.01)


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_studied_is_refused_with_a_reason(data, reason, tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(data)
    assert re.search(reason, reason_for(path))
    assert not re.search("/|0x|\n", reason_for(path))


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.arange(0, 65536, 1024, np.uint16).reshape(8, 8)
    PIL.Image.fromarray(values).save(tmp_path / "deep.png")
    expected = [[round(float(value) / 257) for value in row] for row in values]
    for channel in levels(tmp_path / "deep.png"):
        assert channel.round().tolist() == expected


# Where the stored corners (top left, top right) belong, from the EXIF table of row 0 and column 0.
CORNERS = {1: "TL TR", 2: "TR TL", 3: "BR BL", 4: "BL BR", 5: "TL BL", 6: "TR BR", 7: "BR TR", 8: "BL TL"}


@pytest.mark.parametrize("orientation", CORNERS)
def test_pictures_are_turned_upright(orientation, tmp_path):
    stored, exif = plain("RGB", 0, (16, 16)), PIL.Image.Exif()
    stored.putpixel((0, 0), (255, 0, 0))
    stored.putpixel((15, 0), (0, 255, 0))
    exif[274] = orientation
    stored.save(tmp_path / "phone.png", exif=exif)
    shown = levels(tmp_path / "phone.png", 16, 16)
    corners = {"TL": (0, 0), "TR": (0, -1), "BL": (-1, 0), "BR": (-1, -1)}
    red, green = CORNERS[orientation].split()
    assert shown[:, *corners[red]].tolist() == [255, 0, 0]
    assert shown[:, *corners[green]].tolist() == [0, 255, 0]
    assert shown.sum() == 510


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "resize"), [(224, 256), (224, 224), (31, 48), (30, 33)])
@pytest.mark.parametrize("shape", [(500, 375), (333, 500), (224, 224), (37, 100), (64, 700), (1001, 77)])
def test_pixels_equal_torchvisions(shape, size, resize, interpolation, tmp_path):
    image = noise(*shape)
    image.save(tmp_path / "noise.png")
    peer = Compose([Resize(resize, InterpolationMode(interpolation)), CenterCrop(size), ToTensor()])
    ours = read_image(tmp_path / "noise.png", size=size, resize=resize, interpolation=interpolation)
    assert torch.equal(ours.pixels, peer(image))
    assert ours.pixels.is_contiguous()
    assert ours.pixels.untyped_storage().nbytes() == 4 * 3 * size * size
    assert ours.sha256 == hashlib.sha256((tmp_path / "noise.png").read_bytes()).hexdigest()


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photographs of the Imagenette set are not here")
def test_photographs_equal_torchvisions():
    peer = Compose([Resize(256), CenterCrop(224), ToTensor()])
    files = find_images(PHOTOS)
    assert {file.folder for file in files} == {path.name for path in PHOTOS.iterdir()}
    for file in limit_images(files, 10):
        with PIL.Image.open(file.path) as image:
            expected = peer(image.convert("RGB"))
        assert torch.equal(read_image(file.path, size=224, resize=256).pixels, expected)


def test_files_that_cannot_be_opened_are_refused_with_a_reason(tmp_path, monkeypatch):
    assert reason_for(tmp_path / "none.jpg") == "cannot be opened: no such file or directory"
    assert reason_for(tmp_path) == "a folder, not an image file"
    assert reason_for("null\0byte.jpg").startswith("cannot be opened: ")
    assert reason_for("x" * 5000).startswith("cannot be opened: ")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason_for(tmp_path / "pipe.jpg") == "a device or a pipe, not an image file"
    with (tmp_path / "film.jpg").open("wb") as film:
        film.truncate(LARGEST_FILE + 1)
    assert reason_for(tmp_path / "film.jpg").startswith("too large: 1,073,741,825 bytes")
    touch(tmp_path, "locked.jpg")
    deny(monkeypatch, "read_bytes", "locked.jpg")
    assert reason_for(tmp_path / "locked.jpg") == "cannot be opened: permission denied"


def test_threads_leave_warnings_and_pillow_as_they_were(tmp_path):
    (tmp_path / "a.jpg").write_bytes(READABLE["cut EXIF"][0])
    (tmp_path / "b.jpg").write_bytes(REFUSED["truncated JPEG"][0])
    before = list(warnings.filters), PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES
    with ThreadPoolExecutor(8) as pool:
        good = list(pool.map(levels, [tmp_path / "a.jpg"] * 200))
        bad = list(pool.map(reason_for, [tmp_path / "b.jpg"] * 50))
    assert len(good) == 200
    assert set(bad) == {"truncated: the file ends before the picture does"}
    assert before == (list(warnings.filters), PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES)


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_a_deep_adversarial_picture_is_refused_with_the_cure(ending, tmp_path):
    deep = np.full((8, 8), 40_001, dtype=np.uint16)
    PIL.Image.fromarray(deep).save(tmp_path / f"a.{ending}")
    with pytest.raises(ImageError, match=r"more than 8 bits a colour.* save it as \.npy"):
        read_adversarial(tmp_path / f"a.{ending}", size=8, resize=8)


def test_a_deep_colour_picture_is_refused_too(tmp_path):
    rows = b"".join(b"\0" + bytes([156, 65]) * 24 for _ in range(8))  # 16 bits of three colours

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(data)
    assert int(read_image(tmp_path / "a.png", size=8, resize=8).pixels[0, 0, 0] * 255) == 156
    with pytest.raises(ImageError, match="more than 8 bits a colour"):
        read_adversarial(tmp_path / "a.png", size=8, resize=8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"size": 8, "resize": 8, "interpolation": "area"},
            "`interpolation` must be one of bilinear, bicubic, nearest",
        ),
        (
            {"size": 8, "resize": 8, "rounding": "up"},
            "`rounding` must be one of torchvision, transformers, paddle, got: up",
        ),
        ({"size": 0, "resize": 8}, "`size` must be at least 1 and `resize` at least 0, got: 0 and 8"),
        ({"size": 8, "resize": (9, -1)}, "`size` must be at least 1 and `resize` at least 0, got: 8 and (9, -1)"),
    ],
)
def test_arguments_out_of_range_are_the_callers_mistake(arguments, message, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read_image(tmp_path, **arguments)
    assert not isinstance(caught.value, ImageError)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "image"


def survives(scratch, data):
    scratch.write_bytes(data)
    with contextlib.suppress(ImageError):
        pixels = levels(scratch)
        assert pixels.shape == (3, 8, 8)
        assert 0 <= pixels.min() <= pixels.max() <= 255


MAGIC = b"|\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF89a|II*\0|BM|P5 9 9 255\n|RIFF|8BPS".split(b"|")
EDITS = st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8)
WHOLE = [encoded(noise(24, 16), kind) for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP")]


@settings(max_examples=200, deadline=None)
@given(start=st.sampled_from(MAGIC), rest=st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_image_errors(scratch, start, rest):
    survives(scratch, start + rest)


@settings(max_examples=300, deadline=None)
@given(data=st.sampled_from(WHOLE), edits=EDITS)
def test_random_damage_raises_nothing_but_image_errors(scratch, data, edits):
    damaged = bytearray(data)
    for place, value in edits:
        damaged[int(place * len(damaged))] = value
    survives(scratch, bytes(damaged))


def test_the_checksum_of_all_images_ignores_their_order():
    expected = hashlib.sha256(b"aa\nbb\ncc").hexdigest()
    assert images_checksum(["cc", "aa", "bb"]) == images_checksum(iter(["aa", "bb", "cc"])) == expected
    assert images_checksum(["aa", "aabb"]) != images_checksum(["aaaa", "bb"])
