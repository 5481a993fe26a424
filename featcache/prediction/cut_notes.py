"""Features × utterances → which of them are cut to the frames that the heads use."""

import logging
from collections.abc import Sequence

import numpy as np

from featcache.manifest import Utterance
from featcache.training.store_features import StoreFeatures
from featcache.units import counted

log = logging.getLogger(__name__)


class CutUtterances:
    """Number of utterances that are longer than the frames that a run uses."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._limit = ""

    def count(self, features: Sequence[StoreFeatures], utterances: Sequence[Utterance]) -> None:
        """Count the utterances that are cut.

        Args:
            features: The features that the heads take.
            utterances: The utterances.
        """
        limited = next((one for one in features if one.max_frames and not one.pooling), None)
        if limited is None or limited.max_frames is None:
            return
        most = limited.max_frames
        seconds = "" if np.isnan(limited.frame_shift) else f" ({most * limited.frame_shift:.1f} s)"
        self._limit = f"{counted(most, 'frame')}{seconds}"
        self._ids |= {u.utterance_id for u in utterances if limited.num_frames(u.utterance_id) > most}

    def tell(self) -> None:
        """Log how many utterances are cut."""
        if self._ids:
            log.warning(
                "%s cut to the first %s, as in the fit of the run; --window predicts the rest, too",
                counted(len(self._ids), "utterance", "are"),
                self._limit,
            )
