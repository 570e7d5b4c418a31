"""Compare what `cnnbook.analysis` says of public networks with other libraries and with gradients.

It runs over every classification network of torchvision and over one or more of each family of
timm, all without trained weights:

    python tools/compare_networks.py --jobs 2   # continues where it was interrupted
    python tools/compare_networks.py --page chapters/reference/networks-followed.md
    python tools/compare_networks.py --sample --output sample.json   # a dozen, under a minute
    python tools/compare_networks.py --only timm/levit_128s torchvision/swin_t

Each network runs in a process of its own and gives one line of the output. What is compared:

* MACs with fvcore's and torch's counters. What fvcore has no rule for, or counts in another way, is
  counted by hand from the shapes of the operands; the two counts must then agree exactly.
* Parameters with the sum over ``model.parameters()``.
* Receptive fields with gradients: the weights are random, and activations and maxima are exchanged
  for functions that let every path through. Then the pixels with a gradient are those that a unit
  depends on. None may lie outside its box, and a box that lies inside the image may be no larger
  than needed.
* Grad-CAM and occlusion with Captum's.
* The network before and after.
"""

import argparse
import contextlib
import datetime
import json
import multiprocessing
import multiprocessing.connection
import re
import time
import warnings
from collections import Counter
from functools import partial
from importlib.metadata import version
from pathlib import Path

import networks_page
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from cnnbook import analysis
from cnnbook.analysis._unchanged import RightGradients
from cnnbook.analysis.graph import Untraceable
from cnnbook.analysis.receptive import field_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # fvcore uses torch.jit, which is deprecated, when imported
    import captum.attr
    import fvcore.nn
    from fvcore.nn.jit_handles import get_shape

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "chapters" / "reference" / "networks-followed.json"
LIBRARIES = ("torch", "torchvision", "timm", "fvcore", "captum")

# Small ones of every family, by the file of timm in which they are written.
TIMM = {
    "beit": "beit_base_patch16_224",
    "byoanet": "botnet26t_256 halonet26t",
    "byobnet": "test_byobnet bat_resnext26ts",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "convnext": "test_convnext test_convnext2",
    "cpubone": "cpubone_b0_bfrobust",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cspresnet50 cspdarknet53",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121",
    "dla": "dla34",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "test_efficientnet test_efficientnet_gn test_efficientnet_ln",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "eva02_tiny_patch14_224",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_a",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s",
    "lowformer": "lowformer_b0",
    "mambaout": "test_mambaout",
    "maxxvit": "test_maxvit test_coatnet",
    "metaformer": "poolformer_s12 poolformerv2_s12",
    "mlp_mixer": "mixer_s32_224 gmixer_12_224",
    "mobilenetv3": "mobilenetv3_small_050 lcnet_035",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_gap",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "nfnet": "test_nfnet nfnet_l0",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_002",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m0_9",
    "res2net": "res2net50_14w_8s",
    "resnest": "resnest14d",
    "resnet": "test_resnet resnet10t",
    "resnetv2": "resnetv2_18 resnetv2_50x1_bit",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window8_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_ns_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_pcpvt_small",
    "vgg": "vgg11",
    "vision_transformer": "test_vit test_vit2",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "visformer": "visformer_tiny",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p16_224",
}

SAMPLE = (
    "torchvision/resnet18",
    "torchvision/squeezenet1_1",
    "torchvision/mobilenet_v3_small",
    "torchvision/shufflenet_v2_x0_5",
    "torchvision/googlenet",
    "timm/test_byobnet",
    "timm/test_convnext",
    "timm/test_efficientnet_ln",
    "timm/test_mambaout",
    "timm/test_maxvit",
    "timm/test_vit",
    "timm/levit_128s",
)


def families():
    """Return the family of every network, by its name: ``{"timm/levit_128s": "levit", …}``."""
    found = {}
    for name in torchvision.models.list_models(module=torchvision.models):
        found[f"torchvision/{name}"] = re.match(r"[a-z]+(_v2)?", name.replace("wide_", ""))[0]
    for family, names in TIMM.items():
        found |= {f"timm/{name}": family for name in names.split()}
    return found


