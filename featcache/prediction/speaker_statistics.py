"""Run with speaker normalisation × features of new audio → statistics of the new speakers."""

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np

from featcache.errors import ManifestError, listed
from featcache.manifest import Manifest, Utterance
from featcache.normalise import SPEAKER, Normaliser, fit_normaliser
from featcache.prediction.run_heads import Normalisers, RunHeads
from featcache.runs.saved_statistics import SavedStatistics, read_statistics
from featcache.training.store_features import StoreFeatures
from featcache.units import counted

log = logging.getLogger(__name__)

# Seconds of a speaker below which statistics are a poor estimate.
ENOUGH_SECONDS = 30.0


def speaker_column(heads: Sequence[RunHeads], *, one_speaker: bool) -> str | None:
    """Return the column that groups utterances for speaker normalisation; None if no run uses it.

    Args:
        heads: Heads of each run.
        one_speaker: Whether the user said that all audio is of one speaker, in place of any other column.

    Raises:
        ManifestError: runs of an ensemble group by different columns.
    """
    columns = {run.config["norm_by"] or SPEAKER for run in heads if run.config["norm"] == "speaker"}
    if len(columns) > 1 and not one_speaker:
        raise ManifestError(f"the members normalise by different labels, {listed(sorted(columns))}; use --one-speaker")
    return None if not columns else SPEAKER if one_speaker else columns.pop()


def group_of(utterance: Utterance, column: str) -> str:
    """Return the speaker of an utterance, or the label that is used in its place; empty if it is unknown."""
    return utterance.speaker_id if column == SPEAKER else utterance.labels.get(column, "")


def check_speakers(utterances: Sequence[Utterance], column: str, run: str) -> None:
    """Check that the speaker of all utterances is known.

    Args:
        utterances: Utterances to predict.
        column: Column that groups utterances.
        run: Name of the run, for the message.

    Raises:
        ManifestError: the speaker of an utterance is unknown.
    """
    unknown = [u.utterance_id for u in utterances if not group_of(u, column)]
    if not unknown:
        return
    whom = f"of {counted(len(unknown), 'utterance')} ({listed(unknown)})"
    if column == SPEAKER:
        raise ManifestError(
            f"{run} normalises features with the statistics of each speaker, but the speaker {whom} is unknown; give a "
            "manifest with a column speaker_id, --speaker-from REGEX, or --one-speaker"
        )
    raise ManifestError(
        f"{run} normalises features with the statistics of each {column}, but the {column} {whom} is unknown; give a "
        f"manifest with a column {column}, or --one-speaker if all audio has the same"
    )


def without_overlap(utterances: Sequence[Utterance]) -> list[Utterance]:
    """Return windows of each file that follow one another, so that no frame counts twice in the statistics.

    Windows that begin before the end of the last chosen window of the same file are left out.
    """
    ends: dict[tuple[str, str], float] = {}
    chosen = []
    for utterance in sorted(utterances, key=lambda u: (u.path, u.start or 0.0)):
        key, start = (utterance.path, utterance.speaker_id), utterance.start or 0.0
        if key not in ends or start >= ends[key] - 1e-6:
            ends[key] = np.inf if utterance.end is None else utterance.end
            chosen.append(utterance)
    return chosen


@dataclass(frozen=True, kw_only=True)
class SpeakerStatistics:
    """Statistics of speakers for the heads of one run.

    Attributes:
        heads: The heads.
        column: Column that groups utterances.
        saved: Statistics that the run saved for the speakers of its own corpus; None for other audio.
        known: Speakers whose saved statistics are used → their names in these statistics.
    """

    heads: RunHeads
    column: str
    saved: SavedStatistics | None = None
    known: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, heads: RunHeads, column: str, *, own: Mapping[str, str]) -> "SpeakerStatistics":
        """Return the statistics of a run, with the saved ones for audio of the run's own corpus.

        Args:
            heads: The heads.
            column: Column that groups utterances.
            own: Speakers whose audio is in the run's own corpus → their names in the run.
        """
        saved = None
        if own and column == (heads.config["norm_by"] or SPEAKER):
            first = next(iter(heads.heads.values()))
            saved = read_statistics(heads.run.path, first.inputs)
        known = {group: name for group, name in own.items() if name in saved.groups} if saved else {}
        return cls(heads=heads, column=column, saved=saved, known=known)

    def new(self, measured: Sequence[Utterance]) -> list[Utterance]:
        """Return the utterances whose speakers have no saved statistics."""
        return [u for u in measured if group_of(u, self.column) not in self.known]

    def normalisers(
        self, features: Sequence[StoreFeatures], utterances: Sequence[Utterance], measured: Sequence[Utterance]
    ) -> Normalisers:
        """Return the normalisers of utterances.

        Args:
            features: The features that the heads take.
            utterances: Utterances to predict.
            measured: Utterances that give the statistics: all of their speakers.
        """
        groups = {u.utterance_id: group_of(u, self.column) for u in utterances}
        new = self.new(measured)
        found = []
        for position, one in enumerate(features):
            normaliser = Normaliser(group_of=groups, mean_={}, std_={})
            if new:
                scalar = self.heads.config["scalar_norm"]
                fitted = fit_normaliser(one.store, "speaker", Manifest(new), (), scalar=scalar, by=self.column)
                normaliser = replace(one.of_layers(fitted), group_of=groups)
            if self.saved:
                self._add_saved(normaliser, position, set(groups.values()))
            found.append(normaliser)
        return {None: found}

    def _add_saved(self, normaliser: Normaliser, position: int, groups: Set[str]) -> None:
        if self.saved is None:
            return
        mean, std = self.saved.pairs[position]
        for group in groups & self.known.keys():
            row = self.saved.groups.index(self.known[group])
            normaliser.mean_[group] = mean[row].numpy()
            normaliser.std_[group] = std[row].numpy()


def seconds_of_speakers(
    features: Sequence[StoreFeatures], measured: Sequence[Utterance], column: str
) -> Mapping[str, float]:
    """Return speaker → seconds of audio; empty if no store reads audio.

    Args:
        features: Features of the utterances.
        measured: Utterances that give the statistics.
        column: Column that groups utterances.
    """
    store = next((one.store for one in features if not one.store.is_of_words), None)
    seconds: dict[str, float] = {}
    for utterance in measured if store is not None else ():
        group = group_of(utterance, column)
        [length] = store.durations([utterance.utterance_id]) if store is not None else [0.0]
        seconds[group] = seconds.get(group, 0.0) + float(length)
    return seconds


def warn_about_short(seconds: Mapping[str, float], column: str) -> None:
    """Log a warning about speakers with less than 30 s of audio."""
    short = sorted(speaker for speaker, length in seconds.items() if length < ENOUGH_SECONDS)
    if short:
        least = min(seconds[speaker] for speaker in short)
        name = "speaker" if column == SPEAKER else column
        log.warning(
            "%s with less than %g s of audio (%s; least: %.1f s): the statistics that normalise features are a rough "
            "estimate; give more audio of each",
            counted(len(short), name),
            ENOUGH_SECONDS,
            listed(short),
            least,
        )
