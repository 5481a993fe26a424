"""Configurations of runs → readable titles: ``dense · wav2vec2-base · speaker normalisation``."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from featcache.runs.identity import RECORDED

_MOST_DIFFERENCES = 3
_MOST_LISTED = 3
# Parts of the title itself, and settings that say nothing to a reader of a title.
_SILENT = {
    "corpus",
    "features",
    "untrained",
    "head",
    "norm",
    "layers",
    "folds",
    "classes",
    "label_names",
    "numerics_version",
}
_SILENT |= set(RECORDED)


def run_title(config: Mapping[str, Any]) -> str:
    """Return the title of a run: head, features with selected layers, and normalisation.

    Args:
        config: Content of its ``config.yaml``.

    Returns:
        The title; empty if the configuration does not have the settings of a run.
    """
    head, features, norm = (config.get(key) for key in ("head", "features", "norm"))
    if not isinstance(head, str) or not isinstance(features, Mapping) or not isinstance(norm, str):
        return ""
    untrained = config.get("untrained") or ()
    stores = " + ".join(f"{name} (untrained)" if name in untrained else str(name) for name in features)
    layers = str(config.get("layers", "-"))
    if layers not in ("all", "-"):
        stores += f", layer{'' if layers.isdigit() or layers == 'last' else 's'} {layers}"
    return f"{head} · {stores} · {'no' if norm == 'none' else norm} normalisation"


def distinct_titles(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return a title for each run; runs with equal titles also show the settings in which they differ.

    Args:
        runs: Name and configuration of each run.
    """
    titles = [run_title(config) or name for name, config in runs]
    alike: dict[str, list[dict[str, str]]] = {}
    for title, (_, config) in zip(titles, runs, strict=True):
        alike.setdefault(title, []).append(dict(_flat(config)))
    return [
        title if len(alike[title]) == 1 else _told_apart(title, name, dict(_flat(config)), alike[title])
        for title, (name, config) in zip(titles, runs, strict=True)
    ]


def _told_apart(title: str, name: str, own: Mapping[str, str], alike: Sequence[Mapping[str, str]]) -> str:
    names = dict.fromkeys(key for settings in alike for key in settings)
    differing = [key for key in names if len({settings.get(key) for settings in alike}) > 1]
    shown = [f"{key.rpartition('.')[2].replace('_', ' ')} {own[key]}" for key in differing if key in own]
    others = [settings for settings in alike if all(settings.get(key) == own.get(key) for key in differing)]
    if not shown or len(shown) > _MOST_DIFFERENCES or len(others) > 1:
        return f"{title} ({name})"
    return f"{title} ({', '.join(shown)})"


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the settings that tell runs apart, as flat pairs such as ``("training.learning_rate", "0.001")``."""
    for key, value in config.items():
        if key in _SILENT or key.endswith("sha256"):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _listed(value) if isinstance(value, list) else str(value)


def _listed(values: Sequence[Any]) -> str:
    return f"{len(values)}, from {values[0]} on" if len(values) > _MOST_LISTED else ", ".join(map(str, values))