def build(name, *, fused=True):
    """Return a network with random weights, and the shape of its images."""
    torch.manual_seed(0)
    library, model = name.split("/")
    if library == "torchvision":
        net = torchvision.models.get_model(model, weights=None)
        (side,) = {
            weights.transforms.keywords["crop_size"]
            for weights in list(torchvision.models.get_model_weights(model))[:1]
        }
        side = getattr(net, "image_size", side)  # some weights of vit_h_14 are for larger images
        return net.eval(), (3, side, side)
    timm.layers.set_fused_attn(fused)
    net = timm.create_model(model, pretrained=False).eval()
    return net, tuple(timm.data.resolve_data_config({}, model=net)["input_size"])


# --- Multiply–adds ---


def macs(name, shape, ours):
    """Compare a total of multiply–adds with torch's counter and fvcore's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit, and of settings for other processors
        return _macs(name, shape, ours)


def _macs(name, shape, ours):
    net = build(name, fused=False)[0].requires_grad_(False)  # torch's counter hooks gradients
    x = torch.randn(1, *shape)
    torch.backends.mha.set_fastpath_enabled(False)  # whose kernels no counter looks into
    recurrent = any(isinstance(module, nn.RNNBase) for module in net.modules())
    kernels = torch.backends.mkldnn.flags(enabled=not recurrent)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), kernels, sdpa_kernel(SDPBackend.MATH), counter:
        net(x)
    torchs = Counter()
    for operation, flops in counter.get_flop_counts()["Global"].items():
        kind = "conv" if "conv" in str(operation) else "matmul"
        torchs[kind] += flops // 2
    found = {"ours": ours, "torch": torchs.total()}

    by_hand = {}  # operations that fvcore does not count, or counts differently
    count = fvcore.nn.FlopCountAnalysis(net, x)
    count.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    count.tracer_warnings("none")
    for operation, own in HANDS.items():
        count.set_op_handle(operation, second_count(operation, count, own, by_hand))
    try:
        with torch.no_grad():
            operators = count.by_operator()
    except Exception as error:  # whatever torch.jit.trace does not follow
        return found | {"fvcore_fails": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    for by in by_hand.values():  # what fvcore itself would have said
        operators[by["kind"]] += by["fvcore"] - by["hand"]
    products = {kind: operators[kind] for kind in PRODUCTS if operators[kind]}
    found["fvcore"] = int(operators.total())
    found["not_products"] = {k: int(n) for k, n in operators.items() if k not in PRODUCTS and n}
    found["by_hand"] = [by for by in by_hand.values() if by["fvcore"] != by["hand"]]
    explained = sum(products.values()) + sum(b["hand"] - b["fvcore"] for b in by_hand.values())
    found["unexplained"] = None if ours is None else int(ours - explained)
    missed = sum(b["hand"] - b["fvcore"] for b in by_hand.values() if b["kind"] == "conv")
    found["unexplained_conv"] = int(torchs["conv"] - operators["conv"] - missed)
    return found


PRODUCTS = ("conv", "addmm", "bmm", "einsum", "matmul", "mm", "linear", "baddbmm", "attention")
PRODUCTS += ("lstm",)


KINDS = {"aten::_convolution_mode": "conv", "aten::scaled_dot_product_attention": "attention"}


def second_count(operation, count, own, by_hand):
    """Return a rule for fvcore that counts by hand, and notes what fvcore's own rule says."""
    theirs = count._op_handles.get(operation)
    kind = KINDS.get(operation, operation.removeprefix("aten::"))

    def rule(inputs, outputs):
        hand = own(inputs, outputs)
        by = by_hand.setdefault(operation, {"kind": kind, "fvcore": 0, "hand": 0})
        by["hand"] += hand
        if theirs is not None:
            flops = theirs(inputs, outputs)
            by["fvcore"] += int(flops.total() if isinstance(flops, Counter) else flops)
        return Counter({kind: hand})

    return rule


def prod(numbers):
    """Return the product of integers."""
    return int(torch.Size(numbers).numel())


def matmul_by_hand(inputs, _outputs):
    """Count the multiply–adds of a product of stacks of matrices, which broadcast."""
    a, b = (get_shape(value) for value in inputs)
    a, b = ([1, *a] if len(a) == 1 else a), ([*b, 1] if len(b) == 1 else b)
    return prod(torch.broadcast_shapes(a[:-2], b[:-2])) * a[-2] * a[-1] * b[-1]


