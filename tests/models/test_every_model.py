"""What holds for every network, by name."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from helpers import SMALL
from torch import nn

from cnnbook import models

every_model = pytest.mark.parametrize("name", models.list_models())


def small(name):
    torch.manual_seed(0)
    return models.create(name, num_classes=4, in_channels=1, **SMALL[name])


def batch(name, n=8):
    torch.manual_seed(1)
    side = 224 if name == "alexnet_2014" else 32
    return torch.randn(n, 1, side, side), torch.arange(n) % 4


@pytest.mark.slow
@every_model
def test_training_lowers_the_loss(name):
    net, (x, y) = small(name), batch(name)
    loss = models.model_spec(name).loss
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # the steps, not chance, must lower it
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4 if name == "alexnet_2014" else 1e-3)
    losses = []
    for _ in range(8):
        value = loss(net(x), y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.slow
@every_model
def test_weights_survive_safetensors(name, tmp_path):
    net, (x, _) = small(name).eval(), batch(name)
    safetensors.torch.save_model(net, tmp_path / "w.safetensors")
    other = models.create(name, num_classes=4, in_channels=1, **SMALL[name]).eval()
    safetensors.torch.load_model(other, tmp_path / "w.safetensors")
    with torch.no_grad():
        assert torch.equal(net(x), other(x))


@pytest.mark.slow
@every_model
def test_compiles_without_a_graph_break(name):
    net, (x, _) = small(name).eval(), batch(name, 2)
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), net(x))


@pytest.mark.slow
@every_model
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")  # the exporter's own
def test_exports_to_onnx(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    net, (x, _) = small(name).eval(), batch(name, 2)
    path = tmp_path / "net.onnx"
    torch.onnx.export(net, (x,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), net(x), rtol=1e-3, atol=1e-4)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model 'googlnet'.*Did you mean 'googlenet'"):
        models.create("googlnet")


def test_unknown_option():
    with pytest.raises(ValueError, match="'depth_multiplier'; use one of: shortcut, plain, "):
        models.create("resnet18", depth_multiplier=2)


def test_defaults_are_the_papers():
    with torch.device("meta"):
        assert models.create("resnet20").fc.out_features == 10
        assert models.create("vgg16").fc8.out_features == 1000


@pytest.mark.parametrize("name", ["lenet5_1998", "resnet18"])
def test_hub(name):
    root = str(Path(__file__).parents[2])
    net = torch.hub.load(root, name, source="local", num_classes=4, in_channels=1, **SMALL[name])
    assert type(net) is type(small(name))
    shapes = [[p.shape for p in n.parameters()] for n in (net, small(name))]
    assert shapes[0] == shapes[1]


@every_model
def test_features_are_what_the_classifier_reads(name):
    net, (x, _) = small(name).eval(), batch(name, 2)
    seen = []
    before = {
        "lenet5": "c5",
        "lenet5_1998": "c5",
        "alexnet": "pool5",
        "alexnet_one_column": "pool5",
        "alexnet_2014": "pool5",
        "googlenet": "inception5b",
        "googlenet_bn": "inception5b",
        "efficientnet_lite0": "stage9",
    }
    last = before.get(name) or ("block5" if "vgg" in name else net.stages[-1])
    net.get_submodule(last).register_forward_hook(lambda _m, _i, output: seen.append(output))
    with torch.no_grad():
        features = net.forward_features(x)
        scores = net(x)
    assert features.ndim == 4
    assert torch.equal(features, seen[0])
    assert torch.equal(features, seen[1])  # forward goes the same way
    assert scores.shape == (2, 4)
    with pytest.raises(ValueError, match=r"takes images|was built for images"):
        net.forward_features(x[0])


@every_model
def test_a_classifier_can_be_replaced(name):
    net, (x, _) = small(name).eval(), batch(name, 2)
    kept = {n: p.clone() for n, p in net.named_parameters()}
    with torch.no_grad():
        features = net.forward_features(x)
        net.reset_classifier(7)
        assert net(x).shape == (2, 7)
        assert torch.equal(net.forward_features(x), features)
        if "googlenet" in name:
            assert [scores.shape for scores in net.train()(x)] == [(2, 7)] * 3
    changed = [n for n, p in net.named_parameters() if p.shape != kept[n].shape]
    layers = {n.rsplit(".", 1)[0] for n in changed}
    assert len(layers) == {"lenet5_1998": 0, "googlenet": 3, "googlenet_bn": 3}.get(name, 1)
    for wrong in (0, -1, 2.5, "7", True):
        with pytest.raises(ValueError, match="num_classes must be a positive whole number"):
            net.reset_classifier(wrong)


def test_a_new_classifier_keeps_type_and_device():
    net = small("resnet20").to(torch.float64)
    net.reset_classifier(3)
    assert net.fc.weight.dtype == torch.float64
    with torch.device("meta"):
        net = models.create("vgg11", 4)
    net.reset_classifier(3)
    assert net.fc8.weight.device.type == "meta"


@every_model
def test_every_activation_is_a_layer_of_its_own_that_hooks_find(name):
    """Each call of ReLU that autograd records is made by a module, and no module makes two."""
    net, (x, _) = small(name).eval(), batch(name, 2)
    calls = []
    for module in net.modules():
        if isinstance(module, (nn.ReLU, nn.ReLU6)):
            assert not module.inplace
            module.register_forward_hook(lambda m, _i, _o: calls.append(m))
    nodes, seen = [net(x).grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            nodes += [following for following, _ in node.next_functions]
    recorded = [n for n in seen if n.name().startswith(("ReluBackward", "HardtanhBackward"))]
    assert len(calls) == len(set(calls)) == len(recorded)
    assert bool(calls) is ("lenet" not in name)


def test_copy_weights_refuses_another_network():
    with pytest.raises(RuntimeError, match="they belong to another network"):
        models.copy_weights(small("vgg11").state_dict(), small("resnet18"))


def test_cross_entropy_is_the_loss_without_auxiliary_classifiers():
    x, y = batch("resnet20")
    net = small("resnet20").eval()
    assert torch.equal(models.googlenet_loss(net(x), y), F.cross_entropy(net(x), y))
