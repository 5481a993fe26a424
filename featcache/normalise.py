"""Stored statistics → z-scores per speaker, global, or none. Means and standard deviations need no frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from featcache.cache.reader import FeatureStore
from featcache.errors import ManifestError, listed, unknown_name
from featcache.manifest import Manifest
from featcache.units import counted

Scope = Literal["speaker", "global", "none"]
SCOPES: tuple[str, ...] = get_args(Scope)
SPEAKER = "speaker_id"

# Storage dtype → largest ratio of standard deviation to mean at which a value counts as constant. Such a standard
# deviation only shows the rounding of stored values (half of the last digit) or of the model's arithmetic.
ROUNDING = {"float16": 2.0**-12, "float32": 1e-6, "int8": 1e-6}


@dataclass(frozen=True, kw_only=True)
class Normaliser:
    """Transformation of each layer and dimension to mean 0 and standard deviation 1.

    Attributes:
        group_of: Utterance id → group whose statistics normalise this utterance.
        mean_: Group → mean, (num_layers, hidden_size) float32.
        std_: Group → standard deviation, same shape; infinite for constant values, so that they become 0.
    """

    group_of: Mapping[str, str]
    mean_: dict[str, npt.NDArray[np.float32]]
    std_: dict[str, npt.NDArray[np.float32]]

    def normalise_(self, utterance_id: str, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Normalise features in place.

        Args:
            utterance_id: Id of the utterance.
            features: Features of the utterance, (num_layers, num_frames, hidden_size) float32; overwritten.

        Returns:
            ``features`` itself.
        """
        if self.group_of:
            group = self.group_of[utterance_id]
            features -= self.mean_[group][:, None]
            features /= self.std_[group][:, None]
        return features


def check_scope(scope: str, manifest: Manifest, by: str = SPEAKER) -> None:
    """Check that a normalisation scope is known, and that all utterances have the speaker it needs.

    Args:
        scope: ``speaker``, ``global`` or ``none``.
        manifest: Utterances to normalise.
        by: Column of the speaker: ``speaker_id`` or a label.

    Raises:
        ManifestError: the scope or label is unknown, or ``speaker`` is used with utterances without a speaker.
    """
    if scope not in SCOPES:
        raise ManifestError(unknown_name("normalisation", scope, SCOPES))
    if scope != "speaker":
        return
    unknown = [utterance_id for utterance_id, group in _groups(manifest, by).items() if not group]
    if unknown:
        raise ManifestError(
            f"{counted(len(unknown), 'utterance', 'have')} no {by} ({listed(unknown)}), which --norm speaker needs; "
            "add it to the manifest or use --norm global"
        )


def fit_normaliser(
    store: FeatureStore,
    scope: str,
    manifest: Manifest,
    train: Sequence[str],
    *,
    scalar: bool = False,
    by: str = SPEAKER,
) -> Normaliser:
    """Compute the means and standard deviations for normalisation from the stored statistics.

    Args:
        store: Feature store to normalise.
        scope: ``speaker``: statistics over all utterances of the same speaker in the manifest, test speakers included
            (transductive); ``global``: statistics over the training utterances only; ``none``: no normalisation.
        manifest: Utterances to normalise, including utterances without a label.
        train: Ids of the training utterances of this fold.
        scalar: Whether all dimensions of a layer share one mean and one standard deviation.
        by: Column of the speaker for ``speaker``: ``speaker_id`` or a label.

    Returns:
        Normaliser for all utterances of the manifest.

    Raises:
        ManifestError: the scope or label is unknown, or ``speaker`` is used with utterances without a speaker.
    """
    check_scope(scope, manifest, by)
    if scope == "none":
        return Normaliser(group_of={}, mean_={}, std_={})
    if scope == "global":
        groups = {"": list(train)}
        group_of = dict.fromkeys(manifest.utterance_ids, "")
    else:
        group_of = _groups(manifest, by)
        groups = {
            speaker: [i for i in manifest.utterance_ids if group_of[i] == speaker]
            for speaker in sorted(set(group_of.values()))
        }
    mean, std = {}, {}
    for group, utterance_ids in groups.items():
        group_mean, group_std = store.mean_and_std(utterance_ids)
        if scalar:
            group_mean, group_std = _over_dimensions(group_mean, group_std)
        constant = group_std <= ROUNDING[store.metadata["storage_dtype"]] * np.abs(group_mean)
        mean[group] = group_mean.astype(np.float32)
        std[group] = np.where(constant, np.inf, group_std).astype(np.float32)
    return Normaliser(group_of=group_of, mean_=mean, std_=std)


def _groups(manifest: Manifest, by: str) -> dict[str, str]:
    """Return utterance id → group whose statistics normalise it; empty if the speaker is unknown."""
    if by == SPEAKER:
        return {utterance.utterance_id: utterance.speaker_id for utterance in manifest}
    return dict.fromkeys(manifest.utterance_ids, "") | manifest.labels(by)


def _over_dimensions(
    mean: npt.NDArray[np.float64], std: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean and standard deviation over all dimensions of a layer, broadcast to the shape of the inputs."""
    together = mean.mean(axis=1, keepdims=True)
    variance = (std**2 + (mean - together) ** 2).mean(axis=1, keepdims=True)
    return np.broadcast_to(together, mean.shape), np.broadcast_to(np.sqrt(variance), std.shape)
