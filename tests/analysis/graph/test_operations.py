"""Operations of one's own, and what the registry does where it knows nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook import analysis, plots
from cnnbook.analysis import OperationCall, Reach, operation, receptive_field
from cnnbook.analysis.graph import join, operations


@torch.library.custom_op("cnnbook_tests::blur", mutates_args=())
def blur(x: Tensor, size: int, stride: int = 1) -> Tensor:
    return F.avg_pool2d(x, size, stride)


@blur.register_fake
def _(x, size, stride=1):
    return torch.empty(F.avg_pool2d(x, size, stride).shape, device=x.device)


@torch.library.custom_op("cnnbook_tests::blend", mutates_args=())
def blend(a: Tensor, b: Tensor) -> Tensor:
    return (a + b) / 2


# With its signature in words: torch 2.6 does not read list[Tensor].
@torch.library.custom_op("cnnbook_tests::halves", mutates_args=(), schema="(Tensor x) -> Tensor[]")
def halves(x: Tensor) -> list[Tensor]:
    return [half.clone() for half in x.chunk(2, 3)]


# It mirrors, and has the name of one of torch's elementwise operations.
@torch.library.custom_op("cnnbook_tests::relu", mutates_args=())
def mirroring_relu(x: Tensor) -> Tensor:
    return x.flip(3).relu()


class Layer(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def after_a_convolution(function, *more):
    return nn.Sequential(nn.Conv2d(1, 2, 3), Layer(function), *more)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(operations, "_KNOWN", dict(operations._KNOWN))


def field(model, layer="1"):
    return receptive_field(model, (1, 20, 20), layer)


def test_an_operation_is_followed_as_soon_as_one_function_knows_it():
    net = after_a_convolution(lambda x: blur(x, 5, 2), nn.Conv2d(2, 1, 3))
    with pytest.raises(ValueError, match=r"about the operation 'cnnbook_tests::blur'; .* can add"):
        field(net)

    @operation("cnnbook_tests::blur")
    def follow_blur(call: OperationCall) -> Reach:
        assert call.name == "cnnbook_tests::blur"
        return call.x.windows(call.shape, kernel=call["size"], stride=call["stride"])

    same = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool2d(5, 2), nn.Conv2d(2, 1, 3))
    for layer in ("1", "2"):
        assert field(net, layer) == field(same, layer)
    assert field(net).size == (7, 7)


@pytest.mark.parametrize("role", ["pooling", "convolution", "fully connected"])
def test_its_role_is_its_color(role):
    net = after_a_convolution(lambda x: blur(x, 2, 2))

    def legend():
        texts = plots.architecture(net, (1, 20, 20)).axes[0].texts
        return {t.get_text() for t in texts} & {
            "convolution",
            "pooling",
            "fully connected",
            "other",
        }

    assert legend() == {"convolution", "other"}
    operation("cnnbook_tests::blur", role=role)(lambda call: call.x)
    assert legend() == {"convolution", role}


def test_a_view_is_not_drawn():
    net = after_a_convolution(lambda x: blend(x, x), nn.Conv2d(2, 1, 3))
    reshaping = after_a_convolution(lambda x: blur(x, 2, 2), nn.Conv2d(2, 1, 3))
    assert " 1 2×9×9" in plots.architecture(reshaping, (1, 20, 20)).alt
    operation("cnnbook_tests::blur", role="view")(lambda call: call.x)
    assert " 1 2×9×9" not in plots.architecture(reshaping, (1, 20, 20)).alt
    assert " 1 2×18×18" not in plots.architecture(net, (1, 20, 20)).alt  # like an activation


def test_an_operation_on_several_tensors():
    wide = nn.Conv2d(2, 2, 5, padding=2)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), Layer(lambda x: blend(x, wide(x))))

    @operation("cnnbook_tests::blend")
    def one_tensor_only(call):
        return call.x

    with pytest.raises(ValueError, match="blend' reads several tensors that depend on the image"):
        field(net)

    @operation("cnnbook_tests::blend")
    def follow_blend(call):
        assert call.reach("a") in call.inputs
        return join(call.inputs, call.shape)

    assert field(net).size == (7, 7)


def test_an_operation_with_several_results():
    net = after_a_convolution(lambda x: halves(x)[1])

    @operation("cnnbook_tests::halves")
    def follow_halves(call):
        return [call.x.keep(3, 9 * i, 1, shape[3]) for i, shape in enumerate(call.shapes)]

    assert field(net).start == (0, 9)
    assert field(net).positions == (18, 9)

    operation("cnnbook_tests::halves")(lambda call: call.x.keep(3, 0, 1, 9))
    with pytest.raises(ValueError, match="a second result of an operation"):
        field(net)


def test_a_result_that_does_not_depend_on_the_image():
    net = after_a_convolution(lambda x: blur(x, 5))
    operation("cnnbook_tests::blur")(lambda call: None)
    with pytest.raises(ValueError, match="'1' does not depend on the image"):
        field(net)


def test_another_librarys_operation_is_not_taken_for_torchs():
    with pytest.raises(ValueError, match=r"nothing is known about .*'cnnbook_tests::relu'"):
        field(after_a_convolution(mirroring_relu))


def test_mistakes_in_a_function_give_no_number():
    net = after_a_convolution(lambda x: blur(x, 5))
    operation("cnnbook_tests::blur")(lambda call: call.x)
    with pytest.raises(
        ValueError, match=r"returns the shape \(1, 2, 14, 14\), .* \(1, 2, 18, 18\)"
    ):
        field(net)
    operation("cnnbook_tests::blur")(lambda call: call.x.windows(call.shape, call["kernel"]))
    with pytest.raises(ValueError, match=r"unknown argument of cnnbook_tests::blur 'kernel'"):
        field(net)
    assert analysis.summary(net, (1, 20, 20))[1]["receptive_field"] is None


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (lambda: operation(), "name at least one operation"),
        (lambda: operation("add.Tensor"), "'add.Tensor' as 'add'"),
        (lambda: operation("my.sharpen"), r"colons .* 'my\.sharpen' as 'my::sharpen'"),
        (lambda: operation("my::sharpen.default"), "'my::sharpen.default' as 'my::sharpen'"),
        (lambda: operation("add", role="pool"), "unknown role 'pool'.*Did you mean 'pooling'"),
    ],
)
def test_errors_of_the_decorator(register, message):
    with pytest.raises(ValueError, match=message):
        register()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda call: call.x, r"strings, as in operation\('mylib::blur'\), got <function"),
        (torch.ops.cnnbook_tests.blur, r"operation\('cnnbook_tests::blur'\), got torch\.ops\."),
        (torch.ops.cnnbook_tests.blur.default, r"operation\('cnnbook_tests::blur'\), got"),
    ],
)
def test_names_are_strings(given, message):
    with pytest.raises(TypeError, match=message):
        operation(given)


def test_an_error_in_ones_own_function_is_shown():
    net = after_a_convolution(lambda x: blur(x, 5))

    @operation("cnnbook_tests::blur")
    def fails(call):
        raise ZeroDivisionError("no size")

    with pytest.raises(
        ValueError,
        match=r"function given to analysis\.operation for 'cnnbook_tests::blur' failed: "
        r"ZeroDivisionError: no size",
    ) as caught:
        field(net)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("wrong", [(1, 2, 14, 14), 7, [None]])
def test_something_else_than_a_reach_is_shown(wrong):
    operation("cnnbook_tests::blur")(lambda call: wrong)
    with pytest.raises(ValueError, match=r"'cnnbook_tests::blur' returned .*; return a Reach"):
        field(after_a_convolution(lambda x: blur(x, 5)))


@torch.library.custom_op("cnnbook_tests::smooth", mutates_args=())
def smooth(x: Tensor, stride: int) -> Tensor:
    return F.avg_pool2d(x, 3, stride, padding=1)


@pytest.mark.parametrize(
    ("stride", "given", "forgotten"), [(1, {}, "padding="), (2, {"padding": 1}, "stride=")]
)
def test_a_forgotten_setting_gives_no_number(stride, given, forgotten):
    net = after_a_convolution(lambda x: smooth(x, stride))
    operation("cnnbook_tests::smooth")(lambda call: call.x.windows(call.shape, 3, **given))
    with pytest.raises(ValueError, match=f"cannot be followed: .* positions .*{forgotten}"):
        field(net)
    whole = {"stride": stride, "padding": 1}
    operation("cnnbook_tests::smooth")(lambda call: call.x.windows(call.shape, 3, **whole))
    assert field(net).size == (5, 5)


class Sample(nn.Module):
    """Reads pixels where a grid says."""

    def forward(self, x):
        n, _, h, w = x.shape
        return F.grid_sample(x, torch.zeros(n, h, w, 2), align_corners=False)


def test_operations_that_read_by_value_are_not_said_to_be_addable():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), Sample())
    with pytest.raises(ValueError, match=r"'grid_sampler_2d' reads depends on values$"):
        field(net)


def test_an_operation_of_torch_can_be_added():
    net = after_a_convolution(lambda x: torch.fft.rfft(x).abs())
    with pytest.raises(ValueError, match=r"'_fft_r2c'; .* can add it"):
        field(net)
    operation("_fft_r2c")(lambda call: call.x.with_length(3, call.shape[3]))
    assert (field(net).size, field(net).jump) == ((3, 20), (1, 0))


def test_the_multiply_adds_of_another_librarys_operation():
    def macs(function):
        return analysis.trace(after_a_convolution(function), (1, 20, 20)).calls[0].macs

    conv = 2 * 9 * 18 * 18
    assert macs(lambda x: blur(x, 5)) == conv  # one tensor: no products
    assert macs(lambda x: blend(x, x)) is None  # two: perhaps
    operation("cnnbook_tests::blend", macs=lambda call: call["a"].numel())(
        lambda call: join(call.inputs, call.shape)
    )
    assert macs(lambda x: blend(x, x)) == conv + 2 * 18 * 18


def test_one_name_for_all_overloads_and_for_the_form_in_place():
    def follow(call):
        return call.x

    assert operation("aten::erfinv_", "cnnbook_tests::blur")(follow) is follow
    assert operations._KNOWN["erfinv"] == operations._KNOWN["cnnbook_tests::blur"]
    assert operations._KNOWN["erfinv"].follow is follow
    assert operations.name_of(torch.ops.aten.add_.Tensor) == "add"
    assert operations.name_of(torch.ops.cnnbook_tests.blur.default) == "cnnbook_tests::blur"


def test_every_registered_name_is_one_of_torchs():
    ours = [name for name in operations._KNOWN if "::" not in name]  # others' have a namespace
    assert len(ours) > 60
    assert [name for name in ours if not hasattr(torch.ops.aten, name)] == []


def test_the_larger_of_two_tensors_is_elementwise():
    # torch.max is a reduction with one tensor, and this with two.
    wide = nn.Conv2d(2, 2, 5, padding=2)
    assert field(after_a_convolution(lambda x: torch.max(x, wide(x)))).size == (7, 7)
    assert field(after_a_convolution(lambda x: x.max(3, keepdim=True).values)).size == (3, 20)


def between(a, b, **options):
    """Return the multiply–adds of distances between rows of three numbers."""
    points = torch.zeros(1, b, 3)
    net = Layer(lambda x: torch.cdist(x[0], points, **options))
    return analysis.trace(net, (1, a, 3)).calls[0].macs


def test_distances_count_as_a_product_of_matrices_however_torch_computes_them():
    assert between(4, 5) == between(4, 5, compute_mode="use_mm_for_euclid_dist") == 4 * 5 * 3
    assert between(30, 40) == 30 * 40 * 3  # by a product
    assert between(4, 5, p=1) == 0


def test_products_of_complex_numbers_count_as_three():
    weight = torch.zeros(7, 4, dtype=torch.complex64)
    shape = (4, 3, 3)

    def macs(function):
        net = Layer(lambda x: function(x.to(torch.complex64)).abs())
        return analysis.trace(net, shape).calls[0].macs

    for function in (
        lambda x: F.conv2d(x, weight[..., None, None]),
        lambda x: weight @ x.flatten(2)[0],
        lambda x: torch.einsum("nchw,oc->nohw", x, weight),
        lambda x: torch.stack([weight @ column for column in x.flatten(2)[0].T]),
    ):
        assert macs(function) == 3 * 7 * 4 * 9
