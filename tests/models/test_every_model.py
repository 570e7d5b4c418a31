"""What holds for every network, by name."""

import functools
import hashlib
import http.server
import threading
import types
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
import torchvision
from helpers import SMALL

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


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A server with random ResNet-18 weights under a name like torchvision's."""
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18()
    (tmp_path / "www").mkdir()
    file = tmp_path / "www" / "part"
    torch.save(theirs.state_dict(), file)
    name = f"resnet18-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth"
    file.rename(tmp_path / "www" / name)
    handler = functools.partial(Quiet, directory=tmp_path / "www")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/{name}"
    monkeypatch.setattr(torchvision.models, "get_weight", lambda _: types.SimpleNamespace(url=url))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    yield types.SimpleNamespace(
        theirs=theirs, file=tmp_path / "www" / name, cached=tmp_path / "hub" / "checkpoints" / name
    )
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_published_weights_load_into_ours(published):
    ours = models.create("resnet18", weights="imagenet").eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), published.theirs.eval()(x))
    published.file.unlink()  # the second time they come from the cache
    models.create("resnet18", weights="imagenet")


@pytest.mark.slow
@pytest.mark.parametrize("quiet", [False, True])
def test_the_progress_of_a_download_can_be_hidden(published, monkeypatch, capfd, quiet):
    monkeypatch.setenv("TQDM_DISABLE", "1" if quiet else "")
    models.create("resnet18", weights="imagenet")
    assert ("100%" in capfd.readouterr().err) is not quiet


@pytest.mark.slow
def test_weights_of_another_number_of_classes_are_refused(published):
    with pytest.raises(RuntimeError, match=r"fc\.weight.*\(1000, 512\).*needs \(10, 512\)"):
        models.create("resnet18", num_classes=10, weights="imagenet")


@pytest.mark.slow
def test_altered_download_is_refused_and_not_kept(published):
    published.file.write_bytes(published.file.read_bytes()[:-100])
    with pytest.raises(RuntimeError, match="could not download"):
        models.create("resnet18", weights="imagenet")
    assert not list(published.cached.parent.iterdir())


@pytest.mark.slow
def test_damaged_cache_is_named(published):
    models.create("resnet18", weights="imagenet")
    published.cached.write_bytes(published.cached.read_bytes()[:-100])
    with pytest.raises(RuntimeError, match=rf"{published.cached.name} is damaged.*Delete it"):
        models.create("resnet18", weights="imagenet")


def test_offline_says_what_to_do(published, monkeypatch):
    dead = types.SimpleNamespace(url="http://127.0.0.1:1/resnet18-01234567.pth")
    monkeypatch.setattr(torchvision.models, "get_weight", lambda _: dead)
    with pytest.raises(RuntimeError, match=r"could not download http.*weights=None"):
        models.create("resnet18", weights="imagenet")


def test_real_addresses_are_https_and_carry_a_checksum():
    from cnnbook.models._common import _hash_prefix

    specs = map(models.model_spec, models.list_models())
    published = [weights for spec in specs for weights in spec.weights.values()]
    assert len(published) == 14  # AlexNet, eight VGGs, five ResNets
    for weights in published:
        url = torchvision.models.get_weight(weights.enum_name).url
        assert url.startswith("https://")
        assert len(_hash_prefix(Path(url))) == 8


def test_copy_weights_refuses_another_network():
    with pytest.raises(RuntimeError, match="they belong to another network"):
        models.copy_weights(small("vgg11").state_dict(), small("resnet18"))


def test_cross_entropy_is_the_loss_without_auxiliary_classifiers():
    x, y = batch("resnet20")
    net = small("resnet20").eval()
    assert torch.equal(models.googlenet_loss(net(x), y), F.cross_entropy(net(x), y))
