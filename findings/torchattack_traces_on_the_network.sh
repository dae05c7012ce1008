#!/usr/bin/env bash
# torchattack 1.7.2: some attacks change the network that they are given for good, also once they are deleted.
#
# BPA puts modules of its own in the place of the pooling and of later ReLUs: the logits stay, but every gradient of the
# network, and so every Grad-CAM, is another one. SGM leaves backward hooks with the same effect. FDA and DR leave
# forward hooks that hold the activations of each later pass; FDA's `__del__`, which should remove them, is not reached,
# since the hooks hold the attack.
#
# Seen, torch 2.15.0 on a CPU, an untrained ResNet-18 of torchvision after one attack and `del attack`:
#   BPA  logits equal: True   hooks: 0    parts replaced: 4   cosine: 0.52
#   SGM  logits equal: True   hooks: 13   parts replaced: 0   cosine: 0.51
#   FDA  logits equal: True   hooks: 10   parts replaced: 0   cosine: 1.00
#   DR   logits equal: True   hooks: 1    parts replaced: 0   cosine: 1.00
# The cosine is that of the gradient of a logit with respect to the images, before and after.
# Exits with 1 once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
. "$folder/env/bin/activate"
python -m pip install --quiet uv
python -m uv pip install --quiet torch==2.15.0 torchvision==0.29.2 torchattack==1.7.2
cd "$folder"
python - <<'PYTHON'
import gc

import torch
import torchattack
import torchvision

settings = {
    "BPA": {},
    "SGM": {"hook_cfg": "resnet18"},
    "FDA": {},
    "DR": {"feature_layer_cfg": "layer2"},
}
images, labels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1])


def look(model):
    batch = images.clone().requires_grad_()
    logits = model(batch)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), batch)
    return logits.detach(), gradient.flatten()


hooks, replaced, cosines = {}, {}, {}
for name, further in settings.items():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10).eval()
    parts = {path: type(part) for path, part in model.named_modules()}
    logits, gradient = look(model)
    attack = getattr(torchattack, name)(model, device=torch.device("cpu"), steps=2, **further)
    attack(images, labels)
    del attack
    gc.collect()
    hooks[name] = sum(len(part._forward_hooks) + len(part._backward_hooks) for part in model.modules())
    replaced[name] = sum(type(part) is not parts.get(path) for path, part in model.named_modules())
    logits_after, gradient_after = look(model)
    cosines[name] = float(torch.cosine_similarity(gradient, gradient_after, 0))
    print(
        f"{name:<4} logits equal: {torch.equal(logits, logits_after)}   hooks: {hooks[name]:<4} "
        f"parts replaced: {replaced[name]}   cosine: {cosines[name]:.2f}"
    )
assert replaced["BPA"] and all(hooks[name] for name in ("SGM", "FDA", "DR")), "it leaves nothing now"
assert max(cosines["BPA"], cosines["SGM"]) < 0.95, "gradients are what they were"
PYTHON
