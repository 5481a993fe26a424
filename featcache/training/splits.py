"""Utterances and their speakers → splits of a cross-validation that keeps speakers apart."""

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

NUM_SPLITS = 5
"""Number of splits, unless there are fewer speakers."""

Split = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Positions of the utterances that train, and of those that are held out."""

# A class with fewer utterances than splits is missing in some of them, which cannot be changed.
warnings.filterwarnings("ignore", "The least populated class in y has only", UserWarning)


def speaker_splits(speakers: Sequence[str], classes: npt.NDArray[np.int64] | None) -> list[Split]:
    """Split utterances, so that each is held out once, together with all other utterances of its speaker.

    There are five splits, or one per speaker if there are fewer. The splits are deterministic. Utterances without a
    speaker count as those of one more speaker. If all utterances have the same speaker, each is split on its own.

    Args:
        speakers: Speaker of each utterance; empty if unknown. At least two utterances.
        classes: (num_utterances,) int64 classes, which are spread evenly over the splits; None for a regression.

    Returns:
        Two or more splits.

    Source: ``StratifiedGroupKFold`` and ``GroupKFold`` of scikit-learn, without shuffling.
    """
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    groups: Sequence[str | int] = speakers if len(set(speakers)) > 1 else range(len(speakers))
    number = min(NUM_SPLITS, len(set(groups)))
    utterances = np.zeros((len(groups), 1))
    # scikit-learn cannot spread classes that all have fewer utterances than there are splits.
    if classes is not None and np.bincount(classes).max() >= number:
        return list(StratifiedGroupKFold(number).split(utterances, classes, groups))
    return list(GroupKFold(number).split(utterances, groups=groups))
