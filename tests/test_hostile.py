"""Files that somebody made to do harm: nothing of them is run, nothing is written elsewhere, nothing hangs.

Further ones stand beside what they attack: links in circles and `..` in test_sources.py, links, devices and `..` in
shards in test_shards.py, markup in names and labels in test_bad_input.py, specs that call functions in test_spec.py.
"""

import io
import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import time
import warnings
import zipfile
import zlib
from contextlib import suppress
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.export import Dim

import camdrift
from camdrift.cli import app as cli
from camdrift.comparison.grid import read_grid
from camdrift.errors import ImageError, ModelError, StoreError, UserError, escaped
from camdrift.images.pixels import read_adversarial, read_image
from camdrift.masking import masked
from camdrift.models.exported import read_program
from camdrift.models.keras_vgg16 import read_keras_layers
from camdrift.models.weights import load_weights
from camdrift.storage.checksums import checksum, damage
from support.studies import (
    SMALL,
    draw_only,
    environment,
    picture,
    skip_report,
    study_of,
    tiny_classifier,
    write_factory,
    write_images,
)

ESCAPE = "\x1b[2J\x1b]0;owned\x07"


READ_ALL = """
import json, resource, sys
from pathlib import Path
import PIL.Image, camdrift.images.pixels as images
PIL.Image.init()
size = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
seen = {}
for name in sys.argv[1:]:
    before, reason = size(), ""
    try:
        images.read_image(Path(name), size=8, resize=8)
    except images.ImageError as error:
        reason = error.message
    seen[name] = reason, size() - before
print(json.dumps(seen))
"""


class Payload:
    """Makes a folder where it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path):
    """A folder that is there once foreign code has run."""
    (tmp_path / "ran").mkdir()
    return tmp_path / "ran" / "marker"


def rezipped(path, change, *, more=()):
    """A zip archive again, each member as `change` (name, data) gives it, and more of them."""
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive, warnings.catch_warnings(action="ignore"):
        for name, data in [*((name, change(name, data)) for name, data in members), *more]:
            archive.writestr(name, data)


def packed_zeros(blocks, size):
    """What zlib makes of so many blocks of zeros, of which one alone is packed."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(bytes(size)) + packer.flush(zlib.Z_FULL_FLUSH)
    end = b"\x03\0" + struct.pack(">I", (blocks * size % 65521) << 16 | 1)  # an empty block, and Adler-32 of zeros
    return b"\x78\x01" + blocks * block + end


def test_packed_zeros_are_zeros():
    assert zlib.decompress(packed_zeros(3, 2**16)) == bytes(3 * 2**16)


