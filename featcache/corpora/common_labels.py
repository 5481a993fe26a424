"""Labels of a corpus → common labels of several corpora: usual names of the common emotions.

Corpora name the same emotion differently: RAVDESS has ``happy``, EMOVO ``joy``, and EmoDB ``happiness``. Other labels,
such as ``female``, are common labels themselves.
"""

from featcache.labels import plain

NAMES = {
    "anger": ("angry", "ang"),
    "disgust": ("disgusted", "dis"),
    "fear": ("fearful", "afraid", "scared", "anxiety", "anxious", "fea"),
    "happiness": ("happy", "joy", "joyful", "hap"),
    "neutral": ("neutrality", "neu"),
    "sadness": ("sad",),
    "surprise": ("surprised", "pleasant surprise", "sur"),
    "boredom": ("bored",),
    "calm": ("calmness",),
    "contempt": ("contemptuous",),
    "excitement": ("excited", "exc"),
    "frustration": ("frustrated", "fru"),
    "sarcasm": ("sarcastic",),
    "amusement": ("amused",),
    "sleepiness": ("sleepy",),
    # secondary emotions of the JL corpus, and classes of FAU-AIBO
    "apologetic": (),
    "assertive": (),
    "concerned": (),
    "encouraging": (),
    "emphatic": (),
    "positive": (),
    "rest": (),
}
"""Common label → further names of it, in lower case. The order is that of the classes in tables."""
NO_LABEL = ("other", "others", "oth", "no agreement", "xxx", "unknown")
"""Labels that name no emotion, and are left out."""

_COMMON = {name: common for common, names in NAMES.items() for name in (common, *names)}


def common_label(label: str) -> str | None:
    """Return the common label of a label; None for a label that names no emotion.

    Case and spaces do not count. A label that is no known name of an emotion is a common label itself.
    """
    key = plain(label)
    if not isinstance(key, str):
        return label
    return None if key in NO_LABEL else _COMMON.get(key, key)


def in_order(labels: set[str]) -> tuple[str, ...]:
    """Return common labels in the order of tables: the emotions as listed above, then the others by name."""
    known = [label for label in NAMES if label in labels]
    return (*known, *sorted(labels - set(known)))
