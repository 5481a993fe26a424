"""Predictions from another source → the rows of other predictions, so that both can vote.

A table from another program may have no seeds and no folds, or other names for them. Each of its predictions belongs to
an utterance, which is enough if no utterance is predicted twice.
"""

from typing import TYPE_CHECKING

from featcache.errors import PredictionsError, listed

if TYPE_CHECKING:
    import pandas as pd

_KEYS = ["seed", "fold", "utterance_id"]


def aligned(name: str, table: "pd.DataFrame", other: str, reference: "pd.DataFrame") -> "pd.DataFrame":
    """Return the predictions of a table for the rows of another table.

    A table with a single seed is repeated for every seed.

    Args:
        name: Name of the table, for messages.
        table: Checked predictions, see :func:`featcache.evaluate.predictions.checked`.
        other: Name of the reference, for messages.
        reference: Checked predictions with the seeds, folds and speakers of the result.

    Returns:
        The columns of the table, with the seeds, folds and speakers of the reference.

    Raises:
        PredictionsError: the tables have different utterances or seeds, or an utterance is predicted more than once and
            the folds differ.
    """
    on = _KEYS
    if _rows_of(table, _KEYS) != _rows_of(reference, _KEYS):
        on = _shared_keys(name, table, other, reference)
    renamed = table.drop(columns=[column for column in ("seed", "fold", "speaker_id") if column not in on])
    return reference[[*_KEYS, "speaker_id"]].merge(renamed, on=on, how="left", validate="many_to_one")


def _shared_keys(name: str, table: "pd.DataFrame", other: str, reference: "pd.DataFrame") -> list[str]:
    """Return the columns that identify a prediction of the table in both tables."""
    alone = sorted(set(table["utterance_id"]) ^ set(reference["utterance_id"]))
    if alone:
        raise PredictionsError(
            f"{name} and {other} have different utterances: only one of them has {listed(alone)}; only predictions for "
            "the same utterances can vote"
        )
    seeds, expected = (sorted(set(one["seed"]), key=str) for one in (table, reference))
    if len(seeds) > 1 and set(seeds) != set(expected):
        raise PredictionsError(
            f"{name} and {other} have different seeds: {listed(seeds)} and {listed(expected)}; give both the same "
            f"seeds, or {name} a single one, which then votes in every seed"
        )
    for label, one in ((name, table), (other, reference)):
        twice = one.loc[one.duplicated(["seed", "utterance_id"]), "utterance_id"]
        if len(twice):
            raise PredictionsError(
                f"{name} and {other} have different folds, and {label} predicts {listed(twice.unique())} in several of "
                "them; give both the same folds"
            )
    return ["utterance_id"] if len(seeds) == 1 else ["seed", "utterance_id"]


def _rows_of(table: "pd.DataFrame", columns: list[str]) -> set[tuple[object, ...]]:
    return set(table[columns].itertuples(index=False, name=None))
