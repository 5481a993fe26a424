"""View: a numbered augmented copy of every utterance, as settings of a store and as signals.

All random numbers of an utterance come from its id, the number of the view and the settings of the augmentation. They
do not depend on other utterances, batches, threads or parts of the corpus.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from featcache.audio import Recording
from featcache.augmentation.augment_option import parse
from featcache.augmentation.kinds import Augmentation, Speed
from featcache.features import Description
from featcache.settings.extractor_configs import ChannelPolicy

AUGMENT, FILES_SHA256, VIEW = "augment", "augment_files", "view"
VIEW_SETTINGS = (AUGMENT, FILES_SHA256, VIEW)
"""Settings of a store that only views have."""
SEPARATOR = "@"
"""Character between the name of a store and the name of its view."""


def is_view(settings: Mapping[str, Any]) -> bool:
    """Return whether a store contains augmented speech.

    Args:
        settings: Settings of the store.
    """
    return AUGMENT in settings


@dataclass(frozen=True, kw_only=True)
class AugmentedView:
    """Augmented copy of the utterances.

    Attributes:
        number: Number of the view, from 1 on.
        augmentations: Changes of the signal, in order.
    """

    number: int
    augmentations: tuple[Augmentation, ...]

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], texts: Sequence[str] = ()) -> "AugmentedView | None":
        """Return the view of a store; None if the store contains the speech as it is.

        Args:
            settings: Settings of the store.
            texts: Texts of ``--augment`` that name the folders, whose paths a store does not record.

        Raises:
            ModelError: the settings are not valid, or a folder is needed.
        """
        if not is_view(settings):
            return None
        return cls(number=int(settings[VIEW]), augmentations=parse(texts or settings[AUGMENT]))

    @property
    def name(self) -> str:
        """Name of the view: ``speed0.9-1.1+noise10-20-1``."""
        return f"{'+'.join(one.name for one in self.augmentations)}-{self.number}"

    def store_name(self, store: str) -> str:
        """Return the name of the store of this view, beside a store of the clean speech."""
        return f"{store}{SEPARATOR}{self.name}"

    def settings(self) -> dict[str, Any]:
        """Return the settings of a store that identify the view, as plain JSON values."""
        files = {one.kind: one.folder.sha256 for one in self.augmentations if one.folder}
        return {
            AUGMENT: [one.text for one in self.augmentations],
            VIEW: self.number,
            **({FILES_SHA256: files} if files else {}),
        }

    def described(self, description: Description) -> Description:
        """Return the description of an extractor with the settings of the view."""
        return replace(description, settings={**description.settings, **self.settings()})

    @property
    def longest(self) -> float:
        """Largest ratio of the duration of an utterance after and before augmentation, at least 1."""
        return max(
            [1.0, *(1 / factor for one in self.augmentations if isinstance(one, Speed) for factor in one.factors)]
        )

    def duration_of(self, utterance_id: str, seconds: float) -> float:
        """Return the duration of an utterance after augmentation, in seconds."""
        for one in self.augmentations:
            rng = self._generator(one, utterance_id)
            if isinstance(one, Speed) and rng.random() < one.p:
                seconds /= one.draw(rng)
        return seconds

    def apply(
        self, recording: Recording, utterance_id: str, *, channel: ChannelPolicy, max_seconds: float | None
    ) -> Recording:
        """Mix down, shorten and augment a recording.

        Args:
            recording: Recording of the utterance.
            utterance_id: Id of the utterance.
            channel: Method to mix several channels down.
            max_seconds: Maximum duration in seconds before augmentation; None keeps all.

        Returns:
            The augmented recording with a single channel, at the sampling rate of the file. Samples may exceed [-1, 1].

        Raises:
            AudioError: a file with noise or an impulse response cannot be read.
        """
        signal = recording.signal(channel=channel, max_seconds=max_seconds)
        samples = signal.samples
        for one in self.augmentations:
            rng = self._generator(one, utterance_id)
            if rng.random() < one.p:
                samples = one.apply(samples, signal.sampling_rate, rng)
        return replace(recording, channels=np.ascontiguousarray(samples[None]))

    def _generator(self, one: Augmentation, utterance_id: str) -> np.random.Generator:
        files = one.folder.sha256 if one.folder else ""
        key = json.dumps([one.text, files, self.number, utterance_id])
        return np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest(), "big"))