def einsum_by_hand(inputs, _outputs):
    """Count the multiply–adds of an einsum of two tensors."""
    terms, _, result = inputs[0].toIValue().replace(" ", "").partition("->")
    a, b = terms.split(",")
    shapes = [get_shape(value) for value in inputs[1].node().inputs()]
    sizes = dict(zip(a, shapes[0], strict=True)) | dict(zip(b, shapes[1], strict=True))
    return prod([n for index, n in sizes.items() if index in result or (index in a and index in b)])


def attention_by_hand(inputs, _outputs):
    """Count the multiply–adds of queries with keys, and of the weights with values."""
    query, key, value = (get_shape(tensor) for tensor in inputs[:3])
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def baddbmm_by_hand(inputs, _outputs):
    """Count the multiply–adds of a stack of matrix products."""
    return prod(get_shape(inputs[1])) * get_shape(inputs[2])[-1]


def lstm_by_hand(inputs, _outputs):
    """Count the multiply–adds of an LSTM: each matrix of weights is used at each time step."""
    weights = [get_shape(value) for value in inputs[2].node().inputs()]
    steps = prod(get_shape(inputs[0])[:2])
    return steps * sum(prod(shape) for shape in weights if len(shape) == 2)


def conv_by_hand(inputs, outputs):
    """Every number of the output is a sum over one kernel."""
    return prod(get_shape(outputs[0])) * prod(get_shape(inputs[1])[1:])


HANDS = {
    "aten::_convolution_mode": conv_by_hand,  # padding="same"
    "aten::matmul": matmul_by_hand,
    "aten::einsum": einsum_by_hand,
    "aten::scaled_dot_product_attention": attention_by_hand,
    "aten::baddbmm": baddbmm_by_hand,
    "aten::lstm": lstm_by_hand,
}


# --- Receptive fields ---


