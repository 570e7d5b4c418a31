"""What is read as one stays on one line."""

import pytest
import spaces
from docutils import nodes

JOINED = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("its error is 0.95 %, while", "its error is 0.95_%, while"),
        ("0.9 (0.6 to 1.2) points", "0.9_(0.6_to_1.2) points"),
        ("2.1 % (1.9 % to\n2.3 %).", "2.1_%_(1.9_%_to_2.3_%)."),
        ("91.2 ± 0.3 %", "91.2_±_0.3_%"),
        ("−0.5 to −0.1 %", "−0.5_to_−0.1_%"),
        ("(5 s, 3.5 GB)", "(5_s, 3.5_GB)"),
        ("1.28 million photographs", "1.28_million photographs"),
        ("5 steps of 60,000 images", "5 steps of 60,000 images"),
        ("torch 2.12.1 s, H100 s, 3.5 GBs", "torch 2.12.1 s, H100 s, 3.5 GBs"),
        # Too long for one line of a phone: only the unit is joined.
        (
            "1,234,567.8 (1,234,567.1 to 1,234,568.2 s)",
            "1,234,567.8 (1,234,567.1 to 1,234,568.2_s)",
        ),
    ],
)
def test_numbers_stay_with_their_units_and_intervals(typed, shown):
    assert spaces.together(typed) == shown.replace("_", JOINED)


@pytest.mark.parametrize("kind", [nodes.literal, nodes.literal_block, nodes.math, nodes.raw])
def test_code_and_formulas_stay_as_they_are(kind):
    node = kind("", "2.1 %")
    paragraph = nodes.paragraph("", "", node)
    assert spaces.is_as_it_is(node)
    assert not spaces.is_as_it_is(paragraph)
