"""What the tests of several architectures share."""

import torch

from cnnbook.models import copy_weights

# Forms that two CPU cores can train, for images of 32×32 pixels (torchvision's AlexNet: 224×224).
SMALL = {
    "lenet5": {},
    "lenet5_1998": {"codes": "random"},
    "alexnet": {"stem": "small", "width": 0.1},
    "alexnet_one_column": {"stem": "small", "width": 0.1},
    "alexnet_2014": {},
    **{
        name: {"input_size": 32, "width": 0.1}
        for name in (
            *("vgg11", "vgg11_lrn", "vgg13", "vgg16_c", "vgg16", "vgg19"),
            *("vgg11_bn", "vgg13_bn", "vgg16_c_bn", "vgg16_bn", "vgg19_bn"),
        )
    },
    "googlenet": {"stem": "small", "width": 0.1},
    "googlenet_bn": {"stem": "small", "width": 0.1},
    **{f"resnet{d}": {"stem": "small", "width": 0.1} for d in (18, 34, 50, 101, 152)},
    "efficientnet_lite0": {"stem": "small", "width": 0.25},
    **{f"resnet{d}": {"width": 0.5} for d in (20, 32, 44, 56, 110)},
}


def count(module):
    return sum(p.numel() for p in module.parameters())


def shapes(model, x):
    """Return the output shape, without N, of each direct child, in the order of running."""
    found = {}
    handles = [
        child.register_forward_hook(
            lambda _m, _i, output, name=name: found.update({name: tuple(output.shape[1:])})
        )
        for name, child in model.named_children()
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return found


def assert_same_network(ours, theirs, x, *, train=False):
    """Transfer weights from `theirs` to `ours`; outputs and all gradients must agree."""
    copy_weights(theirs.state_dict(), ours)
    outputs = []
    for model in (ours, theirs):
        model.train(train)
        output = model(x)
        output.square().mean().backward()
        outputs.append(output.detach())
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-6 * outputs[1].abs().max().item())
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        atol = 1e-5 * b.grad.abs().max().item()
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=atol)
