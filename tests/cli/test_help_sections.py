"""The help page of a command with many options has headings; that of a command with few options has none."""

import re

from typer.testing import CliRunner

from featcache.cli import app as cli
from featcache.settings.finetunings import NOT_IN_FINETUNING


def options_by_heading(command):
    """Return heading → options of a help page."""
    found, options = {}, []  # the options that the introduction mentions have no heading
    for line in CliRunner().invoke(cli.app, [command, "--help"]).output.splitlines():
        if heading := re.match(r"([A-Z][a-z ]+):$", line):
            options = found.setdefault(heading[1], [])
        elif option := re.match(r"  (--[a-z-]+)", line):
            options.append(option[1])
    return found


def test_the_options_of_fit_stand_under_the_heading_of_their_subject():
    found = options_by_heading("fit")
    first, *_, last = found
    assert (first, last) == ("Head and normalisation", "Options")
    assert {"--learning-rate", "--optimizer", "--schedule", "--stop-on"} <= set(found["Training steps"])
    assert {"--loss", "--class-weights", "--also"} == set(found["Loss"])
    assert {"--corpus", "--final", "--resume", "--help"} <= set(found["Options"])
    options = [one for part in found.values() for one in part]
    assert len(options) == len(set(options))


def test_the_options_of_finetune_include_those_of_fit_that_it_can_use():
    found, of_fit = options_by_heading("finetune"), options_by_heading("fit")
    assert {"--from-layer", "--blocks-learning-rate", "--accumulate"} <= set(found["Blocks of the model"])
    options, usual = ({one for part in page.values() for one in part} for page in (found, of_fit))
    assert {f"--{name.replace('_', '-')}" for name in NOT_IN_FINETUNING} == usual - options


def test_a_short_help_page_has_no_further_headings():
    assert list(options_by_heading("probe")) == ["Arguments", "Options"]
