"""Predictions of a run → what its report shows about speakers, groups and single utterances."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.evaluate.predictions import Predictions, recognised
from featcache.evaluate.scores import SCORES, Score
from featcache.manifest import Manifest
from featcache.report.audio_links import AudioLinks
from featcache.report.breakdown import GroupScore, group_scores, label_groupings, speaker_grouping, utterance_outcomes
from featcache.units import counted

if TYPE_CHECKING:
    import pandas as pd

_PERCENT = {
    "right": ("Right (%)", "Share of heads that are right"),
    "agreement": ("Agreement (%)", "Share of heads that predict the shown class"),
    "confidence": ("Confidence (%)", "Mean probability of the true class"),
}
_MOST_LEVELS = 1000


@dataclass(frozen=True, kw_only=True)
class RunDetails:
    """Tables of a report about the predictions of a run.

    Attributes:
        score: Score of the speakers and groups.
        speakers: Score of each speaker; empty if no speaker is known.
        groups: Name of a label, such as gender → score of each of its values.
        utterances: Table of utterances for the script of the page.
        num_utterances: Number of utterances.
        always_wrong: Number of utterances that no head recognises; None for a regression.
        notes: Notes about the audio.
    """

    score: Score
    speakers: list[GroupScore]
    groups: dict[str, list[GroupScore]]
    utterances: dict[str, Any]
    num_utterances: int
    always_wrong: int | None
    notes: list[str]


def details_of(
    table: "pd.DataFrame",
    config: Mapping[str, Any],
    manifest: Manifest | None = None,
    audio: AudioLinks | None = None,
    *,
    transcripts: bool = False,
) -> RunDetails | None:
    """Return what a report shows about predictions; None if there are none.

    Args:
        table: Rows of ``predictions.csv``.
        config: Content of ``config.yaml``.
        manifest: The utterances of the corpus, with the labels that make groups.
        audio: Links to the audio; None shows no players.
        transcripts: Whether the transcripts of the manifest are shown.

    Raises:
        PredictionsError: the rows cannot be scored.
    """
    if table.empty:
        return None
    predictions = recognised(table, config.get("classes") or ())
    outcomes = utterance_outcomes(predictions)
    groupings = {"": speaker_grouping(predictions)}
    if manifest is not None:
        groupings |= label_groupings(
            manifest, [str(config.get("target")), *predictions.dimensions, *predictions.labels]
        )
    groups = group_scores(predictions, groupings)
    return RunDetails(
        score=SCORES["ccc" if predictions.dimensions else "uar"],
        speakers=groups.pop(""),
        groups={name: found for name, found in groups.items() if len(found) > 1},
        utterances=_table(outcomes, predictions, manifest if transcripts else None, audio),
        num_utterances=len(outcomes),
        always_wrong=None if predictions.dimensions else int((outcomes["right"] == 0).sum()),
        notes=audio_notes(audio, outcomes["utterance_id"].tolist()),
    )


def audio_notes(audio: AudioLinks | None, utterance_ids: Sequence[str]) -> list[str]:
    """Return notes on audio that is missing, or that browsers do not play."""
    if audio is None:
        return []
    missing = [one for one in utterance_ids if one not in audio.links]
    notes = [f"The audio of {counted(len(missing), 'utterance')} was not found."] if missing else []
    if audio.unplayable:
        notes.append(
            f"Browsers do not play {', '.join(audio.unplayable)} files; the links open them with another program."
        )
    return notes


def _table(
    outcomes: "pd.DataFrame", predictions: Predictions, manifest: Manifest | None, audio: AudioLinks | None
) -> dict[str, Any]:
    ids = outcomes["utterance_id"].tolist()
    columns: list[dict[str, Any]] = [{"title": "Utterance", "kind": "text"}]
    cells: list[list[Any]] = [ids]
    if audio is not None:
        columns.append({"title": "Audio", "kind": "audio", "base": audio.base, "unplayable": audio.unplayable})
        cells.append([audio.links.get(one, 0) for one in ids])
    speakers = outcomes["speaker_id"].tolist()
    if any(speakers):
        _add(columns, cells, "Speaker", speakers)
    if not predictions.dimensions:
        _add(columns, cells, "Target", outcomes["target"].tolist(), predictions.classes)
        _add(columns, cells, "Predicted", outcomes["prediction"].tolist(), predictions.classes)
        for name, (title, label) in _PERCENT.items():
            if outcomes[name].notna().any():
                columns.append({"key": name, "title": title, "kind": "number", "digits": 0, "label": label})
                cells.append(_rounded(outcomes[name], 1))
    for dimension in predictions.dimensions:
        spread = ("std",) if (outcomes["heads"] > 1).any() else ()
        for kind in ("target", "prediction", *spread, "error"):
            columns.append({"title": f"{dimension}: {kind}", "kind": "number", "digits": 2})
            cells.append(_rounded(outcomes[f"{kind}_{dimension}"], 4))
    transcripts = [manifest[one].transcript if manifest is not None and one in manifest else "" for one in ids]
    if any(transcripts):
        columns.append({"title": "Transcript", "kind": "text"})
        cells.append(transcripts)
    return {"columns": columns, "rows": [list(row) for row in zip(*cells, strict=True)]}


def _add(
    columns: list[dict[str, Any]],
    cells: list[list[Any]],
    title: str,
    values: Sequence[str],
    levels: Sequence[str] | None = None,
) -> None:
    """Add a column whose values are repeated: the cells are positions in the list of values."""
    found = list(levels or sorted(set(values)))
    if len(found) > _MOST_LEVELS:
        columns.append({"title": title, "kind": "text"})
        cells.append(list(values))
        return
    positions = {value: place for place, value in enumerate(found)}
    columns.append({"title": title, "kind": "choice", "levels": found})
    cells.append([positions[value] for value in values])


def _rounded(values: "pd.Series[Any]", digits: int) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), digits) for value in values]
