"""Stored statistics → z-scores: per speaker, global, or none. No frame is read to find means and deviations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from featcache.cache.reader import FeatureStore
from featcache.errors import ManifestError, listed, unknown_name
from featcache.manifest import Manifest

Scope = Literal["speaker", "global", "none"]
SCOPES: tuple[str, ...] = get_args(Scope)
SPEAKER = "speaker_id"

# What counts as never changing, by storage dtype: a standard deviation of so small a share of the mean is rounding,
# of the stored numbers to half their last digit, or of the model's own arithmetic to a few times that.
ROUNDING = {"float16": 2.0**-12, "float32": 1e-6, "int8": 1e-6}


@dataclass(frozen=True, kw_only=True)
class Normaliser:
    """Brings each layer and dimension to mean 0 and standard deviation 1.

    Attributes:
        group_of: Utterance id → the group whose statistics it is normalised with.
        mean_: Group → (num_layers, hidden_size) float32.
        std_: Group → the same; infinite where a value never changes, so that it becomes 0.
    """

    group_of: Mapping[str, str]
    mean_: dict[str, npt.NDArray[np.float32]]
    std_: dict[str, npt.NDArray[np.float32]]

    def normalise_(self, utterance_id: str, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Normalise features in place.

        Args:
            utterance_id: The utterance that they belong to.
            features: (num_layers, num_frames, hidden_size) float32; overwritten.

        Returns:
            The same array.
        """
        if self.group_of:
            group = self.group_of[utterance_id]
            features -= self.mean_[group][:, None]
            features /= self.std_[group][:, None]
        return features


def check_scope(scope: str, manifest: Manifest, by: str = SPEAKER) -> None:
    """Refuse a scope that is unknown, or that these utterances do not allow.

    Raises:
        ManifestError: as :func:`fit_normaliser`.
    """
    if scope not in SCOPES:
        raise ManifestError(unknown_name("normalisation", scope, SCOPES))
    if scope != "speaker":
        return
    unknown = [utterance_id for utterance_id, group in _groups(manifest, by).items() if not group]
    if unknown:
        raise ManifestError(
            f"{len(unknown)} utterances have no {by} ({listed(unknown)}), which --norm speaker needs; "
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
    """Merge the statistics that a scope calls for.

    Args:
        store: Whose features will be normalised.
        scope: ``speaker``: over all utterances of the manifest with the same speaker, those of test speakers
            included (transductive); ``global``: over the training utterances alone; ``none``.
        manifest: The utterances that take part, those without a label included.
        train: The ids of the training utterances of this fold.
        scalar: One mean and one standard deviation for all dimensions of a layer.
        by: What ``speaker`` takes for the speaker: ``speaker_id``, or a label.

    Raises:
        ManifestError: an unknown scope or label, or ``speaker`` with utterances whose speaker is not known.
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
    """Utterance id → whose statistics it is normalised with; empty where that is not known."""
    if by == SPEAKER:
        return {utterance.utterance_id: utterance.speaker_id for utterance in manifest}
    return dict.fromkeys(manifest.utterance_ids, "") | manifest.labels(by)


def _over_dimensions(
    mean: npt.NDArray[np.float64], std: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The mean and deviation of all dimensions of a layer together, in the shape of those of each."""
    together = mean.mean(axis=1, keepdims=True)
    variance = (std**2 + (mean - together) ** 2).mean(axis=1, keepdims=True)
    return np.broadcast_to(together, mean.shape), np.broadcast_to(np.sqrt(variance), std.shape)
