"""Wrong command lines and environments end with an exit code and a sentence."""

import random
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("command_lines.py")
TRAIN = ["train", "lenet5", "--data", "digits", "--device", "cpu", "--epochs", "1"]
SHORT = [*TRAIN, "--time-limit", "0.01", "--quiet"]

NUMBERS = (
    *("nan", "-1", "0", "1e308", "1e400", "1e30", "abc", "", "9999999999999999999999", "٣"),
    *("None", "\x1b[31m\na"),
)
NUMERIC = (
    *("--lr", "--size", "--batch-size", "--epochs", "--weight-decay", "--label-smoothing"),
    *("--ema-decay", "--target-accuracy", "--patience", "--seed", "--val-fraction"),
    "--checkpoint-every",
)
PATHS = ("", ".", "missing/net", "a" * 300, "/proc/nothing", "/dev/full", "\x1b[31m\na", "file/net")
OPTIONS = (
    *("width=1e400", "width=nan", "width=-1", "width=0", "width=1e9", "width=[1,2]", "width=", "="),
    *("width", "num_classes=3", "in_channels=0", "weights=nothing", "weights=imagenet"),
    *("activation=None", "activation=" + "a" * 10_000, "__class__=1", "width=" + "(" * 500),
)
TRANSFORMS = (
    *("rotate=nan", "rotate=1e400", "rotate=abc", "translate=2", "translate=-1", "scale=1,0"),
    *("scale=0,0", "scale=nan,nan", "shear=1e308", "crop=-1", "crop=1e9", "flip=2", "contrast=-1"),
    *("brightness=inf", "erase=9", "erase_area=0,9", "fill=abc", "interpolation=cubic", "self=1"),
)
LINES = (
    ["trian"],
    ["train"],
    ["train", ""],
    ["train", "\x1b[2J"],
    ["train", "lenet5", "resnet18"],
    ["train", "lenet5", "--data", ""],
    ["train", "lenet5", "--data", "imagefolder:"],
    ["train", "lenet5", "--data", "imagefolder:."],
    ["train", "lenet5", "--data", "imagefolder:/dev/null"],
    ["train", "lenet5", "--data", "imagefolder:/proc/self"],
    ["train", "lenet5", "--no-checkpoint", "--no-resume"],
    ["train", "lenet5", "--precision", "float8"],
    ["train", "lenet5", "--import", "nothing_of_this_name"],
    ["train", "lenet5", "--import", ""],
    ["train", "lenet5", "--import", "."],
    ["train", "lenet5", "--import", "broken"],
    ["train", "lenet5", "--import", "stops"],
    [*SHORT, "--device", "meta"],
    [*SHORT, "--device", "cuda:99"],
    [*TRAIN, "--time-limit", "nan"],
    [*TRAIN, "--time-limit", "0"],
    [*TRAIN, "--time-limit", "-1e308"],
    [*TRAIN, "--tensorboard", "file"],
    [*SHORT, "--patience", "1", "--val-fraction", "0"],
    ["evaluate"],
    ["evaluate", ""],
    ["evaluate", "."],
    ["evaluate", "file"],
    ["evaluate", "broken.py"],
    ["evaluate", "/dev/zero"],
    ["evaluate", "/proc/self/mem"],
    ["evaluate", "lenet5"],
    ["evaluate", "file", "--data", "nothing"],
    ["predict"],
    ["predict", "file", "file"],
    ["predict", "file", "missing.png"],
    ["predict", "missing", "missing.png"],
    ["predict", "lenet5", "file"],
    ["predict", "file", "file", "--top", "0"],
    ["predict", "file", "file", "--top", "-9999999999999999999999"],
    ["models", "nothing"],
    ["models", ""],
    ["models", "\x1b[31m"],
    ["models", "--jsn"],
    ["data", "fetch"],
    ["data", "fetch", ""],
    ["data", "fetch", "../../etc/passwd"],
    ["data", "verify", "imagefolder:missing"],
    ["data", "verify", "imagefolder:file"],
    ["data", "burn"],
    ["data", "list", "a", "b"],
    ["bench", "nothing"],
    ["bench", "throughput", "--model", "nothing"],
    ["bench", "throughput", "--batch", "0"],
    ["bench", "throughput", "--batch", "9999999999999999999999"],
    ["bench", "throughput", "--precision", "float8"],
    ["bench", "throughput", "--layout", "rows"],
    ["bench", "throughput", "--mode", "fast"],
    ["bench", "accuracy", "--time-limit", "nan"],
    ["bench", "accuracy", "--time-limit", "-1"],
    ["bench", "accuracy", "--data", "nothing"],
    ["bench", "--repeats", "0"],
    ["bench", "--repeats", "9999999999999999999999"],
    ["bench", "--seeds", "-1"],
    ["bench", "models", "--output", "file/b.json"],
    ["bench", "models", "--output", "."],
    ["bench", "models", "--output", "/dev/full"],
    ["bench", "models", "--plot", "figure.docx"],
    ["bench", "models", "--plot", "file/figure.png"],
    ["bench", "models", "--record", "file"],
    ["bench", "models", "--record", "file/folder"],
    ["experiment", "nothing"],
    ["experiment", ""],
    ["experiment", "depth", "--size", "huge"],
    ["experiment", "depth", "--size", "live", "--seeds", "0"],
    ["experiment", "depth", "--size", "live", "--seeds", "9999999999999999999999"],
    ["experiment", "depth", "--size", "live", "--jobs", "0"],
    ["experiment", "depth", "--size", "live", "--jobs", "-9"],
    ["experiment", "depth", "--size", "live", "--arm", "nothing"],
    ["experiment", "depth", "--size", "live", "--data", "nothing"],
    ["experiment", "depth", "--size", "live", "--plot", "figure.docx"],
    ["experiment", "depth", "--size", "live", "--plot", "file/figure.png"],
    ["experiment", "depth", "--size", "live", "--record", "file"],
    ["--import", "nothing_of_this_name", "models"],
    ["--verison"],
    ["-"],
    ["--"],
    ["@file"],
)
ENVIRONMENTS: tuple[tuple[list[str], dict[str, str | None]], ...] = tuple(
    (words, env)
    for words in (["data", "list"], ["train", "nothing"], ["data", "fetch", "fashion-mnist"])
    for env in (
        {"CNNBOOK_DATA": "/proc/nothing"},
        {"CNNBOOK_DATA": ""},
        {"CNNBOOK_DATA": "file"},
        {"CNNBOOK_DATA": "\x1b[31m"},
        {"CNNBOOK_PRESET": "fast"},
        {"HOME": None, "CNNBOOK_DATA": None},
        {"HOME": "/proc/nothing"},
        {"HOME": "file"},
        {"COLUMNS": "abc"},
        {"COLUMNS": "1"},
        {"COLUMNS": "-5"},
        {"LC_ALL": "C"},
        {"TERM": "dumb"},
        {"TMPDIR": "/proc/nothing"},
        {"WORLD_SIZE": "2"},
        {"WORLD_SIZE": "abc", "RANK": "0"},
    )
)
FILES = {
    "file": "no network",
    "broken.py": "import cnnbook\n1 / 0\n",
    "stops.py": "raise SystemExit(3)\n",
}


