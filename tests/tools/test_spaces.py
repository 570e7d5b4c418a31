"""What is read as one stays on one line."""

import pytest
import spaces
from docutils import nodes, utils

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


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("--val-fraction", None),
        ("-h", None),
        ("cnnbook.plots.activation_statistics()", "cnnbook.|plots.|activation_|statistics()"),
        ("data.load(&quot;fashion-mini&quot;)[0]", "data.|load(|&quot;fashion-mini&quot;)[0]"),
        ("cnnbook.analysis.", "cnnbook.|analysis.|"),  # before the name, in a signature
        ("train/CLASS/IMAGE.jpg", "train/|CLASS/|IMAGE.|jpg"),
        ("weights=&quot;imagenet&quot;", "weights=|&quot;imagenet&quot;"),
        ("__init__", "__init__"),
        ("60_000", "60_000"),
        ("0.25", "0.25"),
        ("(N,", "(N,"),
    ],
)
def test_options_stay_whole_and_long_names_break_after_a_part(code, shown):
    written = spaces.breaking(f'<code><span class="pre">{code}</span></code>')
    if shown is None:
        assert written == f'<code><span class="pre cnnbook-whole">{code}</span></code>'
        return
    expected = shown.replace("|", "<wbr>")
    assert written == f'<code><span class="pre">{expected}</span></code>'


def test_names_with_a_number_stay_whole_outside_headings_and_code():
    title = nodes.title("", "VGG-16 and more")
    text = "As VGG-16, ResNet-50's top-5 error, not pre-2012; see CIFAR-10"
    paragraph = nodes.paragraph("", text)
    literal = nodes.literal("", "VGG-16")
    document = utils.new_document("page")
    document += nodes.section("", title, paragraph, nodes.paragraph("", "", literal))
    spaces.KeepNames(document).run()
    whole = list(document.findall(nodes.inline))
    assert [node.astext() for node in whole] == ["VGG-16", "ResNet-50", "top-5", "CIFAR-10"]
    assert {node["classes"][0] for node in whole} == {"cnnbook-whole"}
    assert paragraph.astext() == text
    assert len(title) == len(literal) == 1