class TestImageBomb:
    def png(self, *parts):
        chunks = [("IHDR", struct.pack(">IIBBBBB", 40, 40, 8, 2, 0, 0, 0)), *parts, ("IEND", b"")]
        packed = (
            struct.pack(">I", len(d)) + k.encode() + d + struct.pack(">I", zlib.crc32(k.encode() + d))
            for k, d in chunks
        )
        return b"\x89PNG\r\n\x1a\n" + b"".join(packed)

    def tiff(self, side):
        tags = [
            (256, 4, side),
            (257, 4, side),
            (258, 3, 8),
            (259, 3, 1),
            (262, 3, 1),
            (273, 4, 8),
            (277, 3, 1),
            (278, 4, side),
            (279, 4, 64),
        ]
        entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
        return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(68)

    def test_memory_stays_small(self, tmp_path):
        """Each would take a gigabyte or more; they are read in a process that may take little."""
        zeros = packed_zeros(64, 2**24)
        side = 2**31 - 1
        bombs = {
            "png header": self.png(("IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)), ("IDAT", b"")),
            "png text": self.png(("zTXt", b"k\0\0" + zeros), ("IDAT", zlib.compress(bytes(121 * 40)))),
            "png pixels": self.png(("IDAT", zeros)),
            "tiff": self.tiff(side),
        }
        for name, data in bombs.items():
            (tmp_path / name).write_bytes(data)
        done = subprocess.run(
            [sys.executable, "-c", READ_ALL, *bombs], cwd=tmp_path, env=environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout)
        assert all(kibibytes < 200 * 1024 for _, kibibytes in seen.values()), seen
        assert "too large" in seen["png header"][0]
        assert seen["tiff"][0]


class TestZipSlip:
    """Members called `../evil` of archives that are read: none is ever unpacked to a file."""

    def around(self, folder):
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))

    def test_weights(self, tmp_path):
        inner = tmp_path / "a" / "b"
        inner.mkdir(parents=True)
        torch.save({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, inner / "w.pth")
        rezipped(inner / "w.pth", lambda _, data: data, more=[("../../evil", b"x"), ("/tmp/evil-of-camdrift", b"x")])
        before = self.around(tmp_path)
        with suppress(ModelError):  # read without them or refused
            load_weights(torch.nn.Linear(3, 2), inner / "w.pth")
        assert self.around(tmp_path) == before
        assert not Path("/tmp/evil-of-camdrift").exists()

    def test_gallery(self, tmp_path, monkeypatch):
        skip_report(monkeypatch)
        study = study_of(tiny_classifier(), write_images(tmp_path / "images", 3), tmp_path / "a" / "run", **SMALL)
        array = io.BytesIO()
        np.save(array, np.zeros(3))
        rezipped(study.path / "gallery.npz", lambda _, data: data, more=[("../../evil.npy", array.getvalue())])
        before = self.around(tmp_path)
        camdrift.open(study.path).report()
        assert self.around(tmp_path) == before


class TestPickles:
    def test_weights(self, tmp_path, marker):
        for name, save in (("zip.pth", torch.save), ("bare.pt", lambda v, p: p.write_bytes(pickle.dumps(v)))):
            save({"weight": Payload(marker)}, tmp_path / name)
            with pytest.raises(ModelError, match=r"with Python objects .not loaded: it could run code"):
                load_weights(torch.nn.Linear(3, 2), tmp_path / name)
        assert not marker.exists()
        torch.load(tmp_path / "zip.pth", weights_only=False)
        assert marker.exists(), "the trap works"

    def test_a_pickle_that_says_it_is_safetensors(self, tmp_path, marker):
        torch.save({"weight": Payload(marker)}, tmp_path / "w.safetensors")
        with pytest.raises(ModelError, match=r"`weights` could not be read, got: w\.safetensors"):
            load_weights(torch.nn.Linear(3, 2), tmp_path / "w.safetensors")
        assert not marker.exists()

    @pytest.mark.filterwarnings("ignore")
    def test_an_archive_of_torchscript(self, tmp_path):
        torch.jit.save(torch.jit.trace(torch.nn.Linear(3, 2), torch.ones(1, 3)), tmp_path / "net.pt")
        with pytest.raises(ModelError, match=r"`weights` must hold plain tensors|`weights` could not be read"):
            load_weights(torch.nn.Linear(3, 2), tmp_path / "net.pt")

    def test_arrays_as_adversarial_images(self, tmp_path, marker):
        np.save(tmp_path / "a.npy", np.array([Payload(marker)], dtype=object), allow_pickle=True)
        with pytest.raises(ImageError):
            read_adversarial(tmp_path / "a.npy", size=8, resize=8)
        assert not marker.exists()

    def test_the_gallery_of_a_run(self, tmp_path, marker, monkeypatch):
        draw_only(monkeypatch)
        study = study_of(tiny_classifier(), write_images(tmp_path / "images", 3), tmp_path / "run", **SMALL)
        array = io.BytesIO()
        np.save(array, np.array([Payload(marker)], dtype=object), allow_pickle=True)
        rezipped(study.path / "gallery.npz", lambda *_: array.getvalue())
        with pytest.raises(StoreError, match=r"gallery\.npz cannot be read"):
            camdrift.open(study.path).report()
        assert not marker.exists()

    def test_keras(self, tmp_path, marker):
        h5py = pytest.importorskip("h5py")
        (tmp_path / "a.h5").write_bytes(pickle.dumps(Payload(marker)))
        with h5py.File(tmp_path / "b.h5", "w") as file:  # a layer that lies in another file
            file.attrs["layer_names"], file.attrs["model_config"] = [b"one"], pickle.dumps(Payload(marker)).hex()
            file["one"] = h5py.ExternalLink("/etc/passwd", "/")
        with zipfile.ZipFile(tmp_path / "c.keras", "w") as archive:
            archive.writestr("../config.json", '{"class_name": "Lambda"}')
        for name in ("a.h5", "b.h5", "c.keras"):
            with pytest.raises(ModelError, match=f"must name Keras weights, got: {name}"):
                read_keras_layers(tmp_path / name)
        assert not marker.exists()


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "net.pt2"
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).eval()
    images = (torch.rand(2, 3, 2, 2),)
    torch.export.save(torch.export.export(net, images, dynamic_shapes=({0: Dim.DYNAMIC},)), path)
    return path


