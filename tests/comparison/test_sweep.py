"""Sweeps: what a file may say, cells that are finished, halted or failing, and the comparison at the end."""

import sys
from functools import partial

import pytest

import camdrift
from camdrift.comparison.grid import read_grid
from camdrift.comparison.sweep import sweep
from camdrift.errors import UserError
from camdrift.pipeline.settings import Settings
from support.comparisons import skip_page
from support.heads import write_head
from support.studies import ATTACK, listing, skip_report, stop_when, write_factory, write_images

STRONGER = ATTACK.replace("1/255", "2/255")
HEAD = 'images = "photos"\nstrengths = [1]\nnoise_ladder = [4]\nchunk_size = 3\ngallery = 0\n'
MODELS = '[[models]]\nmodel = "tiny.py:build"\nname = "tiny net"\n'
NET = '[[models]]\nmodel = "net.py:build"\nname = "net"\n'
ATTACKS = f'[[attacks]]\nattack = "{ATTACK}"\n[[attacks]]\nattack = "{STRONGER}"\n'


def write(folder, text=HEAD + MODELS + ATTACKS):
    path = folder / "grid.toml"
    path.write_text(text, encoding="utf-8")
    return path


def write_net(folder):
    """A Python file whose `build` returns a net that ends in a linear layer; returns its spec."""
    lines = (
        "import torch",
        "from torch import nn",
        "SIZE = 32",
        "def build():",
        "    torch.manual_seed(0)",
        "    average = (nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 10))",
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), *average)",
    )
    (folder / "net.py").write_text("\n".join(lines))
    return f"{folder}/net.py:build"


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A grid of one model and two attacks, and what it names; no figure is drawn."""
    skip_report(monkeypatch)
    skip_page(monkeypatch)
    monkeypatch.setattr(sys.modules["camdrift.comparison.sweep"], "compare", partial(camdrift.compare, n_bootstrap=20))
    write_images(tmp_path / "photos", 5)
    write_factory(tmp_path)
    return write(tmp_path)


class TestFile:
    def test_paths_are_relative_to_it(self, tmp_path, monkeypatch):
        monkeypatch.chdir("/")
        (tmp_path / "net.h5").touch()
        models = '[[models]]\nmodel = "net.py:build"\nweights = "w.pt"\n[[models]]\nmodel = "keras-vgg16@net.h5"\n'
        grid = read_grid(write(tmp_path, 'images = "photos"\nout = "o"\n' + models + ATTACKS))
        assert grid.images == str(tmp_path / "photos")
        (tmp_path / "saved").mkdir()
        for named, seen in (
            ("hf-dataset:saved", f"hf-dataset:{tmp_path}/saved"),
            ("hf-dataset:saved:test", f"hf-dataset:{tmp_path}/saved:test"),
            ("hf-dataset:somebody/photos:test", "hf-dataset:somebody/photos:test"),
            ("s-{0..9}.tar", f"{tmp_path}/s-{{0..9}}.tar"),
        ):
            assert read_grid(write(tmp_path, f'images = "{named}"\n' + models + ATTACKS)).images == seen
        sampled = read_grid(write(tmp_path, 'images = "photos"\nsample = 5\n' + models + ATTACKS))
        assert sampled.attacks[0].settings.sample == "5-per-class"
        assert grid.out == tmp_path / "o"
        assert grid.models[0].spec == f"{tmp_path / 'net.py'}:build"
        assert grid.models[0].weights == tmp_path / "w.pt"
        assert grid.models[0].name == "net.py:build"
        assert grid.models[1].spec == f"keras-vgg16@{tmp_path / 'net.h5'}"
        assert grid.folder(grid.models[0], grid.attacks[1]).name == "net.py-build-dlfuzz-step-2-255"

    def test_what_it_leaves_out(self, tmp_path):
        grid = read_grid(write(tmp_path, '[[models]]\nmodel = "efficientnet-lite0"\n[[attacks]]\nattack = "dlfuzz"\n'))
        assert (grid.images, grid.out, grid.device) == (None, tmp_path / "runs" / "grid", "auto")
        assert grid.attacks[0].settings == Settings()
        assert grid.models[0].spec == "efficientnet-lite0"

    def test_settings_of_all_and_of_one_attack(self, tmp_path):
        head = 'strengths = [0.25, 1]\nexplanations = ["gradcam"]\nlimit = 3\ngallery = "all"\ntargets = "seed"\n'
        one = '[[attacks]]\nattack = "dlfuzz"\nname = '
        attacks = f'{one}"slow"\nrng_seed = 4\nlimit = 2\n{one}"fast"\n'
        slow, fast = read_grid(write(tmp_path, head + MODELS + attacks)).attacks
        assert (slow.name, slow.settings.rng_seed, slow.settings.limit) == ("slow", 4, 2)
        assert (fast.settings.limit, fast.settings.gallery, fast.settings.targets) == (3, None, ("seed",))
        assert fast.settings.strengths == (0.25, 1.0)

    @pytest.mark.parametrize(
        ("text", "message", "hint"),
        [
            (
                "strenghts = [1]\n" + MODELS + ATTACKS,
                "`strenghts` must be a key that is known",
                "did you mean `strengths`",
            ),
            (
                MODELS.replace("name", "nmae") + ATTACKS,
                r"`nmae` must be a key .* in \[\[models\]\]",
                "did you mean `name`",
            ),
            ('strengths = "1"\n' + MODELS + ATTACKS, "`strengths` must be a list of numbers, got: 1 in", ""),
            ("limit = true\n" + MODELS + ATTACKS, "`limit` must be an integer, got: true", ""),
            ('gallery = "some"\n' + MODELS + ATTACKS, '`gallery` must be an integer or "all", got: some', ""),
            ("denoised = 1\n" + MODELS + ATTACKS, "`denoised` must be true or false, got: 1", ""),
            ("strengths = [-1]\n" + MODELS + ATTACKS, "`strengths` must be positive and finite, got: -1", ""),
            (ATTACKS, r"`models` must be one or more entries \[\[models\]\], got: none", "model = "),
            (MODELS, r"`attacks` must be one or more entries \[\[attacks\]\], got: none", "attack = "),
            (MODELS + "[[attacks]]\nlimit = 2\n", r"`attack` must be in every entry of \[\[attacks\]\]", ""),
            ("[[models]]\nname = 'x'\n" + ATTACKS, r"`model` must be in every entry of \[\[models\]\]", ""),
            (MODELS + MODELS + ATTACKS, "`models` must be different, got twice: tiny net", "name = "),
            (MODELS + ATTACKS + ATTACKS, "`attacks` must be different, got twice: dlfuzz", "name = "),
            (
                "".join(f'[[models]]\nmodel = "m.py:f"\nname = "{name}"\n' for name in ("a", "a b"))
                + "".join(f'[[attacks]]\nattack = "fgsm"\nname = "{name}"\n' for name in ("b c", "c")),
                "`name` of model and attack must make a folder of its own for every cell, got twice: a-b-c",
                "name = ",
            ),
            (
                MODELS + 'head = "zero@z.pt"\n' + ATTACKS,
                "`head` must be one of linear.*, got: zero",
                "heads are linear",
            ),
            (MODELS + 'head = "cosine"\n' + ATTACKS, "`head` must be KIND@FILE, got: cosine", "such as zero-bias@"),
            (MODELS + "head = 1\n" + ATTACKS, "`head` must be a list of words in quotes, got: 1", ""),
            (
                MODELS + 'head = ["cosine@a.safetensors", "cosine@b.safetensors"]\n' + ATTACKS,
                "`models` must be different, got twice: tiny net with cosine head",
                "name = ",
            ),
            ("a = \n", "`file` must be TOML, got: .*grid.toml", ""),
        ],
    )
    def test_mistakes_are_one_line(self, tmp_path, text, message, hint):
        with pytest.raises(UserError, match=message) as raised:
            read_grid(write(tmp_path, text))
        assert hint in raised.value.hint

    def test_no_file(self, tmp_path):
        with pytest.raises(UserError, match=r"`file` must be a TOML file, got: .*none.toml \(no such file\)"):
            read_grid(tmp_path / "none.toml")


class TestCells:
    def test_all_are_run_and_compared(self, file, tmp_path):
        cells = []
        done = sweep(file, out=tmp_path / "out", on_cell=cells.append)
        assert [(c.number, c.total, c.name) for c in cells] == [
            (1, 2, "tiny net, dlfuzz(step=1/255)"),
            (2, 2, "tiny net, dlfuzz(step=2/255)"),
        ]
        folders = {"tiny-net-dlfuzz-step-1-255", "tiny-net-dlfuzz-step-2-255", "comparison"}
        assert {path.name for path in (tmp_path / "out").iterdir()} == folders
        assert done.failures == []
        assert done.comparison.sides["side"].to_list() == ["dlfuzz(step=1/255)", "dlfuzz(step=2/255)"]
        assert set(done.comparison.sides["model"]) == {"tiny net"}

    @pytest.mark.slow
    def test_finished_ones_are_left_alone_and_a_model_is_loaded_once(self, file, tmp_path, monkeypatch):
        loaded = []
        load = camdrift.load_model
        monkeypatch.setattr(
            sys.modules["camdrift.comparison.sweep"], "load_model", lambda *a, **k: loaded.append(a) or load(*a, **k)
        )
        first = sweep(file, out=tmp_path / "out")
        before = [listing(study.path) for study in first.studies]
        again = sweep(file, out=tmp_path / "out")
        assert [listing(study.path) for study in again.studies] == before
        assert len(loaded) == 2
        over = sweep(file, out=tmp_path / "out", overwrite=True)
        assert [listing(study.path) for study in over.studies] != before

    @pytest.mark.slow
    def test_an_interrupted_one_goes_on(self, file, tmp_path):
        whole = sweep(file, out=tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            sweep(
                file,
                out=tmp_path / "out",
                on_progress=stop_when(lambda p: p.stage == "2/2 write" and p.seeds_done == 3),
            )
        assert {path.name for path in (tmp_path / "out").iterdir()} == {study.path.name for study in whole.studies}
        halted = tmp_path / "out" / whole.studies[1].path.name
        assert [path.name for path in (halted / "chunks").iterdir()] == ["00000"]
        done = sweep(file, out=tmp_path / "out")
        for one, other in zip(done.studies, whole.studies, strict=True):
            assert one.similarity.equals(other.similarity)

    def test_a_failing_one_stops_no_other(self, file, tmp_path):
        text = HEAD + '[[models]]\nmodel = "none.py:build"\n' + MODELS + ATTACKS
        done = sweep(write(tmp_path, text), out=tmp_path / "out")
        names = [failure.name for failure in done.failures]
        # What all attacks of the grid have in common is no part of a name.
        assert names == ["none.py:build, dlfuzz(step=1/255)", "none.py:build, dlfuzz(step=2/255)"]
        assert len(done.studies) == 2
        assert done.comparison is not None

    def test_mistakes_are_told_before_the_first_cell(self, file, tmp_path):
        text = HEAD + MODELS + '[[models]]\nmodel = "vgg16"\n' + ATTACKS + '[[attacks]]\nattack = "pgdd"\n'
        with pytest.raises(
            UserError, match=r"nothing has begun.* vgg16 \(`model` must .*; pgdd \(`attack` must"
        ) as caught:
            sweep(write(tmp_path, text), out=tmp_path / "out", on_cell=pytest.fail)
        assert caught.value.hint.startswith("did you mean `torchvision/vgg16`?")
        assert not (tmp_path / "out").exists()

    def test_heads_are_cells_side_by_side(self, file, tmp_path):
        """A model once with each of its heads, whose files lie beside the grid's."""
        net = camdrift.load_model(write_net(tmp_path), device="cpu")
        for kind in ("linear", "cosine"):
            write_head(tmp_path / f"{kind}.safetensors", net, kind, classes=range(10))
        heads = 'head = ["linear@linear.safetensors", "cosine@cosine.safetensors"]\n'
        attack = '[[attacks]]\nattack = "fgsm(eps=32/255)"\n'
        done = sweep(write(tmp_path, HEAD + NET + NET + heads + attack), out=tmp_path / "out")
        assert done.failures == []
        assert [study.path.name for study in done.studies] == [
            "net-fgsm", "net-with-linear-head-fgsm", "net-with-cosine-head-fgsm",
        ]  # fmt: skip
        entries = [study.record["model"]["head"] for study in done.studies]
        assert [entry and entry["kind"] for entry in entries] == [None, "linear", "cosine"]
        assert done.comparison.sides["side"].to_list() == ["own head", "linear", "cosine"]

    @pytest.mark.parametrize(
        ("head", "words"),
        [
            ("linear@none.safetensors", "`head` must name a file, got: .*none.safetensors"),
            ("cosine@own.safetensors", "`head` must name what the file holds, got: cosine"),
            ("linear@other.safetensors", "`head` must be of this model, got: .*other.safetensors"),
        ],
    )
    def test_a_head_that_does_not_fit_is_told_before_the_first_cell(self, file, tmp_path, head, words):
        net = camdrift.load_model(write_net(tmp_path), device="cpu")
        write_head(tmp_path / "own.safetensors", net)
        write_head(tmp_path / "other.safetensors", net, model_sha256="0")
        text = HEAD + MODELS + NET + f'head = "{head}"\n' + ATTACKS
        kind = head.partition("@")[0]
        with pytest.raises(UserError, match=rf"nothing has begun.* net with {kind} head \({words}"):
            sweep(write(tmp_path, text), out=tmp_path / "out", on_cell=pytest.fail)
        assert not (tmp_path / "out").exists()

    def test_changed_settings_are_not_mixed(self, file, tmp_path):
        sweep(file, out=tmp_path / "out")
        done = sweep(write(tmp_path, "rng_seed = 1\n" + HEAD + MODELS + ATTACKS), out=tmp_path / "out")
        assert [f.error.message.split(", got")[0] for f in done.failures] == [
            "`resume` must continue the same study"
        ] * 2

    def test_one_without_adversarial_examples_is_left_out_of_the_comparison(self, file, tmp_path):
        text = HEAD + MODELS + ATTACKS + f'[[attacks]]\nattack = "{ATTACK.replace("1/255", "0.0001/255")}"\n'
        done = sweep(write(tmp_path, text), out=tmp_path / "out")
        assert len(done.studies) == 3
        assert [f.name for f in done.failures] == ["comparison"]
        assert "nothing was analysed in" in done.failures[0].error.message
        assert done.comparison.sides.height == 2


