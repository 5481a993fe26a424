"""Check of a corpus → lines on the terminal."""

from featcache.checks.findings import KINDS
from featcache.cli.columns import print_fitting
from featcache.report.check_page import WrittenCheck, kind_rows
from featcache.terminal.console import print_line
from featcache.units import counted


def print_check(written: WrittenCheck) -> None:
    """Print the number of findings of each kind, and the paths of the page and the table."""
    rows = kind_rows(written.checked.findings)
    if rows:
        print_fitting(
            {
                "Finding": [KINDS[kind].title for kind, _, _ in rows],
                "Number": [str(number) for _, number, _ in rows],
                "Attention": ["yes" if attention else "-" for _, _, attention in rows],
            }
        )
        print_line()
    attention = sum(number for _, number, needed in rows if needed)
    checked = counted(len(written.checked.manifest), "utterance")
    print_line(f"{checked} checked: {counted(attention, 'finding') if attention else 'nothing'} to look at")
    print_line(str(written.table))
    print_line(str(written.page))
