"""Predictions × labels of utterances → scores of each group, and the largest gap between the groups of each label.

Groups are compared on the same classes: UAR over six classes and UAR over seven are different scores. If a class is
missing in a group that is compared, no group of this label is scored on it, and a note says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from featcache.errors import PredictionsError, listed
from featcache.evaluate.gap import Gap, largest_gap
from featcache.evaluate.holm import holm
from featcache.evaluate.intervals import FEWEST
from featcache.evaluate.predictions import Predictions
from featcache.evaluate.scoring import score
from featcache.units import counted

if TYPE_CHECKING:
    import pandas as pd

# A label with more values is a number, a text or a name, not a group.
MOST_GROUPS = 50
_GROUP = " group"  # a name that no column of a file has, because names have no spaces around them


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """Scores of the groups of one label.

    Attributes:
        label: Name of the label.
        groups: Name of a group → its scores, as in ``metrics.json``, in sorted order.
        gap: The largest gap between groups; None if groups cannot be compared.
        notes: Omitted utterances and scores, with the reason; each is one sentence without a full stop.
    """

    label: str
    groups: Mapping[str, Mapping[str, Any]]
    gap: Gap | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the grouping as values that can be written as JSON."""
        gap = None if self.gap is None else asdict(self.gap)
        return {"groups": dict(self.groups), "gap": gap, "notes": list(self.notes)}


def score_by(predictions: Predictions, labels: Mapping[str, Mapping[str, str]]) -> list[Grouping]:
    """Score groups of utterances by themselves, and compare them.

    Args:
        predictions: Checked predictions.
        labels: Name of a label → utterance id → group. Utterances without a group, or with an empty one, are left out.

    Returns:
        One grouping per label; p values have Holm's correction for the labels that could be tested.

    Raises:
        PredictionsError: no utterance has a group, or there are too many groups.
    """
    found = [_grouping(predictions, label, of_utterance) for label, of_utterance in labels.items()]
    tested = [one.gap for one in found if one.gap is not None]
    corrected = iter(holm([gap.p for gap in tested]))
    return [
        one
        if one.gap is None
        else replace(one, gap=replace(one.gap, p_holm=next(corrected), num_groupings=len(tested)))
        for one in found
    ]


def _grouping(predictions: Predictions, label: str, of_utterance: Mapping[str, str]) -> Grouping:
    group = predictions.table["utterance_id"].map(of_utterance).fillna("").astype(str)
    table = predictions.table.assign(**{_GROUP: group})[group != ""]
    ids = predictions.table["utterance_id"]
    missing = ids.nunique() - table["utterance_id"].nunique()
    if table.empty:
        raise PredictionsError(f"no utterance of the predictions has a value of {label}; check the ids and the label")
    names = sorted(table[_GROUP].unique())
    if len(names) > MOST_GROUPS:
        raise PredictionsError(
            f"{label} has {len(names)} values such as {names[0]!r}, expected at most {MOST_GROUPS} groups; choose a "
            "label with fewer values"
        )
    notes = [f"{missing} of {ids.nunique()} utterances have no {label} and are left out"] if missing else []
    compared, told = _compared(table, names)
    notes += told
    table, told = _on_same_classes(table, compared, predictions.classes)
    notes += told
    groups = {}
    for name in names:
        rows = table[table[_GROUP] == name]
        if rows.empty:
            notes.append(f"{name} has no utterances of the other classes and is not scored")
            continue
        groups[name] = score(replace(predictions, table=rows.drop(columns=_GROUP)))
    gap = _gap(replace(predictions, table=table[table[_GROUP].isin(compared)]), compared)
    if isinstance(gap, str):
        notes.append(gap)
    return Grouping(label=label, groups=groups, gap=gap if isinstance(gap, Gap) else None, notes=tuple(notes))


def _compared(table: "pd.DataFrame", names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the groups with enough speakers to be compared, and notes about the others."""
    if (table["speaker_id"] == "").any():
        return [], ["not tested: not all speakers are known, and a test needs speakers"]
    speakers = {name: table.loc[table[_GROUP] == name, "speaker_id"].nunique() for name in names}
    notes = [
        f"{name} has only {counted(number, 'speaker')}: no interval over speakers, and not compared (at least {FEWEST} "
        "are needed)"
        for name, number in speakers.items()
        if number < FEWEST
    ]
    compared = [name for name, number in speakers.items() if number >= FEWEST]
    if len(compared) < 2:
        notes.append(f"not tested: {counted(len(compared), 'group')} with at least {FEWEST} speakers")
        return [], notes
    return compared, notes


def _on_same_classes(
    table: "pd.DataFrame", compared: list[str], classes: Sequence[str]
) -> tuple["pd.DataFrame", list[str]]:
    """Return the utterances of the classes that all compared groups have, and notes.

    If there are fewer than two such classes, all utterances stay, and ``compared`` is emptied.
    """
    if not classes:
        return table, []
    there = {str(name): set(rows["target"]) for name, rows in table.groupby(_GROUP)}
    notes = []
    if compared:
        every = {label for name in compared for label in there[name]}
        shared = every.intersection(*(there[name] for name in compared))
        if len(shared) < 2:
            notes.append("not tested: the groups have fewer than two classes in common")
            compared.clear()
        elif shared < every:
            left = [label for label in classes if label in every - shared]
            lacking = {name: [label for label in left if label not in there[name]] for name in compared}
            told = "; ".join(f"{name} lacks {', '.join(missing)}" for name, missing in lacking.items() if missing)
            notes.append(f"all groups are scored without {', '.join(left)}, which not every group has ({told})")
            table = table[table["target"].isin(shared)]
            there = {name: found & shared for name, found in there.items()}
    most = set().union(*there.values())
    for name, found in there.items():
        if found < most and name not in compared:
            absent = [label for label in classes if label in most - found]
            notes.append(f"{name} has no utterances of {listed(absent)}: its UAR is over the other classes")
    return table, notes


def _gap(predictions: Predictions, compared: Sequence[str]) -> Gap | str | None:
    if not compared:
        return None
    first = predictions.table.drop_duplicates("utterance_id")
    positions = {name: position for position, name in enumerate(compared)}
    group = dict(zip(first["utterance_id"], first[_GROUP].map(positions), strict=True))
    return largest_gap(predictions, compared, group.__getitem__)
