"""What the package's page on training shows can be run as printed."""

import re
from pathlib import Path

from cnnbook import training

PAGE = Path(__file__).parents[2] / "chapters/reference/package/training.md"


def test_tensors_of_ones_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    section = PAGE.read_text().partition("## Tensors of your own")[2]
    blocks = re.findall(r"```python\n(.*?)```", section, flags=re.S)
    assert len(blocks) == 3
    names = {}
    for block in blocks:
        exec(block, names)
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["image", "rank", "class"]
    assert len([row for row in rows if re.match(r" +\d +1 +(cat|dog) ", row)]) == 5
    assert isinstance(names["trained"], training.TrainedModel)
    assert len(names["history"].step_loss) == 4