def every_case() -> list[dict[str, Any]]:
    """Return all command lines, and those that a whole option makes wrong."""
    words: list[list[str]] = [list(line) for line in LINES]
    words += [[*SHORT, f"{option}={value}"] for option in NUMERIC for value in NUMBERS]
    words += [[*SHORT, "--option", option] for option in OPTIONS]
    words += [["train", "vgg11", *SHORT[2:], "--option", option] for option in OPTIONS]
    words += [[*SHORT, "--augment", transform] for transform in TRANSFORMS]
    words += [[*SHORT, "--checkpoint", path] for path in PATHS]
    words += [[*SHORT, "--tensorboard", path] for path in PATHS[2:]]
    cases = [{"words": line, "files": FILES, "env": {}} for line in words]
    return cases + [{"words": w, "files": FILES, "env": env} for w, env in ENVIRONMENTS]


def harm(case: dict[str, Any], did: dict[str, Any]) -> str | None:
    """Return what went wrong, or None."""
    shown = " ".join(case["words"])[:120] + (f" with {case['env']}" if case["env"] else "")
    said = did["err"] + did["out"]
    if "code" not in did:
        return f"{shown!r}: did not end, or by a signal: {did}"
    if "Traceback (most recent call last)" in said:
        return f"{shown!r}: {said.strip().splitlines()[-1][:200]}"
    if did["code"] not in (0, 1, 2):
        return f"{shown!r}: exit code {did['code']}"
    if did["code"] and not did["err"].strip():
        return f"{shown!r}: failed without a word"
    if "\x1b" in said:
        return f"{shown!r}: an escape sequence reached the terminal"
    if did["code"] and set(did["left"]) - set(FILES):
        return f"{shown!r}: failed, and left {did['left']}"
    return None


def test_wrong_command_lines(faults, asking):
    cases = every_case()
    assert len(cases) >= 250
    random.Random(0).shuffle(cases)
    cases = cases[: faults.number("command lines and environments", quick=12, full=len(cases))]
    with asking(SCRIPT) as ask:
        for case in cases:
            faults.tried(harm(case, ask(**case)))
