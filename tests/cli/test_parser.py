"""What can be typed, and what --help says."""

import argparse
import dataclasses
import re
import shlex
import subprocess
import sys

import pytest

import cnnbook
from cnnbook import bench, data
from cnnbook.cli import build_parser, main
from cnnbook.cli.parser import TRANSFORMS


def commands() -> dict[str, argparse.ArgumentParser]:
    (choices,) = (a.choices for a in build_parser()._actions if a.dest == "command")
    return choices


def test_help_loads_no_torch():
    code = """
import sys
from cnnbook.cli import main
try:
    main(["train", "--help"])
except SystemExit as end:
    print(end.code, "torch" in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "0 False"
    assert "--tensorboard" in out.stdout


@pytest.mark.parametrize("name", ["", *commands()])
def test_examples_can_be_typed(name):
    epilog = commands()[name].epilog if name else build_parser().epilog
    lines = re.findall(r"^  (?:torchrun \\S+ -m )?cnnbook (.*)$", epilog, flags=re.M)
    assert lines
    for line in lines:
        chosen = build_parser().parse_args(shlex.split(line))
        assert name in ("", chosen.command)


@pytest.mark.parametrize("name", commands())
def test_every_option_is_explained(name):
    parser = commands()[name]
    assert parser.description.endswith(".") or name == "bench"
    for action in parser._actions:
        assert action.help, action.dest
        if action.option_strings and action.nargs != 0:  # it takes a value: which?
            assert action.metavar or isinstance(action, argparse.BooleanOptionalAction), action.dest
        if action.default not in (None, False, [], argparse.SUPPRESS):
            assert "%(default)s" in action.help, action.dest


@pytest.mark.parametrize("name", ["", *commands()])
def test_help_fits_a_terminal(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    with pytest.raises(SystemExit) as end:
        build_parser().parse_args([name, "--help"] if name else ["--help"])
    assert end.value.code == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 90


def test_help_of_bench_lists_its_parts():
    listed = re.findall(r"^  (\w+) {2,}\w", commands()["bench"].description, flags=re.M)
    assert listed == list(bench.PARTS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train lenet5 --batchsize 8", "--batchsize 8; did you mean --batch-size?"),
        ("train lenet5 --width 0.5", "options of the network: --option width=0.5"),
        ("train lenet5 --rotate=10", "transforms of the images: --augment rotate=10"),
        ("bench augment --widht 3", "unrecognized arguments: --widht 3"),
        ("train lenet5 --checkpoint a --no-checkpoint", "not allowed with argument --checkpoint"),
        ("train lenet5 --no-checkpoint --no-resume", "not allowed with argument --no-checkpoint"),
    ],
)
def test_what_was_not_understood_is_told_by_its_command(words, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"usage: cnnbook {words.split()[0]} ")
    assert message in err


def test_modules_are_imported_before_or_after_the_command():
    words = ["--import", "a", "models", "--import", "b", "--import", "c"]
    assert build_parser().parse_args(words).modules == ["a", "b", "c"]
    assert build_parser().parse_args(words).modules == ["a", "b", "c"]  # no default has grown
    assert build_parser().parse_args(["models"]).modules == []


def test_version_and_help_need_no_command(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"cnnbook {cnnbook.__version__}\n"
    assert main([]) == 0
    assert capsys.readouterr().out == build_parser().format_help()


def test_help_names_the_random_transforms():
    assert list(TRANSFORMS) == [field.name for field in dataclasses.fields(data.Augment)]
