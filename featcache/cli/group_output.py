"""Scores of groups of utterances → tables and sentences on the terminal."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from featcache.evaluate.by_group import Grouping
from featcache.evaluate.gap import gap_sentence
from featcache.evaluate.scores import digits_of, heading_of
from featcache.report.tables import interval, mean_and_std, score_table
from featcache.terminal.console import Console, Table, print_line

log = logging.getLogger(__name__)

EXPLAINED = (
    "The p value of a gap is from a permutation test over speakers, for {}. Between speakers, the test exchanges the "
    "groups of speakers; within speakers, the groups of each speaker's utterances. It accounts for the choice of the "
    "largest gap. The interval of a gap is over {}."
)


def print_groupings(groupings: Sequence[Grouping]) -> None:
    """Print a table of scores for each label, and below it the largest gap and what was left out.

    Args:
        groupings: Groups of each label, see :func:`~featcache.evaluate.by_group.score_by`.
    """
    for grouping in groupings:
        for note in grouping.notes:
            log.warning("%s: %s", grouping.label, note)
        print_line()
        Console().print(_group_table(grouping))
        if grouping.gap is not None:
            print_line()
            print_line(gap_sentence(grouping.label, grouping.gap))
    if any(grouping.gap for grouping in groupings):
        print_line()
        several = any(found["num_seeds"] > 1 for grouping in groupings for found in grouping.groups.values())
        told = ("the mean over these seeds", "speakers and seeds") if several else ("this seed", "speakers")
        print_line(EXPLAINED.format(*told))


def _group_table(grouping: Grouping) -> Table:
    first = next(iter(grouping.groups.values()))
    names = [name for name in ("uar", "wa", "ccc", "rmse") if name in first]
    main, *others = names
    units = {found["bootstrap"]["unit"] for found in grouping.groups.values()}
    bounds = "95 % CI" if units == {"speakers"} else "95 % CI, utterances"
    headings = [heading_of(main), bounds, *map(heading_of, others)]
    table = score_table(grouping.label, "Speakers", "Utterances", *headings)
    for name, found in grouping.groups.items():
        cells = [_told(found, main), interval(found[main]["ci95"], digits_of(main))]
        cells += [_told(found, other) for other in others]
        table.add_row(name, str(found["num_speakers"] or "-"), str(found["num_utterances"]), *cells)
    return table


def _told(found: Mapping[str, Any], name: str) -> str:
    return mean_and_std(found[name]["mean"], found[name]["std"], digits_of(name))