class EveryPath(TorchFunctionMode):
    """Exchanges functions that block gradients for ones that let every path through."""

    SAME = (F.relu, F.relu6, F.hardtanh, F.hardswish, F.leaky_relu, F.relu_, F.hardtanh_)
    SAME += (torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, torch.clamp, Tensor.clamp)
    SAME += (Tensor.clamp_, Tensor.clamp_min, Tensor.clamp_max)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Call a function or its substitute."""
        kwargs = kwargs or {}
        if function in self.SAME:
            return args[0] if args else kwargs["input"]
        if function is F.hardsigmoid:
            return torch.sigmoid(args[0])
        if function in (torch.amax, Tensor.amax):
            return torch.mean(*args, **kwargs)
        if function in (torch.max_pool2d, F.max_pool2d):
            kwargs = (
                dict(zip(("kernel_size", "stride", "padding"), args[1:4], strict=False)) | kwargs
            )
            if kwargs.pop("dilation", 1) in (1, (1, 1)):
                kwargs.pop("return_indices", None)
                return F.avg_pool2d(args[0], **kwargs)
            return function(args[0], **kwargs)
        return function(*args, **kwargs)


def open_every_path(net):
    """Give a network weights with which no two paths cancel out, and none fades to zero."""
    generator = torch.Generator().manual_seed(0)
    for p in net.parameters():
        p.requires_grad_(False)
        if p.is_floating_point():
            p.uniform_(0.5, 1.5, generator=generator)
            if p.ndim > 1:
                p.div_(p[0].numel())  # averages, so that the numbers stay near 1
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.zero_()
        elif name.endswith("running_var"):
            buffer.fill_(1)


def evenly(items, count):
    """Return at most `count` items, evenly spaced, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def receptive_fields(net, shape, *, seconds, at_depth_1=5, inside=5):
    """Compare boxes of some units of some layers with the pixels that have a gradient."""
    found = analysis.trace(net, shape)
    last = {call.name: call for call in found.calls if call.name}
    images = [call for call in last.values() if call.shape]
    reasons = Counter()
    followed = []
    for call in images:
        try:
            if isinstance(call.reach, Untraceable):
                raise call.reach
            if call.reach is not None:
                field_of(call.name, call.reach, shape[1:])
                followed.append(call)
        except Untraceable as reason:
            reasons[str(reason)] += 1
    result = {
        "image": shape[1],
        "layers": len(images),
        "followed": len(followed),
        "constant": sum(call.reach is None for call in images),
        "refused": dict(reasons.most_common()),
    }

    outer = [call for call in followed if len(call.calls) == 2]
    inner = [call for call in followed if len(call.calls) > 2]
    chosen = [c.name for c in (*evenly(outer, at_depth_1), *evenly(inner, inside))]
    refused = [call.name for call in images if call not in followed and call.reach is not None]
    for layer in refused[:1]:
        try:
            field = analysis.receptive_field(net, shape, layer)
            result["faults"] = [f"{layer} is refused by the trace, yet has {field}"]
        except ValueError:
            pass
    fields = {layer: analysis.receptive_field(net, shape, layer) for layer in chosen}

    open_every_path(net.double())
    units, outside, inside_image, wide, odd = [], [], 0, [], []
    x = torch.rand(1, *shape, dtype=torch.double).add_(0.5).requires_grad_()
    kept = {}

    def keeper(layer):
        def hook(_module, _inputs, output):
            first = next(leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
            kept[layer] = first.clone()  # the next layer may work in place

        return hook

    hooks = [net.get_submodule(layer).register_forward_hook(keeper(layer)) for layer in chosen]
    torch.manual_seed(0)
    with EveryPath(), RightGradients(), sdpa_kernel(SDPBackend.MATH):
        net(x)
    for hook in hooks:
        hook.remove()

    start = time.monotonic()
    for layer, field in fields.items():
        if time.monotonic() - start > seconds:
            break
        output = kept[layer]
        if not output.isfinite().all():
            odd.append(f"{layer}: numbers overflow")
            continue
        same = field.shared or set(field.positions) == {1}  # all units see the same
        at = units_of(output, field.positions, same)
        if at is None:
            shape_of = tuple(output.shape[1:])
            outside.append(f"{layer}: positions {field.positions}, but its output is {shape_of}")
            continue
        sides, pick = at
        generator = torch.Generator().manual_seed(len(layer))
        middle = tuple(side // 2 for side in sides)
        anywhere = tuple(int(torch.randint(n, (), generator=generator)) for n in sides)
        for i, j in dict.fromkeys([middle, (0, 0), anywhere]):
            unit = pick(i, j)
            weights = torch.rand(unit.shape, dtype=unit.dtype, generator=generator) + 0.5
            (gradient,) = torch.autograd.grad(
                (unit * weights).sum(), x, retain_graph=True, allow_unused=True
            )
            if gradient is None or not gradient.any():
                odd.append(f"{layer}: unit {(i, j)} has no gradient")
                continue
            seen = gradient[0].ne(0).any(0)
            support = tuple(
                (int(line.nonzero()[0]), int(line.nonzero()[-1]) + 1)
                for line in (seen.any(1), seen.any(0))
            )
            position = (0, 0) if same else (i, j)
            whole, box = field.box(*position), field.box(*position, clip=True)
            units.append(support == box)
            text = f"{layer}, unit {(i, j)}: box {box}, gradients {support}"
            if any(s[0] < b[0] or s[1] > b[1] for s, b in zip(support, box, strict=True)):
                outside.append(text)
            if whole == box:
                inside_image += 1
                if support != box:
                    wide.append(text)
    return result | {
        "checked": len(units),
        "inside": inside_image,
        "equal": sum(units),
        "outside": outside,
        "wide": wide,
        "odd": odd,
    }


def units_of(output, positions, same):
    """Return how many rows and columns of units there are, and a function that picks one.

    None if they do not fit to the positions that a receptive field says there are.
    """
    positions = tuple(positions)
    rows, columns = positions
    if output.ndim == 4 and len(output) == 1:
        sides = tuple(output.shape[2:])
        if sides != positions and tuple(output.shape[1:3]) == positions:
            return positions, lambda i, j: output[0, i, j]
        return (sides, lambda i, j: output[0, :, i, j]) if same or sides == positions else None
    if same:
        flat = output.flatten()
        return (1, len(flat)), lambda _, j: flat[j : j + 1]
    for dim in range(output.ndim - 1):
        if tuple(output.shape[dim : dim + 2]) == positions:
            return positions, lambda i, j, dim=dim: output.select(dim, i).select(dim, j).flatten()
    if output.ndim == 3 and len(output) == 1 and output.shape[1] % (rows * columns) == 0:
        # Several tokens share a position; hiera puts what it pools first.
        parts = output[0].unflatten(0, (-1, rows * columns))
        return positions, lambda i, j: parts[:, i * columns + j].flatten()
    for dim, length in enumerate(output.shape):  # some networks merge N and the tokens
        if length == rows * columns and (dim == 0 or len(output) == 1):
            return positions, partial(_token, output, dim, columns)
    return None


def _token(output, dim, columns, i, j):
    return output.select(dim, i * columns + j).flatten()


def channels_last(output):
    """Return whether a square feature map has its channels last; None if that cannot be told."""
    a, b, c = output.shape[1:]
    if b == c != a:
        return False
    return True if a == b != c else None


# --- Attribution ---


def attributions(name, shape, budget=60.0):
    """Compare Grad-CAM and occlusion with Captum's, in double precision, on a small image."""
    net, _ = build(name)
    net.double()
    x = None
    for side in (64, 96, 128, shape[1]):
        torch.manual_seed(1)
        x = torch.randn(1, 3, side, side, dtype=torch.double)
        try:
            start = time.monotonic()
            with torch.no_grad():
                scores = net(x)
            duration = time.monotonic() - start
            break
        except Exception:  # the network takes images of another size
            continue
    result = {"image": x.shape[2], "grad_cam": [], "occlusion": None}
    before = state_of(net)
    if not isinstance(scores, Tensor) or scores.ndim != 2 or scores.shape[1] < 2:
        return result | {"note": f"returns no class scores, but {described(scores)}"}
    targets = scores[0].topk(min(5, scores.shape[1])).indices.tolist()
    calls = analysis.trace(net, tuple(x.shape[1:])).calls
    names = {c.name: c for c in calls if c.name and len(c.shape) == 3 and len(c.calls) <= 3}
    images = [c for c in names.values() if c.shape[1] > 1]
    for call in evenly(images, 4)[1:]:
        try:
            for target in targets:  # until there is support for one
                row = one_grad_cam(net, x, call.name, target)
                if not row.get("zero"):
                    break
            result["grad_cam"].append(row)
        except (ValueError, TypeError) as error:
            what = str(error).splitlines()[0][:200]
            result["grad_cam"].append({"layer": call.name, "refused": what})
        except Exception as error:
            what = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            result["grad_cam"].append({"layer": call.name, "fails": what})

    result["changed"] = changes(before, net)
    if duration * 60 > budget:
        return result | {"note": "occlusion takes too long here"}
    side = x.shape[2]
    patch = side // 4
    patch = next(p for p in range(patch, 0, -1) if side % p == 0)
    try:
        target = targets[0]
        mine = analysis.occlusion(net, x, target, patch=patch, stride=patch).maps[0]
        with torch.no_grad():
            theirs = captum.attr.Occlusion(lambda x: net(x).softmax(1)).attribute(
                x, (3, patch, patch), (3, patch, patch), target=target
            )[0, 0]
        # A probability that does not change but for rounding: nothing to compare.
        result["occlusion"] = difference(mine, theirs, least=1e-9 * float(scores.softmax(1).max()))
    except Exception as error:
        result["occlusion_fails"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    result["changed"] = changes(before, net)
    return result


def one_grad_cam(net, x, layer, target):
    """Compare the Grad-CAM of one layer with Captum's, or with its definition written out."""
    module = net.get_submodule(layer)
    kept = []

    def hook(_module, _inputs, output):
        if not isinstance(output, Tensor):
            kept[:] = [None]
            return output
        kept[:] = [output.detach().clone().requires_grad_()]
        return kept[0].clone()

    handle = module.register_forward_hook(hook)
    try:
        with RightGradients():
            score = net(x)[0, target]
    finally:
        handle.remove()
    maps = kept[0]
    if maps is None:
        return {"layer": layer, "note": "returns several tensors"}
    last = channels_last(maps)
    (gradient,) = torch.autograd.grad(score, maps, allow_unused=True)
    ours = analysis.grad_cam(net, x, layer, target, upsample=False).maps[0]
    if last is None or gradient is None:
        return {"layer": layer, "note": "cannot tell where the channels are"}
    across, channel = ((1, 2), 3) if last else ((2, 3), 1)
    plain = (gradient.mean(across, keepdim=True) * maps).sum(channel).relu()[0].detach()
    row = {"layer": layer, "channels_last": last, "definition": difference(ours, plain)}
    if not last:
        with RightGradients():
            theirs = captum.attr.LayerGradCam(net, module).attribute(
                x, target, relu_attributions=True, attr_dim_summation=True
            )
        row["captum"] = difference(ours, theirs[0, 0].detach())
    return row | {"zero": not bool(plain.any())}


def difference(a, b, least=1e-300):
    """Return the largest difference, relative to the largest value, or to `least` if it is less."""
    if a.shape != b.shape:
        return float("inf")
    if not b.any():
        return float(a.abs().max())
    return float((a - b).abs().max() / b.abs().max().clamp_min(least))


def described(output):
    """Return what a network returned, in words."""
    return f"a tensor {tuple(output.shape)}" if isinstance(output, Tensor) else str(type(output))


# --- The network before and after ---


def state_of(net):
    """Return what may not change in a network."""
    return {
        "weights": {name: tensor.clone() for name, tensor in net.state_dict().items()},
        "modes": {name: module.training for name, module in net.named_modules()},
        "hooks": {
            name: len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
            for name, m in net.named_modules()
        },
        "parameters": {
            name: (id(p), p.requires_grad, p.grad is None) for name, p in net.named_parameters()
        },
        "random numbers": {"state": torch.get_rng_state()},
    }


def changes(before, net):
    """Return what has changed, in words."""
    after = state_of(net)
    found = []
    for what, old in before.items():
        new = after[what]
        for name in old.keys() | new.keys():
            a, b = old.get(name), new.get(name)
            if isinstance(a, Tensor) and isinstance(b, Tensor):
                same = a.device == b.device and torch.equal(a.nan_to_num(), b.nan_to_num())
            else:
                same = a == b
            if not same:
                found.append(f"{what}: {name}")
    found += [f"on the meta device: {path}" for path in sorted(meta_tensors(net))]
    return found if len(found) < 5 else [*found[:3], f"and {len(found) - 3} more"]


def meta_tensors(net):
    """Return where a network keeps tensors on the meta device, in whatever it refers to."""
    found, seen = set(), set()

    def walk(thing, path):
        if id(thing) in seen or len(path) > 300:
            return
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            if thing.device.type == "meta":
                found.add(path)
            return
        if isinstance(thing, dict):
            for key, value in list(thing.items()):
                walk(value, f"{path}.{key}")
        elif isinstance(thing, (list, tuple, set)):
            for i, value in enumerate(thing):
                walk(value, f"{path}[{i}]")
        elif isinstance(getattr(thing, "__dict__", None), dict) and not isinstance(thing, type):
            walk(vars(thing), path)

    walk(vars(net), type(net).__name__)
    return found


# --- One network, all networks ---


def examine(name, *, seconds=60.0):
    """Return everything about one network as a dictionary."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    start = time.monotonic()
    net, shape = build(name)
    for number, module in enumerate(net.modules()):
        module.training = number % 3 == 0  # modes of all kinds, which must come back
    before = state_of(net)
    table = analysis.summary(net, shape)
    result = {
        "name": name,
        "input": list(shape),
        "parameters": {
            "ours": table.total_parameters,
            "torch": sum(p.numel() for p in net.parameters()),
        },
    }
    result["changed"] = changes(before, net)
    smaller_shape = smaller(net.eval(), shape, table.total_macs or 0)
    del before, net  # the largest networks do not fit into memory many times
    steps = {
        "macs": lambda: macs(name, shape, table.total_macs),
        "fields": lambda: receptive_fields(build(name)[0], smaller_shape, seconds=seconds),
        "attribution": lambda: attributions(name, shape, seconds),
    }
    for what, step in steps.items():
        try:
            with torch.no_grad() if what == "macs" else contextlib.nullcontext():
                result[what] = step()
        except Exception as error:
            result[what] = {"fails": f"{type(error).__name__}: {error}"[:500]}
    return result | {"seconds": round(time.monotonic() - start, 1)}


def smaller(net, shape, macs, most=6e9):
    """Return the shape of a smaller image where the published one makes too much work."""
    for side in (128, 96) if macs > most else ():
        with contextlib.suppress(Exception), torch.no_grad():
            net(torch.zeros(1, 3, side, side))
            return (3, side, side)
    return shape


def _send(name, pipe, seconds):
    pipe.send(examine(name, seconds=seconds))


def examine_all(names, *, jobs, timeout, seconds):
    """Examine each network in a process of its own, whose memory goes with it."""
    context = multiprocessing.get_context("fork")  # what is imported is imported once
    names, running = list(names), {}
    while names or running:
        while names and len(running) < jobs:
            receiver, sender = context.Pipe(duplex=False)
            name = names.pop(0)
            process = context.Process(target=_send, args=(name, sender, seconds))
            process.start()
            sender.close()
            running[receiver] = name, process, time.monotonic() + timeout
        first = min(deadline for _, _, deadline in running.values())
        ready = multiprocessing.connection.wait(running, max(0, first - time.monotonic()))
        late = [r for r, (_, _, deadline) in running.items() if deadline < time.monotonic()]
        for receiver in {*ready, *late}:
            name, process, _ = running.pop(receiver)
            try:
                row = receiver.recv() if receiver in ready else {"fails": "takes too long"}
            except EOFError:
                row = {"fails": "its process ended"}
            process.kill()
            process.join()
            yield {"name": name} | row


def save(path, networks):
    """Write the results, one network a line."""
    about = {"date": datetime.date.today().isoformat()} | {
        name: version(name) for name in LIBRARIES
    }
    lines = ",\n".join(json.dumps(networks[name]) for name in sorted(networks))
    text = f'{{"about": {json.dumps(about)},\n"networks": [\n{lines}\n]}}\n'
    temporary = path.with_suffix(".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def load(path):
    """Return the results of earlier runs by name."""
    if not path.exists():
        return {}
    return {row["name"]: row for row in json.loads(path.read_text("utf-8"))["networks"]}


def wrong(row):
    """Return what is wrong about a network: numbers that contradict others, or failures."""
    found = [f"fails: {row['fails']}"] if "fails" in row else []
    for part in ("macs", "fields", "attribution"):
        if "fails" in row.get(part, {}):
            found.append(f"{part} fails: {row[part]['fails']}")
    if "macs" in row and "fails" not in row["macs"]:
        m = row["macs"]
        if m["ours"] is not None and m["ours"] != m["torch"]:
            found.append(f"MACs: ours {m['ours']:,}, torch {m['torch']:,}")
        if m.get("unexplained") or m.get("unexplained_conv"):
            found.append(f"MACs: {m['unexplained']:,} more than fvcore's without a cause")
    if "parameters" in row and row["parameters"]["ours"] != row["parameters"]["torch"]:
        found.append("parameters: ours {ours:,}, torch {torch:,}".format(**row["parameters"]))
    fields = row.get("fields", {})
    found += [f"receptive field: {text}" for text in fields.get("outside", [])]
    if row["name"] not in networks_page.BOUNDS:
        found += [f"box too large: {text}" for text in fields.get("wide", [])]
    found += fields.get("faults", [])
    attribution = row.get("attribution", {})
    changed = dict.fromkeys([*row.get("changed", []), *attribution.get("changed", [])])
    found += [f"changed: {text}" for text in changed]
    if "occlusion_fails" in attribution:
        found.append(f"occlusion fails: {attribution['occlusion_fails']}")
    for cam in attribution.get("grad_cam", []):
        if "fails" in cam:
            found.append(f"Grad-CAM of {cam['layer']} fails: {cam['fails']}")
        for by in ("captum", "definition"):
            if cam.get(by, 0) > 1e-6:
                found.append(f"Grad-CAM of {cam['layer']}: {cam[by]:.1e} from {by}")
    if (attribution.get("occlusion") or 0) > 1e-6:
        found.append(f"occlusion: {attribution['occlusion']:.1e} from Captum's")
    return found


def main(arguments=None):
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS, help="results (JSON)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these networks, again")
    parser.add_argument("--sample", action="store_true", help="a dozen small networks")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for a network")
    parser.add_argument("--seconds", type=float, default=20, help="for its receptive fields")
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time")
    parser.add_argument("--page", type=Path, help="write the page from the results, run nothing")
    options = parser.parse_args(arguments)
    if options.page:
        networks = json.loads(options.output.read_text("utf-8"))
        options.page.write_text(networks_page.page(networks, families(), wrong), encoding="utf-8")
        return
    networks = load(options.output)
    names = options.only or (SAMPLE if options.sample else sorted(families()))
    missing = [name for name in names if options.only or name not in networks]
    rows = examine_all(missing, jobs=options.jobs, timeout=options.timeout, seconds=options.seconds)
    for number, row in enumerate(rows, 1):
        networks[row["name"]] = row
        save(options.output, networks)
        print(f"{number}/{len(missing)} {row['name']} {row.get('seconds', '')} s", flush=True)
        for text in wrong(row):
            print("   ", text, flush=True)


if __name__ == "__main__":
    main()
