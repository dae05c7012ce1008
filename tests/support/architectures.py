"""Small networks of every make that camdrift is to study: random weights, inputs of 64 px or less, quick to run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import timm
import torch
import torchvision
from timm.models.mlp_mixer import MlpMixer
from torch import nn
from torchvision.models import convnext, densenet, swin_transformer

from support.nets import calibrated, vgg

CLASSES = 6


@dataclass(frozen=True)
class Architecture:
    """A network to be: call it for the module, in evaluation mode, always with the same weights.

    Attributes:
        build: Makes the module.
        family: Which layers camdrift takes by default: conv or block.
        size: Height and width of its input.
    """

    build: Callable[[], nn.Module]
    family: str
    size: int = 64

    def __call__(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = self.build()
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                # Scales of residual branches begin near zero, which would hide all that the branch does.
                if "bias" not in name and parameter.abs().max() < 1e-3:
                    parameter.fill_(0.5)
        return calibrated(module, size=self.size)


def from_torchvision(name, **options):
    return torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **options)


def from_timm(name, **options):
    return timm.create_model(name, pretrained=False, num_classes=CLASSES, **options)


def from_transformers(name, **options):
    import transformers

    config = getattr(transformers, f"{name}Config")(num_labels=CLASSES, **options)
    return getattr(transformers, f"{name}ForImageClassification")(config)


def small_convnext():
    settings = [convnext.CNBlockConfig(*widths, 2) for widths in ((16, 32), (32, 48), (48, None))]
    return convnext.ConvNeXt(settings, num_classes=CLASSES, layer_scale=0.5)


def small_swin():
    return swin_transformer.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=CLASSES)


class InstanceNorms(nn.Module):
    """Norms over each channel of each image, right in front of convolutions and of tokens."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(*widths, 3, 2, 1) for widths in ((3, 8), (8, 12), (12, 16))])
        norms = (nn.InstanceNorm2d(8, affine=True), nn.GroupNorm(12, 12), nn.InstanceNorm2d(16, affine=True))
        self.norms = nn.ModuleList(norms)
        for norm in norms:
            nn.init.constant_(norm.bias, 0.5)
        self.mixer, self.head = nn.Linear(16, 16), nn.Linear(16, CLASSES)

    def forward(self, images):
        x = images
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x))
        tokens = x.flatten(2).transpose(1, 2)
        return self.head(self.mixer(tokens).relu().square().mean(1))


def small_vit():
    return torchvision.models.VisionTransformer(64, 16, 3, 2, 24, 48, num_classes=CLASSES)


TOKENS = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
VIT = {"img_size": 64, "embed_dim": 24, "depth": 3, "num_heads": 2}

ARCHITECTURES: dict[str, Architecture] = {
    # convolutions
    "vgg, in-place ReLU": Architecture(partial(vgg, [8, "M", 12, 12, "M", 16, "M"], CLASSES), "conv", 32),
    "resnet, batch norm and shared in-place ReLU": Architecture(partial(from_torchvision, "resnet18"), "conv"),
    "mobilenet, depthwise, gates": Architecture(partial(from_torchvision, "mobilenet_v3_small"), "conv"),
    "shufflenet, channels split": Architecture(partial(from_torchvision, "shufflenet_v2_x0_5"), "conv"),
    "squeezenet, no norm": Architecture(partial(from_torchvision, "squeezenet1_1"), "conv"),
    "googlenet, auxiliary heads, functional ReLU": Architecture(
        partial(from_torchvision, "googlenet", aux_logits=True, init_weights=False), "conv"
    ),
    "densenet, everything concatenated": Architecture(
        partial(densenet.DenseNet, 8, (2, 3, 2), 12, num_classes=CLASSES), "conv"
    ),
    "efficientnet, timm": Architecture(partial(from_timm, "test_efficientnet"), "conv"),
    "nfnet, scaled convolutions": Architecture(partial(from_timm, "test_nfnet"), "conv"),
    "coatnet, attention of 1x1 convolutions": Architecture(
        partial(
            from_timm,
            "coatnet_pico_rw_224",
            img_size=64,
            embed_dim=(32, 32, 32, 32),
            depths=(1, 2, 2, 1),
            stem_width=(8, 16),
        ),
        "conv",
    ),
    "instance norm in front of tokens": Architecture(InstanceNorms, "conv", 32),
    # blocks
    "convnext, torchvision": Architecture(small_convnext, "block"),
    "convnext, transformers": Architecture(
        partial(from_transformers, "ConvNext", hidden_sizes=[16, 24, 32], depths=[2, 2, 2], num_stages=3), "block"
    ),
    "vit, torchvision": Architecture(small_vit, "block"),
    "vit, timm, averaged": Architecture(
        partial(from_timm, "vit_tiny_patch16_224", **VIT, patch_size=8, global_pool="avg", class_token=False), "block"
    ),
    "vit with registers": Architecture(
        partial(from_timm, "vit_small_patch14_reg4_dinov2", **{**VIT, "img_size": 56}), "block", 56
    ),
    "vit, transformers": Architecture(
        partial(from_transformers, "ViT", image_size=64, patch_size=16, **TOKENS), "block"
    ),
    "dinov2 with registers, transformers": Architecture(
        partial(from_transformers, "Dinov2WithRegisters", image_size=56, patch_size=14, **TOKENS), "block", 56
    ),
    "deit, distilled": Architecture(partial(from_timm, "deit_tiny_distilled_patch16_224", **VIT), "block"),
    "cait, class token at the end": Architecture(partial(from_timm, "cait_xxs24_224", **VIT), "block"),
    "swin, torchvision, channels last": Architecture(small_swin, "block"),
    "swin v2, timm": Architecture(
        partial(
            from_timm,
            "swinv2_tiny_window8_256",
            img_size=64,
            window_size=4,
            embed_dim=16,
            depths=(1, 2, 1),
            num_heads=(2, 2, 4),
        ),
        "block",
    ),
    "swin, transformers, tokens merged": Architecture(
        partial(
            from_transformers,
            "Swin",
            image_size=64,
            patch_size=4,
            embed_dim=16,
            depths=[2, 2, 1],
            num_heads=[2, 2, 4],
            window_size=4,
        ),
        "block",
    ),
    "maxvit, windows and grids": Architecture(
        partial(
            from_timm,
            "maxvit_rmlp_pico_rw_256",
            img_size=64,
            embed_dim=(32, 32, 32),
            depths=(1, 2, 1),
            stem_width=8,
            head_hidden_size=None,
        ),
        "block",
    ),
    "pvt, tokens and planes in turn": Architecture(
        partial(from_timm, "pvt_v2_b0", embed_dims=(16, 16, 24, 32), num_heads=(1, 1, 2, 2), depths=(1, 2, 2, 1)),
        "block",
    ),
    "mixer": Architecture(partial(MlpMixer, num_classes=CLASSES, img_size=64, embed_dim=24, num_blocks=3), "block"),
}
