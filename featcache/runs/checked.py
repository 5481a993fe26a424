"""Content of ``config.yaml`` and ``metrics.json`` → the same, checked: a run folder may come from anybody."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featcache.errors import StoreError
from featcache.evaluate.scores import SCORES
from featcache.files.checksums import CHECKSUMS, recorded_checksums
from featcache.files.disk import reading
from featcache.files.regular import read_regular
from featcache.files.values import TOO_DEEP, check_types, checked, damaged, parse_json

AGAIN = "fit it again with --overwrite"
_NUMBER = (int, float)
_OPTIONAL = (int, float, type(None))
_CONFIG = {
    **dict.fromkeys(("corpus", "head", "norm", "protocol", "layers", "task", "vote", "chosen_on"), (str,)),
    **dict.fromkeys(("features", "select", "training", "label_ranges"), (dict,)),
    **dict.fromkeys(("seeds", "untrained", "classes", "candidates", "sizes", "votes", "members", "folds"), (list,)),
}
_ITEMS = {
    **dict.fromkeys(("untrained", "classes", "candidates", "votes", "members", "dimensions"), str),
    **dict.fromkeys(("seeds", "sizes"), int),
}
_METRICS = {
    **dict.fromkeys(SCORES, (dict,)),
    **dict.fromkeys(("bootstrap", "recall", "confusion"), (dict,)),
    **dict.fromkeys(("num_speakers", "num_seeds", "num_folds", "num_utterances"), (int,)),
    **dict.fromkeys(("chance_uar", "uar_chosen_by_fold"), _NUMBER),
    "dimensions": (list,),
}
_SCORE = {
    **dict.fromkeys(("mean", "std", "mean_over_folds"), _OPTIONAL),
    **dict.fromkeys(("ci95", "ci95_utterances"), (list, type(None))),
    "per_seed": (list,),
}
_PARTS: dict[str, Mapping[str, tuple[type, ...]]] = {
    "bootstrap": {"unit": (str,), "count": (int,)},
    "confusion": {"classes": (list,), "counts": (list,)},
}


class Saved(dict[str, Any]):
    """What a file holds by name; to ask for what it lacks, or holds in another type, is an error of one line.

    Args:
        content: Name → value.
        path: The file.
        types: Name → the types that its value may have.
    """

    def __init__(self, content: Mapping[str, Any], path: Path, types: Mapping[str, tuple[type, ...]] = _CONFIG) -> None:
        super().__init__(content)
        self._path = path
        self._types = types

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        check_types({name: value}, self._types, self._path, AGAIN)
        if name in _ITEMS:
            _check_items(value, _ITEMS[name], self._path, name)
        return value

    def __missing__(self, name: str) -> Any:
        raise damaged(self._path, f"{name} missing", AGAIN)


def read_config(path: Path) -> Saved:
    """The settings of a run.

    Raises:
        StoreError: the file cannot be read, or is no YAML.
    """
    return Saved(read_yaml(path), path)


def read_metrics(path: Path) -> Saved:
    """The scores of a run.

    Raises:
        StoreError: the file cannot be read, is no JSON, or holds values of other types than a fit writes.
    """
    metrics = parse_json(read_checked(path), dict, path, AGAIN)
    check_types(metrics, _METRICS, path, AGAIN)
    for name, types in _PARTS.items():
        check_types(metrics.get(name, {}), types, f"{path}, {name},", AGAIN)
    scores: dict[str, Any] = {
        name: value for name, value in metrics.items() if isinstance(value, dict) and name not in _PARTS
    }
    scores |= scores.pop("recall", {})
    for name, value in scores.items():
        if value is None:  # the recall of a class that no target carries
            continue
        score: dict[str, Any] = checked(value, dict, f"{path}, {name},", AGAIN)
        check_types(score, _SCORE, f"{path}, {name},", AGAIN)
        for key in ("per_seed", "ci95", "ci95_utterances"):
            _check_items(score.get(key) or [], int | float, path, f"{name}.{key}", *([2] if "ci95" in key else []))
    _check_items(metrics.get("confusion", {}).get("classes", []), str, path, "classes")
    parts = {name: Saved(value, path, {}) for name, value in metrics.items() if isinstance(value, dict)}
    return Saved({**metrics, **parts}, path, _METRICS)


def read_yaml(path: Path) -> dict[str, Any]:
    """What stands in a YAML file, by name.

    Raises:
        StoreError: the file cannot be read, is no YAML, or holds no names.
    """
    import yaml

    from featcache.files.yaml_text import OF_VALUES

    content = read_checked(path)
    try:
        found = yaml.safe_load(content)
    except RecursionError as error:
        raise damaged(path, TOO_DEEP, AGAIN) from error
    except (yaml.YAMLError, *OF_VALUES) as error:
        raise damaged(path, f"cannot be read as YAML: {' '.join(str(error).split())}", AGAIN) from error
    return checked(found, dict, path, AGAIN)


def read_checked(path: Path) -> bytes:
    """The bytes of a file of a run, if they are those that were written; runs of earlier releases have no checksums.

    Raises:
        StoreError: the file cannot be read, or has changed since it was written.
    """
    with reading(path):
        content = read_regular(path)
    recorded = recorded_checksums(path.parent)
    if recorded is None:
        raise StoreError(f"{path.parent / CHECKSUMS} is damaged; restore it, train the run again, or remove it")
    found = hashlib.sha256(content).hexdigest()
    if recorded.get(path.name, found) != found:
        raise StoreError(
            f"{path} has changed since it was written: its checksum differs; restore it, train the run again, or "
            f"remove {CHECKSUMS} if the change is yours"
        )
    return content


def _check_items(items: list[Any], kind: Any, path: Path, name: str, number: int | None = None) -> None:
    if not all(isinstance(item, kind) or item is None for item in items) or len(items) not in (number, len(items)):
        raise damaged(path, f"{name} holds something else than it should", AGAIN)


def reason_of(error: StoreError) -> str:
    """What is wrong, without the file's whole path."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.strerror and cause.filename:
        return f"{cause.strerror}: {Path(cause.filename).name}"
    return str(error)
