"""A network trained on photographs looks at the cat."""

import pytest
import torch

from cnnbook import analysis, data, models

# In the photograph's middle square, as shares of its side from the top and the left.
EYES = {"left": (0.38, 0.325), "right": (0.445, 0.81)}


@pytest.fixture(scope="module")
def lens():
    net = models.create("efficientnet_lite0", weights="imagenet")
    preprocessing = models.model_spec("efficientnet_lite0").weights["imagenet"].preprocessing
    return net, preprocessing(data.photo("cat"))[None]


@pytest.mark.slow
def test_what_the_cat_is_called(lens):
    net, x = lens
    with torch.no_grad():
        scores = net.eval()(x)
    # Egyptian cat, tiger cat, tabby.
    assert scores[0].topk(3).indices.tolist() == [285, 282, 281]


@pytest.mark.slow
def test_block_10_responds_to_eyes(lens):
    """Counted from 0, as the weights do: the last block of stage 6, maps of 14×14."""
    net, x = lens
    maps = analysis.activations(net, x, ["stage6.2"])["stage6.2"][0]
    assert maps.shape == (112, 14, 14)
    centered = maps - maps.mean((1, 2), keepdim=True)
    standard = centered / centered.square().mean((1, 2), keepdim=True).sqrt()

    def near(eye, unit):
        row, column = (int(14 * share) for share in EYES[eye])
        return standard[unit, row - 1 : row + 2, column - 1 : column + 2]

    for unit in (7, 18, 44, 51, 75, 81):
        # Both eyes are more than two standard deviations above the map's mean, among its
        # brightest 2 %.
        for eye in EYES:
            peak = near(eye, unit).max()
            assert peak > 2.5, (unit, eye)
            assert (standard[unit] < peak).float().mean() > 0.98, (unit, eye)
            assert near(eye, unit).mean() > 1
    for unit in (47, 107):
        # Dark on both eyes: as far below.
        for eye in EYES:
            assert near(eye, unit).min() < -2.5
            assert near(eye, unit).mean() < -1


@pytest.mark.slow
def test_the_class_and_the_eyes_support_the_cat(lens):
    net, x = lens
    found = analysis.grad_cam(net, x, net.stage9, 285)
    assert found.maps.shape == (1, 224, 224)
    assert found.maps.max() > 0
    made = analysis.maximize_activation(
        net, net.fc, [285, 340], shape=(3, 64, 64), mean=0.498, std=0.502, steps=24
    )
    assert made.activation[-4:].mean(0).min() > made.activation[0].max()
