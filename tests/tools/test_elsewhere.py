"""Links from signatures to other projects' pages."""

import re

import elsewhere
import pytest

ADDRESSES = elsewhere.listed()


@pytest.mark.parametrize("name", ADDRESSES)
def test_every_name_exists_in_the_installed_package(name):
    assert isinstance(elsewhere.named(name), type) or name.startswith("collections.abc.")


def test_a_name_has_one_page_of_its_own_project():
    for name, (address, project) in ADDRESSES.items():
        assert re.fullmatch(rf"https://\S+\.html#{re.escape(name)}", address)
        assert project == "Python" or name.startswith(project.lower())


def test_names_of_their_modules_lead_to_the_same_page():
    found = elsewhere.addresses()
    assert found["torch.nn.modules.module.Module"] == found["torch.nn.Module"]
    assert found["matplotlib.axes._axes.Axes"] == found["matplotlib.axes.Axes"]
