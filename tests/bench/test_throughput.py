"""What the benchmark of throughput trains. How fast it is is not tested."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnbook import bench, models, settings
from cnnbook.bench import steps, throughput
from cnnbook.models import registry


def linear(num_classes=3, in_channels=2):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 64, num_classes))


@pytest.fixture
def toy(monkeypatch):
    """Register networks of one's own, with and without a twin, and note their losses."""
    noted = []

    def loss(output, labels):
        noted.append((output.shape, labels.tolist()))
        return F.multi_margin_loss(output, labels)

    monkeypatch.setattr(registry, "_MODELS", dict(registry._MODELS))
    options = {"paper": "after nobody", "input_shape": (2, 8, 8), "num_classes": 3, "loss": loss}
    models.register_model("toy", models.ModelSpec(linear, **options))
    twin = models.TorchvisionTwin(linear)
    models.register_model("toy_with_twin", models.ModelSpec(linear, **options, torchvision=twin))
    return noted


@pytest.mark.parametrize("part", ["throughput", "models"])
def test_a_network_from_outside_is_timed_by_name(part, toy):
    result = bench.run([part], networks=["toy"], quick=True, repeats=1)
    assert {row.contender for row in result.rows} == {bench.CNNBOOK}
    assert {row.task.partition(",")[0] for row in result.rows} == {"toy"}
    assert all(row.value > 0 and row.ratio == 1 for row in result.rows)
    assert set(map(str, toy)) == {"(torch.Size([1, 3]), [0])"}  # its loss, its images, its classes
    pair = bench.run([part], networks=["toy_with_twin"], quick=True, repeats=1).rows
    assert [row.contender for row in pair] == [bench.CNNBOOK, "torchvision"] * (len(pair) // 2)


def test_every_variant_has_rows_of_its_own(toy, monkeypatch):
    monkeypatch.setattr(throughput, "_why_no_compile", lambda device: "no compiler")
    rows = bench.run(["throughput"], networks=["toy"], repeats=1).rows
    variants = [tuple(row.more[n] for n in ("precision", "layout", "mode")) for row in rows]
    assert variants == [
        ("float32", "contiguous", "eager"),
        ("float32", "channels_last", "eager"),
        ("bfloat16", "contiguous", "eager"),
        ("bfloat16", "channels_last", "eager"),
    ]
    assert {row.more["network"] for row in rows} == {"toy"}
    for row in rows:
        size = row.more["batch_size"]
        assert row.task == f"toy, batch {size}, {', '.join(variants[rows.index(row)])}"
        assert toy[0][1] == [n % 3 for n in range(size)]


def test_filters_choose_what_is_run(toy):
    filters = {"precisions": ["bfloat16"], "layouts": ["channels_last"], "modes": ["eager"]}
    rows = bench.run(
        ["throughput"], networks=["toy", "toy_with_twin"], repeats=1, batch_size=5, **filters
    ).rows
    assert [(row.task, row.contender) for row in rows] == [
        ("toy, batch 5, bfloat16, channels_last, eager", "cnnbook"),
        ("toy_with_twin, batch 5, bfloat16, channels_last, eager", "cnnbook"),
        ("toy_with_twin, batch 5, bfloat16, channels_last, eager", "torchvision"),
    ]
    assert {row.more["batch_size"] for row in rows} == {5}
    assert toy[0] == (torch.Size([5, 3]), [0, 1, 2, 0, 1])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"precisions": ["bfloat61"]}, "Did you mean 'bfloat16'"),
        ({"layouts": ["channel_last"]}, "Did you mean 'channels_last'"),
        ({"modes": ["eagre"]}, "Did you mean 'eager'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_a_wrong_filter_is_refused_before_the_first_is_timed(option, said, monkeypatch):
    monkeypatch.setattr(throughput, "with_twin", None)
    with pytest.raises(ValueError, match=said):
        bench.run(["throughput"], networks=["resnet18"], **option)


def test_a_mode_that_does_not_work_here_is_refused(monkeypatch):
    monkeypatch.setattr(settings, "device", lambda wanted=None: torch.device("cpu"))
    monkeypatch.setattr(throughput, "_why_no_compile", lambda device: "no compiler")
    with pytest.raises(ValueError, match="mode 'graph' needs CUDA, and the device is cpu"):
        bench.run(["throughput"], networks=["resnet18"], modes=["graph"])
    with pytest.raises(ValueError, match=r"mode 'compile' does not work here \(no compiler\)"):
        bench.run(["throughput"], networks=["resnet18"], modes=["eager", "compile"])


def test_a_step_that_cannot_be_captured_is_left_out_with_the_reason(toy, monkeypatch, capsys):
    def capture(step):
        raise steps.CaptureError("no CUDA graph of this step: it waits")

    monkeypatch.setattr(throughput, "capture", capture)
    monkeypatch.setattr(throughput, "possible_modes", lambda modes, device: modes)
    modes = {"modes": ["graph", "eager"], "layouts": ["contiguous"], "precisions": ["float32"]}
    rows = bench.run(["throughput"], networks=["toy"], repeats=1, **modes).rows
    assert [row.more["mode"] for row in rows] == ["eager"]
    left_out = "toy, float32, contiguous, graph: left out, no CUDA graph of this step: it waits"
    assert left_out in capsys.readouterr().err


@pytest.mark.parametrize("part", ["throughput", "models"])
def test_a_misspelled_network_is_refused_before_the_first_is_timed(part, monkeypatch):
    monkeypatch.setattr(throughput, "with_twin", None)
    monkeypatch.setattr("cnnbook.bench.comparisons.with_twin", None)
    with pytest.raises(ValueError, match="Did you mean 'resnet18'"):
        bench.run([part], networks=["vgg11", "resnet81"], quick=True, repeats=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", throughput.NETWORKS)
def test_both_train_the_same_network(name):
    with torch.device("meta"):
        nets = throughput.with_twin(name)
    has_twin = models.model_spec(name).torchvision is not None
    assert list(nets) == [bench.CNNBOOK, "torchvision"][: 1 + has_twin]
    first, *others = ([p.shape for p in net.parameters()] for net in nets.values())
    assert all(shapes == first for shapes in others)


def test_a_batch_that_does_not_fit_is_halved(toy, monkeypatch):
    tried = []

    def counted(net, spec, batch_size, *_):
        def run():
            tried.append(batch_size)
            if batch_size > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")

        return run

    monkeypatch.setattr(throughput, "_steps", counted)
    variant = {"precision": "float32", "layout": "contiguous", "mode": "eager"}
    batch_size, seconds = throughput._race_what_fits("toy_with_twin", 8, 1, 1, **variant)
    assert batch_size == 2
    assert tried == [8, 4, 2, 2, 2, 2]  # two networks, to warm up and once more
    assert {name: len(times) for name, times in seconds.items()} == {"cnnbook": 1, "torchvision": 1}


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("out of memory"), RuntimeError("bug")])
def test_what_halving_cannot_mend_is_raised(error, monkeypatch):
    def race(name, batch_size, *_, **variant):
        assert batch_size == 1
        raise error

    monkeypatch.setattr(throughput, "_race", race)
    with pytest.raises(type(error), match=str(error)):
        throughput._race_what_fits("toy", 1, 1, 1)


@pytest.mark.parametrize("layout", throughput.LAYOUTS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_is_one_of_stochastic_gradient_descent(layout, precision):
    spec = models.ModelSpec(None, "after nobody", (3, 32, 32), 10)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 16, stride=16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    )
    device = settings.device()
    net.to(device)
    before = [p.detach().clone() for p in net.parameters()]
    torch.manual_seed(1)
    x, y = torch.randn(2, 3, 32, 32, device=device), torch.arange(2, device=device)
    gradients = torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))
    torch.manual_seed(1)
    throughput._steps(net, spec, 2, 1, precision, layout, "eager")()
    assert net[0].weight.is_contiguous(memory_format=throughput.LAYOUTS[layout])
    rough = 0.02 if precision == "bfloat16" else 1e-3
    for p, old, gradient in zip(net.parameters(), before, gradients, strict=True):
        assert gradient.abs().max() > 0.1
        torch.testing.assert_close((old - p.detach()) / 1e-4, gradient, rtol=rough, atol=rough)