class TestExportedPrograms:
    """torch itself runs what these hold; here they are refused before torch sees them."""

    def edited(self, sound, path, member, change, more=()):
        shutil.copyfile(sound, path)
        rezipped(path, lambda name, data: change(data) if name.endswith(member) else data, more=more)

    def refused(self, path, words):
        with pytest.raises(ModelError) as caught:
            read_program(path)
        assert "`model` must hold tensors and torch's operators alone, got: net.pt2 with " in caught.value.message
        assert words in caught.value.message
        assert "(not loaded: it could run code)" in caught.value.message

    def test_a_sound_one_is_read_also_after_it_was_written_anew(self, sound, tmp_path):
        self.edited(sound, tmp_path / "net.pt2", "nothing", bytes)
        assert read_program(tmp_path / "net.pt2").graph is not None

    def test_a_pickle_among_the_sample_inputs(self, sound, tmp_path, marker):
        saved = io.BytesIO()
        torch.save(((Payload(marker),), {}), saved)
        self.edited(sound, tmp_path / "net.pt2", "sample_inputs/model.pt", lambda _: saved.getvalue())
        self.refused(tmp_path / "net.pt2", "Python objects in data/sample_inputs/model.pt")
        assert not marker.exists()
        with warnings.catch_warnings(action="ignore"):
            torch.export.load(tmp_path / "net.pt2")
        assert marker.exists(), "the trap works"

    def test_pickled_weights_and_constants(self, sound, tmp_path, marker):
        for member, old, new in (
            ("model_weights_config.json", b'"use_pickle": false', b'"use_pickle": true'),
            (
                "model_constants_config.json",
                b"{}",
                b'{"c": {"path_name": "opaque_obj_0", "is_param": false, "use_pickle": false, "tensor_meta": null}}',
            ),
        ):
            more = [("net/data/constants/opaque_obj_0", pickle.dumps(Payload(marker)))]
            self.edited(sound, tmp_path / "net.pt2", member, lambda data, o=old, n=new: data.replace(o, n), more)
            self.refused(tmp_path / "net.pt2", "Python objects among its tensors")
        assert not marker.exists()

    @pytest.mark.parametrize(
        "expression",
        ["__import__('os').mkdir('MARKER')", "Max('open(1)')", "Symbol('s', **{})", "(lambda: 1)()", "x.y", "(" * 5000,
         "9**9**9", "Pow(Integer(9), Pow(9, 9))", "((9**8)**8)**8", "Float('1', 10**9)", "Float(1, 1" + "0" * 30 + ")"],
    )  # fmt: skip
    def test_expressions(self, sound, tmp_path, marker, expression):
        def change(data):
            record = json.loads(data)
            text = json.dumps(record)
            found = text.index('"expr_str": "')
            end = text.index('"', found + 13)
            return (text[: found + 13] + expression.replace("MARKER", str(marker)) + text[end:]).encode()

        self.edited(sound, tmp_path / "net.pt2", "models/model.json", change)
        self.refused(tmp_path / "net.pt2", "the expression ")
        assert not marker.exists()

    @pytest.mark.parametrize(
        "target",
        ["torch.os.system", "torch.load", "_operator.methodcaller", "torch.ops.load_library",
         "torch.ops.aten.save.str", "torch.ops.aten.from_file.default", "torch.ops.aten.__setattr__",
         "torch.ops.higher_order.__dict__", "torch.ops.aten._dir.append", "torch.ops.aten.never_heard_of.default",
         "torch.sym_nothing", "#x:y", "torch.hub.load", "math.__loader__.exec_module"],
    )  # fmt: skip
    def test_calls(self, sound, tmp_path, target):
        change = lambda data: data.replace(b"torch.ops.aten.linear.default", target.encode())  # noqa: E731
        self.edited(sound, tmp_path / "net.pt2", "models/model.json", change)
        self.refused(tmp_path / "net.pt2", f"a call of {target}")

    def test_compiled_code_and_old_formats(self, sound, tmp_path):
        self.edited(sound, tmp_path / "net.pt2", "nothing", bytes, [("net/data/aotinductor/model/x.so", b"\x7fELF")])
        self.refused(tmp_path / "net.pt2", "compiled code")
        self.edited(sound, tmp_path / "net.pt2", "nothing", bytes, [("version", b"8.8")])
        self.refused(tmp_path / "net.pt2", "the pickles of torch before 2.8")


