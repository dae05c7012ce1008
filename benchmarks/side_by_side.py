"""A study by camdrift and by a script of other libraries, side by side: VGG-16, the same images, variants and maps.

    python benchmarks/side_by_side.py IMAGES [--model SPEC] [--seeds 4] [--rounds 2] [--per-layer 1] [--device cpu]

The script is what one would put together today: foolbox's PGD on a batch, Gaussian noise of the same mean and standard
deviation, strengths from 25 % to 400 % and noise up to 32 times, torch-cam with all layers in one forward pass and one
backward pass per explained class, maps upsampled to the input's size, cosine similarity in NumPy. With --per-layer it
also explains that many seeds layer by layer with Captum. Both take turns; both explain each image's own class and its
seed's class. camdrift's time is that of the whole study with statistics, without figures and report.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import foolbox
import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam
from torch import Tensor, nn
from torchcam.methods import GradCAM

from camdrift import load_model, run
from camdrift.images.pixels import read_image
from camdrift.images.sources import find_images, limit_images
from camdrift.models.classifier import Classifier

STRENGTHS, LADDER, STEPS, EPS = (0.25, 0.5, 1.0, 2.0, 4.0), (8.0, 16.0, 32.0), 10, 8 / 255
BATCH = 4

Maps = list[Tensor]  # by layer: (images, height, width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("--model", default="torchvision/vgg16")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--per-layer", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    plain = load_model(options.model, device=options.device)
    half = load_model(options.model, device=options.device, precision="bf16")
    theirs = load_model(options.model, device=options.device)
    theirs.module.to(memory_format=torch.contiguous_format)  # as the libraries hand it out
    files = [file.path for file in limit_images(find_images(options.images), options.seeds)]
    seconds: dict[str, list[float]] = {"camdrift": [], "camdrift, bf16": [], "script": [], "script, layer by layer": []}
    for _ in range(options.rounds):
        seconds["camdrift"].append(studied(plain, files) / len(files))
        seconds["script"].append(scripted(theirs, files, at_once(theirs)) / len(files))
        seconds["camdrift, bf16"].append(studied(half, files) / len(files))
    few = files[: options.per_layer]
    if few:
        seconds["script, layer by layer"].append(scripted(theirs, few, layer_by_layer(theirs)) / len(few))
    for name, values in seconds.items():
        if values:
            print(f"{name:24}{statistics.median(values):8.2f} s per seed")
    for name in ("script", "script, layer by layer"):
        for ours in ("camdrift", "camdrift, bf16"):
            if seconds[name]:
                ratio = statistics.median(seconds[name]) / statistics.median(seconds[ours])
                print(f"{ours} is {ratio:.2f} times as fast as the {name}")


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def studied(classifier: Classifier, files: list[Path]) -> float:
    """Seconds of a study."""
    with tempfile.TemporaryDirectory() as folder:
        study = run(classifier, files, out=Path(folder) / "run", attack=f"pgd(eps={EPS!r}, steps={STEPS})", gallery=0)
        analysed = (study.seeds["status"] == "analysed").sum()
    assert analysed == len(files), f"{analysed} of {len(files)} images have an adversarial example: choose others"
    return float(study.record["timings"]["total"])


def scripted(classifier: Classifier, files: list[Path], explain: Callable[[Tensor, Tensor], Maps]) -> float:
    """Seconds of the script on the same images."""
    start = now()
    mean, std = list(classifier.mean), list(classifier.std)
    net = foolbox.PyTorchModel(
        classifier.module, bounds=(0, 1), device=classifier.device, preprocessing={"mean": mean, "std": std, "axis": -3}
    )
    pixels = [read_image(f, size=classifier.size, resize=classifier.resize).pixels for f in files]
    seeds = torch.stack(pixels).to(classifier.device)
    adversarial = []
    for images in seeds.split(BATCH):
        with torch.no_grad():
            classes = net(images).argmax(1)
        attack = foolbox.attacks.LinfPGD(steps=STEPS)
        adversarial.append(attack(net, images, classes, epsilons=EPS)[1])
    rows = []
    for seed, attacked in zip(seeds, torch.cat(adversarial), strict=True):
        delta = attacked - seed
        noise = delta.mean() + delta.std() * torch.randn_like(delta)
        variants = [seed, *(seed + s * delta for s in STRENGTHS), *(seed + s * noise for s in (*STRENGTHS, *LADDER))]
        rows.append(similarities(torch.stack(variants).clamp(0, 1), explain))
    threshold = np.median(np.stack(rows)[..., len(STRENGTHS) :], axis=0)
    assert np.isfinite(threshold).any()
    return now() - start


def similarities(variants: Tensor, explain: Callable[[Tensor, Tensor], Maps]) -> np.ndarray:
    """Cosine of every variant's maps with the clean image's, (layers, 2 classes, variants)."""
    maps: list[list[np.ndarray]] = []
    for batch in variants.split(BATCH):
        found = explain(batch, variants[:1])
        sized = [F.interpolate(m[:, None], size=variants.shape[-2:], mode="bilinear")[:, 0] for m in found]
        maps.append([m.cpu().numpy() for m in sized])
    layers = [np.concatenate(parts) for parts in zip(*maps, strict=True)]
    both = [layer.reshape(-1, 2, layer[0].size) for layer in layers]
    rows = []
    for layer in both:
        clean, rest = layer[:1], layer[1:]
        norms = np.linalg.norm(clean, axis=-1) * np.linalg.norm(rest, axis=-1)
        with np.errstate(invalid="ignore"):
            rows.append(((clean * rest).sum(-1) / norms).T)
    return np.stack(rows)


def normalised(classifier: Classifier, images: Tensor) -> Tensor:
    shape = (1, 3, 1, 1)
    mean, std = (torch.tensor(v, device=images.device).view(shape) for v in (classifier.mean, classifier.std))
    return (images - mean) / std


def at_once(classifier: Classifier) -> Callable[[Tensor, Tensor], Maps]:
    """Maps of all layers from one forward pass and a backward pass per class; (2 x images, h, w), classes in turn."""
    net = classifier.module
    names = [name for name, module in net.named_modules() if isinstance(module, nn.ReLU) and "features" in name]

    def explain(images: Tensor, seed: Tensor) -> Maps:
        with torch.no_grad():
            seed_class = int(net(normalised(classifier, seed)).argmax())
        with GradCAM(net, target_layer=names) as extractor:
            scores = net(normalised(classifier, images).requires_grad_())
            own = extractor(scores.argmax(1).tolist(), scores, normalized=False, retain_graph=True)
            of_seed = extractor([seed_class] * len(images), scores, normalized=False)
        return [torch.stack(pair, 1).flatten(0, 1) for pair in zip(own, of_seed, strict=True)]

    return explain


def layer_by_layer(classifier: Classifier) -> Callable[[Tensor, Tensor], Maps]:
    """The same with Captum: a forward and a backward pass per layer and class."""
    net = classifier.module
    relus = [module for name, module in net.named_modules() if isinstance(module, nn.ReLU) and "features" in name]

    def explain(images: Tensor, seed: Tensor) -> Maps:
        with torch.no_grad():
            own = net(normalised(classifier, images)).argmax(1)
            of_seed = net(normalised(classifier, seed)).argmax(1).expand(len(images))
        found = []
        for relu in relus:
            cam = LayerGradCam(net, relu)
            pair = [
                cam.attribute(normalised(classifier, images), target=target, relu_attributions=True).detach()[:, 0]
                for target in (own, of_seed)
            ]
            found.append(torch.stack(pair, 1).flatten(0, 1))
        return found

    return explain


if __name__ == "__main__":
    main()
