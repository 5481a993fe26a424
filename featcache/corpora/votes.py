"""Choices of annotators → columns of votes in the manifest, ``votes_LABEL_CLASS``, for soft labels."""

from collections.abc import Iterable, Mapping, Sequence, Set

from featcache.utterances import VOTES


def vote_labels(label: str, classes: Sequence[str], votes: Mapping[str, float]) -> dict[str, str]:
    """Return column → number of votes of one utterance.

    Args:
        label: Label that the annotators chose, such as ``emotion``.
        classes: Classes with a column; votes for other classes are left out.
        votes: Class → number of votes; missing classes have none.
    """
    return {f"{VOTES}{label}_{name}": f"{votes.get(name, 0):.6g}" for name in classes}


def shared_votes(choices: Iterable[Set[str]]) -> dict[str, float]:
    """Count one vote per annotator; an annotator who chose several classes gives each the same share of the vote.

    Args:
        choices: For each annotator, the classes chosen.
    """
    votes: dict[str, float] = {}
    for chosen in choices:
        for name in sorted(chosen):
            votes[name] = votes.get(name, 0) + 1 / len(chosen)
    return votes
