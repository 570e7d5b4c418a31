"""What the gallery shows of other libraries' networks, and of one trained on photographs."""

import pytest
import torch
from executed import ROOT, number, row, table

from cnnbook import analysis, data, models

GALLERY = ROOT / "chapters" / "reference" / "gallery.ipynb"


@pytest.mark.book
def test_networks_of_three_origins_side_by_side():
    found = {r["network"]: r for r in table(GALLERY, "network", "parameters")}
    resnet, convnext, by_hand = found.values()
    # ResNet-18, less 990 classes of 512 weights and a bias, less two colors of 64 filters of 7×7.
    assert resnet["parameters"] == f"{11_689_512 - 990 * 513 - 2 * 64 * 49:,}"
    # Two convolutions, each with batch normalization, and the classifier.
    assert by_hand["parameters"] == f"{32 * 10 + 64 + 64 * 289 + 2 * 64 + 10 * 4097:,}"
    macs = 32 * 9 * 32**2 + 64 * 32 * 9 * 16**2 + 64 * 8 * 8 * 10
    assert by_hand["MACs"] == f"{macs:,}"
    # 7 → 11 by pooling; four 3×3 at jump 4, then one at jump 4 and three at jump 8: 43, 99.
    assert (resnet["layer"], resnet["sees (pixels)"]) == ("layer2", "99")
    # 4; two 7×7 at jump 4: 52; a 2×2: 56; two 7×7 at jump 8: 152.
    assert (convnext["layer"], convnext["sees (pixels)"]) == ("stages.1", "152")
    # 3, by pooling 4; a 3×3 at jump 2: 8; by pooling 10.
    assert by_hand["sees (pixels)"] == "10"
    assert all(number(r["validation accuracy"]) > 50 for r in found.values())


@pytest.mark.book
def test_the_photograph_is_of_an_egyptian_cat():
    ranked = [row(GALLERY, "0", str(rank)) for rank in (1, 2, 3)]
    assert [r[2:4] for r in ranked] == [
        ("Egyptian cat", "285"),
        ("tiger cat", "282"),
        ("tabby", "281"),
    ]


@pytest.mark.slow
def test_both_eyes_stand_out_in_nine_maps():
    trained = models.create("efficientnet_lite0", weights="imagenet")
    weights = models.model_spec("efficientnet_lite0").weights["imagenet"]
    photo = weights.preprocessing(data.photo("cat"))[None]
    maps = analysis.activations(trained, photo, ["stage6"])["stage6"][0]
    centers = 16 * torch.arange(14.0) + 8  # of the maps' pixels in the picture
    y, x = torch.meshgrid(centers, centers, indexing="ij")
    eyes = [torch.hypot(x - 72, y - 85) < 32, torch.hypot(x - 181, y - 99) < 32]
    elsewhere = ~(eyes[0] | eyes[1])
    signs = dict.fromkeys((7, 75, 51, 18, 44, 81), 1) | dict.fromkeys((47, 82, 107), -1)
    for number_of_map, sign in signs.items():
        values = sign * maps[number_of_map]
        values = (values - values.mean()) / values.std()
        peaks = [values[eye].max() for eye in eyes]
        assert min(peaks) > values[elsewhere].quantile(0.95), number_of_map
        assert min(peaks) > 2, number_of_map
