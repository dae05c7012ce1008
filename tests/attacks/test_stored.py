"""Adversarial images that are there already: pairing, reading, judging, resuming."""

import csv
import re
import sys
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image

import camdrift
from camdrift.cli import app as cli
from camdrift.errors import ImageError, StoreError, UserError
from camdrift.images.pairs import pair_adversarial
from camdrift.images.pixels import read_adversarial, read_image
from camdrift.images.places import Folder, ImageFile
from camdrift.images.sources import find_images
from camdrift.tensors import perturbed
from support.attacks import perturbations
from support.studies import (
    SIZE,
    SMALL,
    TinyNet,
    assert_same,
    picture,
    skip_report,
    tiny_classifier,
    write_factory,
    write_images,
)

DOCS = (Path(__file__).parents[2] / "docs/attacks.md").read_text(encoding="utf-8")


@pytest.fixture
def types_as_in_use(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def seeds(*names):
    return [ImageFile(name, Folder(Path("/seeds")), name) for name in names]


def files(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def write_csv(path, *rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["seed", "adversarial"], *rows])
    return path


class TestPairing:
    def paired(self, folder, *names):
        found = pair_adversarial(folder, seeds(*names))
        return {seed: path.relative_to(folder).as_posix() for seed, path in found.items()}

    def test_by_name_but_for_the_ending(self, tmp_path):
        folder = files(tmp_path / "adv", "a/x.png", "b/x.png", "y.z.webp", "other.png", "notes.txt", ".hidden.png")
        assert self.paired(folder, "a/x.jpg", "b/x.JPEG", "y.z.jpg", "missing.jpg") == {
            "a/x.jpg": "a/x.png",
            "b/x.JPEG": "b/x.png",
            "y.z.jpg": "y.z.webp",
        }

    def test_the_very_name_goes_first_and_then_arrays(self, tmp_path):
        folder = files(tmp_path / "adv", "x.jpg", "x.png", "y.npy", "y.png")
        assert self.paired(folder, "x.jpg", "y.jpg") == {"x.jpg": "x.jpg", "y.jpg": "y.npy"}

    def test_seeds_that_share_a_name_need_the_very_name(self, tmp_path):
        folder = files(tmp_path / "adv", "x.png")
        assert self.paired(folder, "x.jpg", "x.png") == {"x.png": "x.png"}

    def test_two_images_of_one_seed(self, tmp_path):
        folder = files(tmp_path / "adv", "x.png", "x.webp")
        with pytest.raises(UserError, match=r"one image for x.jpg, got: x.png, x.webp"):
            self.paired(folder, "x.jpg")

    def test_csv_of_paths_and_ids(self, tmp_path):
        photos = write_images(tmp_path / "my, photos", 3)
        pairs = write_csv(
            tmp_path / "pairs.csv",
            ("my, photos/img_00.png", "made/a.png"),
            (photos / "img_01.png", tmp_path / "b.png"),
            ("img_02.png", "c.npy"),
            ("elsewhere.png", "d.png"),
        )
        found = pair_adversarial(pairs, find_images(photos))
        expected = {"img_00.png": "made/a.png", "img_01.png": "b.png", "img_02.png": "c.npy"}
        assert found == {seed: tmp_path / name for seed, name in expected.items()}

    def test_one_image_for_one_seed(self, tmp_path):
        image = files(tmp_path, "any.png") / "any.png"
        assert pair_adversarial(image, seeds("x.jpg")) == {"x.jpg": image}
        with pytest.raises(UserError, match="an image, where there are several seeds"):
            pair_adversarial(image, seeds("x.jpg", "y.jpg"))

    @pytest.mark.usefixtures("types_as_in_use")
    def test_mistakes(self, tmp_path):
        def refused(path):
            with pytest.raises(UserError) as caught:
                pair_adversarial(path, seeds("a/x.jpg"))
            assert "seed,adversarial" in caught.value.message + caught.value.hint
            return caught.value.message

        folder = files(tmp_path / "adv", "b.png")
        assert refused(folder).endswith(f"got: {folder}, where there is b.png, and no a/x")
        empty = tmp_path / "empty"
        empty.mkdir()
        assert refused(empty).endswith("where there is none, and no a/x")
        assert "(nothing is there)" in refused(tmp_path / "nowhere")
        path = tmp_path / "pairs.csv"
        path.write_text("image,made\nx,y\n")
        assert refused(path).endswith("must have the header seed,adversarial, got: image,made")
        path.write_text("")
        assert refused(path).endswith("must have the header seed,adversarial, got: nothing")
        path.write_text("seed,adversarial\na/x.jpg\n")
        with pytest.raises(UserError, match="must name two images in each line, got: line 2"):
            pair_adversarial(path, seeds("a/x.jpg"))
        write_csv(path, ("a/x.jpg", "1.png"), ("a/x.jpg", "2.png"))
        with pytest.raises(UserError, match=r"one image for a/x\.jpg, got: two lines"):
            pair_adversarial(path, seeds("a/x.jpg"))
        path.write_bytes("seed,adversarial\ncaf\xe9.jpg,x\n".encode("latin-1"))
        assert "not UTF-8 text" in refused(path)
        assert refused(write_csv(path, ("z.jpg", "1.png"))).endswith("where there is z.jpg, and no a/x")


class TestReading:
    def test_the_right_size_is_taken_as_it_is(self, tmp_path):
        path = tmp_path / "x.png"
        picture(1, (SIZE, SIZE)).save(path)
        read = read_adversarial(path, size=SIZE, resize=2 * SIZE)
        assert torch.equal(read.pixels, read_image(path, size=SIZE, resize=SIZE).pixels)
        assert np.array_equal((read.pixels.permute(1, 2, 0) * 255).round().byte().numpy(), np.asarray(Image.open(path)))

    def test_another_size_is_cropped_as_a_seed_is(self, tmp_path):
        path = tmp_path / "x.png"
        picture(1, (70, 50)).save(path)
        for options in ({"resize": 40}, {"resize": 0}, {"resize": 40, "interpolation": "bicubic"}):
            one, other = (read(path, size=SIZE, **options) for read in (read_adversarial, read_image))
            assert torch.equal(one.pixels, other.pixels)
            assert one.sha256 == other.sha256

    def test_arrays_keep_everything(self, tmp_path):
        values = np.random.default_rng(0).random((3, SIZE, SIZE), dtype=np.float32)
        for name, array in {"a": values, "b": values.transpose(1, 2, 0), "c": values.astype(np.float64)}.items():
            np.save(tmp_path / name, array)
            read = read_adversarial(tmp_path / f"{name}.npy", size=SIZE, resize=SIZE)
            assert np.array_equal(read.pixels.numpy(), values)
            assert read.pixels.dtype == torch.float32

    @pytest.mark.parametrize(
        ("array", "reason"),
        [
            (np.zeros((3, 5, 5)), r"an array of \(3, 5, 5\), where the model takes \(3, 32, 32\)"),
            (np.zeros((1, 3, SIZE, SIZE)), r"an array of \(1, 3, 32, 32\)"),
            (np.zeros((3, SIZE, SIZE), dtype=np.uint8), "does not hold floats in"),
            (np.full((3, SIZE, SIZE), 1.5), "does not hold floats in"),
            (np.full((3, SIZE, SIZE), np.nan), "does not hold floats in"),
            (np.array([{}], dtype=object), "not a .npy file of numbers"),
        ],
    )
    def test_arrays_that_are_no_images(self, tmp_path, array, reason):
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(ImageError, match=reason):
            read_adversarial(tmp_path / "x.npy", size=SIZE, resize=SIZE)

    def test_bytes_that_are_no_array(self, tmp_path):
        (tmp_path / "x.npy").write_bytes(b"hello")
        with pytest.raises(ImageError, match=r"not a \.npy file of numbers"):
            read_adversarial(tmp_path / "x.npy", size=SIZE, resize=SIZE)


@pytest.fixture
def photos(tmp_path):
    return write_images(tmp_path / "photos", 6)


@pytest.fixture
def made(photos, tmp_path):
    """A folder of PGD images of the photographs, as arrays, but for the last one; and the perturbations."""
    model = tiny_classifier()
    pixels = {path.name: read_image(path, size=SIZE, resize=SIZE).pixels for path in sorted(photos.iterdir())}
    folder = tmp_path / "adversarial"
    folder.mkdir()
    deltas = perturbations("pgd(steps=10)", model, pixels, batch_size=3)
    for name in list(pixels)[:-1]:
        np.save(folder / name.replace(".png", ".npy"), perturbed(pixels[name], deltas[name]).numpy())
    return folder, pixels, deltas


@pytest.fixture
def run(photos, tmp_path, monkeypatch):
    skip_report(monkeypatch)

    def start(adversarial, out="run", **options):
        path = str(adversarial)
        return camdrift.run(tiny_classifier(), photos, out=tmp_path / out, adversarial=path, **{**SMALL, **options})

    return start


class TestStudy:
    def test_success_and_perturbation_are_those_of_the_images(self, made, run):
        folder, pixels, deltas = made
        study, model = run(folder), tiny_classifier()
        rows = {row["seed_id"]: row for row in study.seeds.iter_rows(named=True)}
        last = rows.pop("img_05.png")
        assert last["status"] == "no_adversarial"
        assert last["reason"] == f"no adversarial image with its name in {folder}"
        for name, row in rows.items():
            with torch.no_grad():
                after = model(perturbed(pixels[name], deltas[name])[None]).argmax(1).item()
            assert (row["status"] == "analysed") == (after != row["clean_class"])
            if row["status"] == "analysed":
                assert row["adversarial_class"] == after
                assert row["perturbation_linf"] == pytest.approx(8 / 255, abs=1e-6)
            else:
                assert row["reason"] == "the image that the attack made does not change the prediction"
            assert row["within_threat"] is None
        assert study.seeds.filter(status="analysed").height >= 3
        assert study.record["arguments"]["effective"]["attack"] == f"stored images of {folder}"
        assert study.record["attack"]["seeding"] == "none"
        assert re.fullmatch("[0-9a-f]{64}", study.record["attack"]["images_sha256"])

    def test_pictures_instead_of_arrays(self, made, run):
        folder, _, deltas = made
        for path in folder.iterdir():
            values = np.load(path).transpose(1, 2, 0)
            Image.fromarray((255 * values).round().astype(np.uint8)).save(path.with_suffix(".png"))
            path.unlink()
        study = run(folder)
        analysed = study.seeds.filter(status="analysed")
        assert analysed.height >= 3
        for name, linf in analysed.select("seed_id", "perturbation_linf").iter_rows():
            assert linf == pytest.approx(float(deltas[name].abs().max()), abs=0.6 / 255)

    def test_a_broken_image_is_a_failure_with_a_reason(self, made, run):
        folder, _, _ = made
        (folder / "img_00.npy").write_bytes(b"")
        row = run(folder, limit=1).seeds.row(0, named=True)
        assert row["status"] == "failed"
        assert row["reason"] == f"its adversarial image {folder}/img_00.npy: empty file (0 bytes)"

    def test_resume_knows_the_images(self, made, run):
        folder, pixels, _ = made
        study = run(folder)
        assert_same(study, run(folder, resume=True))
        np.save(folder / "img_01.npy", pixels["img_01.png"].numpy())
        with pytest.raises(StoreError, match="adversarial images was those of checksum"):
            run(folder, resume=True)

    def test_seeds_themselves_are_no_adversarial_images(self, photos, run):
        assert set(run(photos).seeds["status"]) == {"no_adversarial"}

    def test_exclusive(self, made, run, photos, tmp_path):
        folder = made[0]
        with pytest.raises(UserError, match=r"`adversarial` must come without `attack`, got: .* and pgd"):
            run(folder, attack="pgd")
        with pytest.raises(UserError, match=r"`adversarial` must come without `surrogate`, got: .* and TinyNet"):
            run(folder, surrogate=camdrift.wrap(TinyNet().eval(), size=SIZE))
        assert not (tmp_path / "run").exists()

    def test_on_the_command_line(self, made, photos, tmp_path, monkeypatch, capsys):
        skip_report(monkeypatch)
        spec = write_factory(tmp_path)
        arguments = ["explain", photos / "img_00.png", "--adversarial", made[0] / "img_00.npy", "--model", spec]
        monkeypatch.setattr(sys, "argv", ["camdrift", *map(str, arguments), "--out", str(tmp_path / "one")])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        assert f"The attack (stored images of {made[0]}/img_00.npy) turns class" in capsys.readouterr().out


def test_the_documented_csv_pairs_published_images(dlfuzz_seeds, dlfuzz_adversarial, tmp_path, monkeypatch):
    """DLFuzz's own adversarial images, whose names give labels alone, paired by the lines in the documentation."""
    skip_report(monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("seeds").symlink_to(dlfuzz_seeds)
    Path("adversarial").symlink_to(dlfuzz_adversarial)
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL) if "import csv" in block)
    exec(compile(code, "attacks.md", "exec"), {})
    found = pair_adversarial("pairs.csv", find_images("seeds"))
    assert {path.name.partition("-9")[0] for path in found.values()} == {
        "candle-lampshade", "garbage_truck-jeep", "harmonica-rule", "junco-robin", "lawn_mower-go-kart",
        "standard_poodle-Bedlington_terrier",
    }  # fmt: skip
    # They were made of whole photographs, squeezed to 224 px as Keras does it.
    for seed_id, path in found.items():
        seed = read_image(dlfuzz_seeds / seed_id, size=224, resize=0, interpolation="nearest").pixels
        image = read_adversarial(path, size=224, resize=0).pixels
        assert 0 < float((image - seed).square().mean().sqrt()) < 0.03, seed_id
