"""Batches side by side: the same numbers for any number of threads, and a network that is afterwards what it was."""

import threading

import pytest
import torch
from torch import nn

import camdrift
from camdrift.models import replicas
from camdrift.models.replicas import by_all_threads, on_replicas, replicated
from support.studies import ATTACK, assert_same, skip_report, study_of, tiny_classifier

OPTIONS = {"strengths": (0.5, 1.0), "noise_ladder": (4.0,), "chunk_size": 0, "batch_size": 2}


@pytest.fixture(autouse=True)
def _threads(monkeypatch):
    """Three threads, and networks as small as they like."""
    before = torch.get_num_threads()
    monkeypatch.setattr(replicas, "_FEWEST_VALUES", 0)
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def teams(monkeypatch):
    """How many replicas each team has that computed something."""
    sizes, computing = [], replicas._Team.computing

    def noting(team, compute, items):
        sizes.append(len(team))
        return computing(team, compute, items)

    monkeypatch.setattr(replicas._Team, "computing", noting)
    return sizes


class Tokens(nn.Module):
    """A mixer of patches: its layers are modules, not operations."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.mix, self.out = nn.LayerNorm(12), nn.Linear(16, 16), nn.Linear(12, 12)

        def forward(self, x):
            y = self.norm(x)
            return x + self.out(torch.tanh(self.mix(y.transpose(1, 2)).transpose(1, 2)))

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patch, self.blocks = nn.Conv2d(3, 12, 8, 8), nn.ModuleList(self.Block() for _ in range(3))
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return 20 * self.head(x.mean(1))


class Locked(nn.Module):
    """What it holds cannot be copied."""

    def __init__(self):
        super().__init__()
        self.conv, self.head, self.lock = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), threading.Lock()

    def forward(self, x):
        with self.lock:
            return self.head(self.conv(x).relu().mean((2, 3)))


class TestSideBySide:
    def test_in_order_by_one_thread_each(self):
        classifier, meeting = tiny_classifier(), threading.Barrier(3, timeout=30)

        def look(replica, number):
            if number < 3:
                meeting.wait()  # three at once, or none
            return number, replica, torch.get_num_threads(), threading.get_ident(), torch.is_grad_enabled()

        with replicated(classifier, batch_size=4):
            assert torch.get_num_threads() == 1
            with by_all_threads(classifier):
                assert torch.get_num_threads() == 3
            with torch.no_grad(), on_replicas(classifier, look, range(8)) as results:
                numbers, copies, threads, idents, are_enabled = zip(*results, strict=True)
        assert numbers == tuple(range(8))
        assert set(threads) == {1}
        assert set(are_enabled) == {False}
        assert len({*idents}) == len({*map(id, copies)}) == 3
        assert threading.get_ident() not in idents
        assert torch.get_num_threads() == 3

    def test_weights_are_shared_and_layers_are_their_own(self):
        classifier = camdrift.wrap(Tokens(), size=32)
        with replicated(classifier, batch_size=1), on_replicas(classifier, lambda c, _: c, range(6)) as results:
            copies = {id(copy): copy for copy in results}.values()
            taps = [copy.taps(["blocks.1"])["blocks.1"].module for copy in copies]
            for copy, module in zip(copies, taps, strict=True):
                assert copy.module is not classifier.module
                assert module is copy.module.blocks[1]
                assert copy.module.head.weight is classifier.module.head.weight
                assert copy.replicas is None

    def test_the_network_is_what_it_was(self):
        classifier = tiny_classifier()
        module = classifier.module.train()
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        parts = {name: dict(vars(part)) for name, part in module.named_modules()}

        def fail(replica, word):
            replica(torch.rand(2, 3, 32, 32))
            raise ValueError(word)

        with (
            pytest.raises(ValueError, match="first"),
            replicated(classifier, batch_size=4),
            on_replicas(classifier, fail, ["first", "second", "third", "fourth"]) as results,
        ):
            list(results)
        assert classifier.replicas is None
        assert torch.get_num_threads() == 3
        assert all(parameter.requires_grad for parameter in module.parameters())
        assert all(part.training for part in module.modules())
        assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
        for name, part in module.named_modules():
            assert vars(part).keys() == parts[name].keys()

    def test_one_that_ends_early_leaves_no_pass_behind(self):
        classifier, running = tiny_classifier(), []

        def look(replica, number):
            running.append(number)
            replica(torch.rand(2, 3, 32, 32))
            running.remove(number)

        with replicated(classifier, batch_size=4), on_replicas(classifier, look, range(50)) as results:
            next(results)
        assert running == []

    def test_settings_of_the_process_are_put_back(self):
        """Passes that set the precision of sums begin and end in any order."""
        backends = (torch.backends.cudnn.conv, torch.backends.mkldnn.matmul)
        classifier, before = tiny_classifier(), [backend.fp32_precision for backend in backends]

        def look(replica, number):
            with replica.numerics():
                replica(torch.rand(1 + number % 5, 3, 32, 32))
            return [backend.fp32_precision for backend in backends]

        with replicated(classifier, batch_size=4), on_replicas(classifier, look, range(60)) as results:
            assert {tuple(found) for found in results} == {("ieee", "ieee")}
        assert [backend.fp32_precision for backend in backends] == before

    def test_another_precision_has_none(self):
        classifier = tiny_classifier()
        with replicated(classifier, batch_size=4):
            assert classifier.replicas is not None
            assert classifier.at_precision("bf16").replicas is None


class TestAlone:
    """All threads go on working at one batch, and the results are those of the network itself."""

    def alone(self, classifier, batch_size=4):
        held = replicated(classifier, batch_size=batch_size)
        with held, on_replicas(classifier, lambda replica, _: replica is classifier, range(3)) as results:
            return all(results), torch.get_num_threads()

    def test_what_cannot_be_copied(self):
        assert self.alone(camdrift.wrap(Locked(), size=16)) == (True, 3)

    def test_what_has_hooks(self):
        """A hook may hold on to the network that it was made for."""
        module, calls = tiny_classifier().module, []
        module.body.register_forward_hook(lambda *_: calls.append(1))
        assert self.alone(camdrift.wrap(module, size=32)) == (True, 3)

    def test_without_room(self):
        assert self.alone(tiny_classifier(), batch_size=10**9) == (True, 3)

    def test_small_layers_by_one_thread(self, monkeypatch):
        """Threads would wait for each other, and for Python."""
        monkeypatch.setattr(replicas, "_FEWEST_VALUES", 2**18)
        assert self.alone(tiny_classifier()) == (True, 1)


@pytest.mark.parametrize(
    ("attack", "options"),
    [
        (ATTACK, {}),
        (ATTACK, {"explanations": ("gradcam", "hirescam", "activation"), "targets": ("own", "seed")}),
        ("pgd(eps=8/255)", {"denoised": True, "explanations": ("ablationcam", "eigencam")}),
        ("apgd(eps=8/255)", {"lime": True, "lime_design": "lime(grid=2, samples=16)"}),
        ("deepfool", {"precision": "bf16"}),
        ("mifgsm(eps=8/255)", {}),
    ],
)
def test_tables_are_equal_for_any_number_of_threads(attack, options, eight, tmp_path, monkeypatch, teams):
    skip_report(monkeypatch)
    studies = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        settings = {**OPTIONS, **options, "attack": attack}
        classifier = tiny_classifier(precision=settings.pop("precision", "fp32"))
        studies.append(study_of(classifier, eight, tmp_path / str(threads), **settings))
        assert torch.get_num_threads() == threads
        assert {*teams} == ({threads} if threads > 1 else set())
        teams.clear()
    assert studies[0].seeds["status"].to_list().count("analysed") > 0
    for study in studies[1:]:
        assert_same(study, studies[0])


def test_tables_of_a_mixer_are_equal_for_any_number_of_threads(eight, tmp_path, monkeypatch, teams):
    """Its maps are taken at modules, and each replica has its own."""
    skip_report(monkeypatch)
    studies = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        classifier = camdrift.wrap(Tokens(), size=32)
        options = {**OPTIONS, "attack": "pgd(eps=32/255)", "layers": ("block",)}
        studies.append(study_of(classifier, eight, tmp_path / str(threads), **options))
    assert studies[0].seeds["status"].to_list().count("analysed") > 0
    assert {*teams} == {3}
    assert_same(*studies)


def test_a_librarys_attack_stays_in_its_thread(eight, tmp_path, monkeypatch):
    """Its random draws and its output are those of the whole process."""
    skip_report(monkeypatch)
    (tmp_path / "mine.py").write_text(
        "import threading, torch\n\nSEEN = []\n\n\n"
        "def attack(model, images, classes):\n"
        "    SEEN.append((threading.current_thread() is threading.main_thread(), torch.get_num_threads()))\n"
        "    return (images + 0.3 * torch.randn_like(images).sign()).clamp(0, 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    study = study_of(tiny_classifier(), eight, tmp_path / "run", **{**OPTIONS, "attack": "mine.py:attack"})
    import sys

    (seen,) = (module.SEEN for name, module in sys.modules.items() if name.endswith("mine") and hasattr(module, "SEEN"))
    assert {*seen} == {(True, 3)}
    assert study.seeds["status"].to_list().count("analysed") > 0
