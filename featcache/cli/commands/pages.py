"""Corpus or runs → pages to look around in."""

from typing import Any

from featcache.cli import options
from featcache.cli.exit_codes import end
from featcache.cli.from_settings import command_of
from featcache.settings.corpus_checks import CheckSettings
from featcache.settings.reports import ReportSettings


@command_of(CheckSettings)
def check(given: dict[str, Any], corpus: options.CorpusToCheck = None) -> None:
    """Look for problems in a corpus before hours are spent on it.

    Every file is decoded once. The page shows missing, unreadable and superfluous files, identical audio, silence,
    clipping, unusual durations, labels and speakers, with figures. findings.csv lists all findings. The command ends
    with exit code 3 if something needs attention.
    """
    from featcache.cli.check_output import print_check
    from featcache.report.check_page import write_check

    written = write_check(corpus, **given)
    print_check(written)
    end(interrupted=False, num_failures=sum(one.needs_attention for one in written.checked.findings))


@command_of(ReportSettings)
def report(given: dict[str, Any], corpus: options.ReportedCorpus = None) -> None:
    """Write a page over all runs of a corpus, down to utterances that can be played.

    The page needs no network. It has a table of all runs, plots of chosen runs, and a link to the page of each run,
    with its speakers, groups and utterances. Run folders are only read.
    """
    from featcache.report.run_pages import write_pages
    from featcache.terminal.console import print_line
    from featcache.units import counted, format_bytes

    written = write_pages(corpus, **given)
    for note in written.notes:
        print_line(note)
    sizes = f"{format_bytes(written.page_bytes)}; with the pages of the runs {format_bytes(written.total_bytes)}"
    print_line(f"{counted(written.num_runs, 'run')}, {sizes}")
    print_line()
    print_line(str(written.path))