class TestTerminals:
    """Escape sequences in names reach no terminal."""

    def test_printable(self):
        assert escaped("a\x1b[31m\x07\x9b\u202eb\tc\nd é 猫") == "a\\x1b[31m\\x07\\x9b\\u202eb\tc\nd é 猫"
        assert UserError(f"got: {ESCAPE}", ESCAPE).message == "got: \\x1b[2J\\x1b]0;owned\\x07"

    def test_a_study(self, tmp_path, monkeypatch, capsys):
        images = write_images(tmp_path / f"photos{ESCAPE}", 2)
        (images / f"copy{ESCAPE}.png").write_bytes((images / "img_01.png").read_bytes())
        (images / f"broken{ESCAPE}.png").write_text("no image")
        skip_report(monkeypatch)
        run = tmp_path / f"run{ESCAPE}"
        words = ["run", images, "--model", write_factory(tmp_path), "--out", run, "--noise-ladder", "4"]
        for command, code in ((words, 0), (words, 2), (["report", f"{run}{ESCAPE}"], 2), ([ESCAPE], 2)):
            monkeypatch.setattr(sys, "argv", ["camdrift", *map(str, command)])
            with pytest.raises(SystemExit) as ended:
                cli.main()
            seen = "".join(capsys.readouterr())
            assert (ended.value.code or 0) == code, seen
            assert "owned" in seen
            assert "\x1b" not in seen
            assert "\x07" not in seen


class TestNoHang:
    """Pipes that nobody writes to, where files are expected."""

    @pytest.fixture
    def pipe(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        return lambda name: (tmp_path / "pipe").rename(tmp_path / name)

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("list.txt", ["run", "PIPE", "--model", "MODEL"]),
            ("image.png", ["explain", "PIPE", "--model", "MODEL"]),
            ("shard.tar", ["run", "PIPE", "--model", "MODEL"]),
            ("net.pt2", ["layers", "--model", "PIPE"]),
            ("net.py", ["layers", "--model", "PIPE:build"]),
            ("w.pth", ["layers", "--model", "MODEL", "--weights", "PIPE"]),
            ("w.h5", ["layers", "--model", "keras-vgg16@PIPE"]),
            ("grid.toml", ["sweep", "PIPE"]),
            ("run.json", ["report", "FOLDER"]),
            ("run.json", ["run", "FOLDER/img.png", "--model", "MODEL", "--out", "FOLDER", "--overwrite"]),
        ],
    )
    def test_is_refused(self, pipe, name, words, tmp_path, monkeypatch, capsys):
        known = {"PIPE": str(pipe(name)), "MODEL": write_factory(tmp_path), "FOLDER": str(tmp_path)}
        for word, meaning in known.items():
            words = [text.replace(word, meaning) for text in words]
        picture(1).save(tmp_path / "img.png")
        skip_report(monkeypatch)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["camdrift", *words])

        def late(*_):
            raise AssertionError("it hangs")

        before = signal.signal(signal.SIGALRM, late)
        signal.alarm(60)
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        # In a study, an image that cannot be read is a row of the table.
        assert (ended.value.code or 0) == (0 if name == "image.png" else 2)
        seen = capsys.readouterr()
        assert "could not be read" in seen.out if name == "image.png" else seen.err.startswith("error: ")


class TestHDF5:
    """Its library reads some damaged files for ever, holding Python's lock; those are tried in a process aside."""

    def write(self, path):
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = [b"block1_conv1"]

    def test_a_heap_in_a_circle(self, tmp_path, monkeypatch):
        self.write(tmp_path / "w.h5")
        data = (tmp_path / "w.h5").read_bytes()
        first = data.index(b"GCOL") + 16  # a size of 0 leads from an object to itself
        (tmp_path / "w.h5").write_bytes(data[:first] + bytes(16) + data[first + 16 :])
        monkeypatch.setattr("camdrift.models.keras_vgg16._SECONDS", 2.0)
        with pytest.raises(ModelError, match=r"got: w\.h5 \(damaged: not read within 2 s\)"):
            read_keras_layers(tmp_path / "w.h5")

    def test_one_that_ends_the_process(self, tmp_path, monkeypatch):
        self.write(tmp_path / "w.h5")
        monkeypatch.setattr("camdrift.models.keras_vgg16._TRIAL", "import os; os.abort()")
        with pytest.raises(ModelError, match=r"got: w\.h5 \(damaged: reading it ended the process\)"):
            read_keras_layers(tmp_path / "w.h5")


@pytest.mark.parametrize("text", ["-" * 20_000, "a-" * 10_000, "_" * 20_000 + "Key"])
def test_a_long_word_is_searched_for_secrets_once(text):
    """Not once more from each of its letters, which took ten seconds."""
    start = time.process_time()
    assert masked(f"{text}='12345678'").endswith("Key='***'" if "Key" in text else "='12345678'")
    assert time.process_time() - start < 2


