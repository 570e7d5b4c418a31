"""Analyses of a network on a GPU give what they give on the CPU; inputs may be on either."""

import copy

import pytest
import torch

from cnnbook import analysis, data, models, training

pytestmark = pytest.mark.gpu

CUDA = "cuda"


@pytest.fixture(scope="module")
def nets():
    torch.manual_seed(0)
    net = models.create("resnet20", num_classes=10, in_channels=1, width=0.25).eval()
    return {"cpu": net, CUDA: copy.deepcopy(net).to(CUDA)}


@pytest.fixture(scope="module")
def fashion():
    return data.load("fashion-mini", size=32)


@pytest.fixture(scope="module")
def x(fashion):
    return fashion[0].images[:6] / 255


def layer_of(net):
    return [name for name, module in net.named_modules() if isinstance(module, torch.nn.Conv2d)][9]


def numbers(value):
    """Return every number and tensor in a result, in order, on the CPU."""
    if isinstance(value, torch.Tensor):
        return [value.detach().float().cpu()]
    if isinstance(value, bool | str | type(None)):
        return []
    if isinstance(value, int | float):
        return [torch.tensor(float(value))]
    if isinstance(value, dict):
        return [n for each in value.values() for n in numbers(each)]
    if isinstance(value, list | tuple):
        return [n for each in value for n in numbers(each)]
    if hasattr(value, "items"):
        return numbers(dict(value.items()))
    return numbers(vars(value))


def y_like(x):
    return torch.arange(len(x), device=x.device) % 10


ANALYSES = {
    "summary": lambda net, x: list(analysis.summary(net, (1, 32, 32))),
    "summary of images": lambda net, x: list(analysis.summary(net, x)),
    "activations": lambda net, x: dict(analysis.activations(net, x).items()),
    "statistics": lambda net, x: list(analysis.activation_statistics(net, x)),
    "grad_cam": lambda net, x: analysis.grad_cam(net, x, layer_of(net)),
    "occlusion": lambda net, x: analysis.occlusion(net, x[:2], patch=8, stride=8),
    "gradient_norms": lambda net, x: analysis.gradient_norms(net, x, y_like(x)),
    "effective": lambda net, x: analysis.effective_receptive_field(net, x, layer_of(net)),
    "top_patches": lambda net, x: analysis.top_patches(net, x, layer_of(net), [0, 1], 2),
}


@pytest.mark.parametrize("images", ["cpu", CUDA])
@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_is_that_of_the_cpu(name, images, nets, x):
    expected = numbers(ANALYSES[name](nets["cpu"], x))
    found = numbers(ANALYSES[name](nets[CUDA], x.to(images)))
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert {p.device.type for p in nets[CUDA].parameters()} == {CUDA}


def test_labels_may_be_on_the_cpu(nets, x):
    found = analysis.gradient_norms(nets[CUDA], x.to(CUDA), torch.arange(6))
    expected = analysis.gradient_norms(nets["cpu"], x, torch.arange(6))
    assert found == pytest.approx(expected, rel=1e-2)


def test_receptive_fields_and_traces_are_those_of_the_cpu(nets):
    fields = [analysis.receptive_field(net, (1, 32, 32), layer_of(net)) for net in nets.values()]
    assert str(fields[0]) == str(fields[1])
    traces = [analysis.trace(net, (1, 32, 32)) for net in nets.values()]
    assert repr(traces[0]) == repr(traces[1])


@pytest.mark.parametrize("name", models.list_models())
def test_every_network_is_summarized_on_a_gpu(name):
    spec = models.model_spec(name)
    with torch.device("meta"):
        on_meta = models.create(name)
    rows = list(analysis.summary(on_meta, spec.input_shape))
    on_gpu = models.create(name).to(CUDA)
    assert list(analysis.summary(on_gpu, spec.input_shape)) == rows


def test_units_are_maximized_alike_and_stay_reproducible(nets):
    options = {"shape": (1, 32, 32), "steps": 8}
    found = [
        analysis.maximize_activation(nets[CUDA], layer_of(nets[CUDA]), [0, 3], **options)
        for _ in range(2)
    ]
    first, second = (numbers(each) for each in found)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2)


def test_probes_surfaces_and_confusion_run(nets, fashion):
    train, test = fashion[0][:200], fashion[1][:100]
    net = nets[CUDA]
    probes = [list(analysis.linear_probes(each, train, test)) for each in nets.values()]
    assert len(probes[0]) == len(probes[1])
    surfaces = [analysis.loss_surface(each, test, steps=3) for each in nets.values()]
    for a, b in zip(*(numbers(each) for each in surfaces), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2)
    evaluated = training.evaluate(net, test, device=CUDA)
    matrix = analysis.confusion_matrix(evaluated.labels, evaluated.predictions, train.classes)
    assert matrix.counts.sum() == 100


def test_results_draw_themselves(nets, x):
    pytest.importorskip("matplotlib")
    net, here = nets[CUDA], x.to(CUDA)
    assert analysis.activations(net, here).plot().alt
    assert analysis.grad_cam(net, here, layer_of(net)).plot().alt
    assert analysis.summary(net, here).plot().alt
