"""Seconds per image for the Grad-CAM maps of all VGG-16 layers: camdrift and three other libraries, in one run.

    python benchmarks/attribution.py [--batch 4] [--rounds 5] [--device cpu]

Every candidate explains the same images and classes of the same network (random weights: the time does not depend
on them). The candidates take turns, round by round, so that a machine whose speed drifts favours none of them;
printed are medians over rounds and medians of the ratios within a round.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torchcam.methods import GradCAM as TorchCam

from camdrift import attribute, wrap


def candidates(net: nn.Module, images: Tensor, classes: Tensor) -> dict[str, Callable[[], object]]:
    classifier = wrap(net, size=images.shape[-1])
    frozen = [parameter.requires_grad_(False) for parameter in net.parameters()]
    relus = [module for module in net.features if isinstance(module, nn.ReLU)]
    names = [f"features.{i}" for i, module in enumerate(net.features) if isinstance(module, nn.ReLU)]

    def bare() -> None:
        inputs = images.clone().requires_grad_()
        score = net(inputs).gather(1, classes[:, None]).sum()
        torch.autograd.grad(score, inputs)

    def torchcam() -> object:
        # torch-cam needs gradients to start somewhere: at the input, as for the bare pass.
        with TorchCam(net, target_layer=names) as extractor:
            scores = net(images.clone().requires_grad_())
            return extractor(classes.tolist(), scores, normalized=False)

    def captum() -> object:
        return [LayerGradCam(net, relu).attribute(images, target=classes, relu_attributions=True) for relu in relus]

    def gradcam() -> object:
        maps = []
        for relu in relus:
            with GradCAM(net, [relu]) as cam:
                targets = [ClassifierOutputTarget(int(c)) for c in classes]
                maps.append(cam(images.clone().requires_grad_(), targets=targets))
        return maps

    assert frozen
    return {
        "bare forward + backward": bare,
        "camdrift, 13 layers at once": lambda: attribute(classifier, images, classes),
        "torch-cam, 13 layers at once": torchcam,
        "Captum, layer by layer": captum,
        "pytorch-grad-cam, layer by layer": gradcam,
    }


def seconds(run: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.manual_seed(0)
    net = torchvision.models.vgg16().eval().to(options.device)
    images = torch.rand(options.batch, 3, 224, 224, device=options.device)
    classes = torch.arange(options.batch, device=options.device)
    runs = candidates(net, images, classes)
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            times[name].append(seconds(run) / options.batch)
    base, own = "bare forward + backward", "camdrift, 13 layers at once"
    print(
        f"VGG-16, batch {options.batch}, {options.device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"{'':34}{'s/image':>9}{'x bare':>9}{'x camdrift':>12}")
    for name, own_times in times.items():
        to_bare = statistics.median(a / b for a, b in zip(own_times, times[base], strict=True))
        to_own = statistics.median(a / b for a, b in zip(own_times, times[own], strict=True))
        print(f"{name:34}{statistics.median(own_times):9.3f}{to_bare:9.2f}{to_own:12.2f}")


if __name__ == "__main__":
    main()