class TestNesting:
    @pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "[" * 200_000 + "]" * 200_000])
    def test_run_json(self, text, tmp_path):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(StoreError, match=r"run\.json cannot be read"):
            camdrift.open(tmp_path)

    @pytest.mark.parametrize("text", ["x = " + "[" * 50_000, "x = " + "{a=" * 50_000, "a." * 50_000 + "b = 1"])
    def test_toml(self, text, tmp_path):
        (tmp_path / "grid.toml").write_text(text)
        with pytest.raises(UserError):
            read_grid(tmp_path / "grid.toml")


class TestMissing:
    def test_whatever_is_missing_or_no_use_in_run_json_is_named(self, tmp_path, monkeypatch):
        """At the top, where readers look without asking; what may be absent is not missed."""
        skip_report(monkeypatch)
        study = study_of(tiny_classifier(), write_images(tmp_path / "images", 3), tmp_path / "run", **SMALL)
        whole = json.loads((study.path / "run.json").read_text())
        refused = {}
        for key in whole:
            (study.path / "run.json").write_text(json.dumps({k: v for k, v in whole.items() if k != key}))
            for use in (camdrift.open, lambda path: camdrift.verify(path, tiny_classifier(), sample=1)):
                try:
                    use(study.path)
                except StoreError as error:
                    refused[key] = f"{error.message} ({error.hint})"
        del refused["schema_version"]
        assert {"camdrift", "arguments", "model", "attack", "surrogate", "layers", "images", "status"} <= refused.keys()
        assert all(f"{key} is missing" in message for key, message in refused.items())
        assert "an older camdrift" in refused["attack"]
        for way, value in (
            (("arguments", "passed"), {}),
            (("arguments", "effective", "rng_seed"), -1),
            (("arguments", "effective", "noise_draws"), 2**70),
            (("arguments", "effective", "surrogate"), {}),
            (("files", "seeds.parquet", "rows"), None),
            (("timings", "total"), float("inf")),
            (("timings", "total"), float("nan")),
            (("engine", "threads"), "2"),
        ):
            record = json.loads(json.dumps(whole))
            reduce(dict.__getitem__, way[:-1], record)[way[-1]] = value
            (study.path / "run.json").write_text(json.dumps(record))
            with pytest.raises(StoreError, match=r"run\.json is not what camdrift wrote: " + r"\.".join(way)):
                camdrift.open(study.path)


class TestPaths:
    def test_run_json_names_no_file_outside(self, tmp_path, monkeypatch):
        """`files` of a record lists what is checked by checksum: a name that leads elsewhere is no file of the run."""
        skip_report(monkeypatch)
        study = study_of(tiny_classifier(), write_images(tmp_path / "images", 3), tmp_path / "run", **SMALL)
        record = json.loads((study.path / "run.json").read_text())
        (tmp_path / "secret").write_text("x")
        for name, sum_ in (
            ("../secret", "0" * 64),
            ("../secret", checksum(tmp_path / "secret")),
            ("/dev/zero", "0" * 64),
        ):
            (study.path / "run.json").write_text(json.dumps(record | {"files": {name: {"sha256": sum_, "rows": 1}}}))
            assert f"{name} is no file of a run" in camdrift.verify(study.path, sample=0).problems

    def test_checksums_of_a_chunk_name_no_file_outside(self, tmp_path):
        (tmp_path / "chunk").mkdir()
        os.mkfifo(tmp_path / "pipe")
        for name in ("../pipe", str(tmp_path / "pipe"), ".."):
            (tmp_path / "chunk" / "checksums.json").write_text(json.dumps({name: "0" * 64}))
            assert damage(tmp_path / "chunk") in ("checksums.json names files elsewhere", ".. is no file")
        (tmp_path / "chunk" / "checksums.json").write_text("[" * 200_000)
        assert damage(tmp_path / "chunk") == "checksums.json cannot be read"

    def test_a_run_directory_that_is_a_link_in_a_circle(self, tmp_path):
        (tmp_path / "a").symlink_to(tmp_path / "b")
        (tmp_path / "b").symlink_to(tmp_path / "a")
        with pytest.raises(StoreError):
            camdrift.open(tmp_path / "a")
        picture(1).save(tmp_path / "img.png")
        with pytest.raises(UserError):
            study_of(tiny_classifier(), tmp_path / "img.png", tmp_path / "a", **SMALL)
        with pytest.raises(UserError):
            study_of(tiny_classifier(), tmp_path / "a", tmp_path / "run", **SMALL)
        with pytest.raises(ImageError):
            read_image(tmp_path / "a", size=8, resize=8)