class TestCommand:
    def test_says_which_cell_and_ends_in_the_comparison(self, file, camdrift_command, tmp_path):
        code, out, err = camdrift_command("sweep", file, "--out", tmp_path / "out")
        assert code == 0
        assert err.splitlines() == ["1 of 2: tiny net, dlfuzz(step=1/255)", "2 of 2: tiny net, dlfuzz(step=2/255)"]
        assert out.splitlines()[-1] == str(tmp_path / "out" / "comparison" / "comparison.html")

    def test_failures_come_last_and_decide_the_exit_code(self, file, camdrift_command, tmp_path):
        write(tmp_path, HEAD + '[[models]]\nmodel = "none.py:build"\n' + MODELS + ATTACKS)
        code, out, err = camdrift_command("sweep", file, "--out", tmp_path / "out")
        assert code == 2
        assert err.count("failed: none.py:build, dlfuzz(step=") == 2
        assert out.splitlines()[-1].endswith("comparison.html")

    def test_a_wrong_file_is_one_line_and_a_hint(self, camdrift_command, tmp_path):
        code, out, err = camdrift_command("sweep", write(tmp_path, "strenghts = [1]\n" + MODELS + ATTACKS))
        assert (code, out) == (2, "")
        assert err.splitlines()[0].startswith("error: `strenghts` must be a key that is known")
        assert err.splitlines()[1] == "hint: did you mean `strengths`?"

    def test_an_interrupt_says_how_to_go_on(self, file, monkeypatch, camdrift_command):
        def stop(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(sys.modules["camdrift.comparison.sweep"], "sweep", stop)
        code, _, err = camdrift_command("sweep", file, "--overwrite")
        assert code == 130
        assert f"are kept, to go on: camdrift sweep {file}\n" in err
