"""Files of a run → their content. Everything is checked, because a run folder may come from anybody."""

import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import DiskError, StoreError
from featcache.evaluate.calibration import KEY as CALIBRATION
from featcache.evaluate.scores import SCORES, find_score
from featcache.files.checksums import CHECKSUMS, recorded_checksums
from featcache.files.disk import reading
from featcache.files.regular import read_regular, resolved, sha256_of_file
from featcache.files.values import check_types, checked, damaged, parse_json
from featcache.runs.costs import NAMES
from featcache.runs.file_names import CONFIG
from featcache.runs.identity import (
    CORPUS_RANGES,
    FINAL,
    HEAD_INPUTS,
    LABEL_MAP,
    LABEL_NAMES,
    PER_LABEL,
    PUBLISHED,
    SET_BY_FOLD,
    STORE_SETTINGS,
    SWEEP,
    TARGET_COLUMNS,
    TEST,
    TEST_CORPORA,
    THRESHOLDS,
    TRAIN,
    VALIDATION,
    VALIDATION_PROTOCOL,
    VALIDATION_SPEAKERS,
)

if TYPE_CHECKING:
    import pandas as pd

REFIT = "fit it again with --overwrite"
# No count, size or time is larger. Numbers of more than 300 digits, which JSON allows, cannot be printed as decimals.
MOST = 10**18
_NUMBER = (int, float)
_OPTIONAL = (int, float, type(None))
_CONFIG = {
    **dict.fromkeys(("corpus", "head", "norm", "protocol", "layers", "task", "vote", "chosen_on"), (str,)),
    **dict.fromkeys(("layer_weighting", "fused", "loss", VALIDATION_PROTOCOL), (str,)),
    "class_weights": (str, dict),
    FINAL: (bool,),
    **dict.fromkeys(("pooling", "norm_by"), (str, type(None))),
    **dict.fromkeys(("features", "select", "training", "label_ranges", "set", "parts", "also"), (dict,)),
    **dict.fromkeys((HEAD_INPUTS, STORE_SETTINGS, SWEEP), (dict,)),
    PUBLISHED: (bool,),
    **dict.fromkeys(("seeds", "untrained", "classes", "candidates", "sizes", "votes", "members", "folds"), (list,)),
    **dict.fromkeys((LABEL_NAMES, VALIDATION_SPEAKERS, TRAIN, TEST, SET_BY_FOLD), (list,)),
    **dict.fromkeys((LABEL_MAP, TARGET_COLUMNS, CORPUS_RANGES), (dict,)),
}
_ITEMS = {
    **dict.fromkeys(("untrained", "classes", "candidates", "votes", "members", "dimensions"), str),
    **dict.fromkeys((LABEL_NAMES, VALIDATION_SPEAKERS, TRAIN, TEST), str),
    SET_BY_FOLD: dict,
    **dict.fromkeys(("seeds", "sizes"), int),
}
_METRICS = {
    **dict.fromkeys(SCORES, (dict,)),
    **dict.fromkeys(("bootstrap", "recall", "confusion", CALIBRATION, PER_LABEL, THRESHOLDS), (dict,)),
    **dict.fromkeys(("num_speakers", "num_seeds", "num_folds", "num_utterances"), (int,)),
    **dict.fromkeys(("chance_uar", "uar_chosen_by_fold"), _NUMBER),
    **dict.fromkeys(NAMES, _NUMBER),
    "dimensions": (list,),
    **dict.fromkeys((VALIDATION, TEST_CORPORA), (dict,)),
}
_SCORE = {
    **dict.fromkeys(("mean", "std", "mean_over_folds"), _OPTIONAL),
    **dict.fromkeys(("ci95", "ci95_utterances"), (list, type(None))),
    "per_seed": (list,),
}
_OF_LABEL: dict[str, tuple[type, ...]] = {"f1": (dict,), "uar": (dict,), "support": (int,)}
_OF_THRESHOLD: dict[str, tuple[type, ...]] = {"mean": (int, float), "std": _OPTIONAL, "per_training": (list,)}
_PARTS: dict[str, Mapping[str, tuple[type, ...]]] = {
    "bootstrap": {"unit": (str,), "count": (int,)},
    "confusion": {"classes": (list,), "counts": (list,)},
    CALIBRATION: {"ece": (dict,), "brier": (dict,), "bins": (dict,)},
}
# Dictionaries in metrics.json that are no score.
_NO_SCORES = (*_PARTS, VALIDATION, PER_LABEL, TEST_CORPORA, THRESHOLDS)


class Saved(dict[str, Any]):
    """Content of a file by name, which raises a StoreError for a missing value or a value of another type.

    Args:
        content: Name → value.
        path: The file.
        types: Name → allowed types of the value.
    """

    def __init__(self, content: Mapping[str, Any], path: Path, types: Mapping[str, tuple[type, ...]] = _CONFIG) -> None:
        super().__init__(content)
        self._path = path
        self._types = types

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        check_types({name: value}, self._types, self._path, REFIT)
        if name in _ITEMS:
            _check_items(value, _ITEMS[name], self._path, name)
        if isinstance(value, dict):
            _check_items(list(value), str, self._path, f"names of {name}")
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """Return ``self[name]``, or the default if the name is missing."""
        return self[name] if name in self else default  # noqa: SIM401, the replacement would call this method

    def __missing__(self, name: str) -> Any:
        raise damaged(self._path, f"{name} missing", REFIT)


def read_config(folder: Path) -> Saved:
    """Read the configuration of a run, finished or not.

    Args:
        folder: The run folder.

    Raises:
        StoreError: ``config.yaml`` is missing, is not YAML, or has changed since it was written.
    """
    return Saved(read_yaml(folder / CONFIG), folder / CONFIG)


def read_metrics(path: Path) -> Saved:
    """Read the scores of a run.

    Args:
        path: Its ``metrics.json``.

    Raises:
        StoreError: the file cannot be read, is not JSON, or contains values of unexpected types.
    """
    metrics = parse_json(read_checked(path), dict, path, REFIT)
    check_types(metrics, _METRICS, path, REFIT)
    for name in NAMES:
        if not 0 <= metrics.get(name, 0) <= MOST:
            raise damaged(path, f"{name}: expected a number from 0 to {MOST:.0e}", REFIT)
    if _has_huge(metrics):
        raise damaged(path, f"expected numbers up to {MOST:.0e}", REFIT)
    for name, types in _PARTS.items():
        check_types(metrics.get(name, {}), types, f"{path}, {name},", REFIT)
    scores: dict[str, Any] = {
        name: value for name, value in metrics.items() if isinstance(value, dict) and name not in _NO_SCORES
    }
    scores |= scores.pop("recall", {})
    for name, value in scores.items():
        if value is not None:  # recall of a class without utterances
            _check_score(value, path, name)
    _check_labels(metrics, path)
    for name in ("ece", "brier"):
        _check_score(metrics.get(CALIBRATION, {}).get(name, {}), path, f"{CALIBRATION}.{name}")
    _check_items(metrics.get("confusion", {}).get("classes", []), str, path, "classes")
    parts = {name: Saved(value, path, {}) for name, value in metrics.items() if isinstance(value, dict)}
    if VALIDATION in metrics:
        parts[VALIDATION] = Saved(_checked_scores(metrics[VALIDATION], path, VALIDATION), path, {})
    if TEST_CORPORA in metrics:
        parts[TEST_CORPORA] = Saved(_checked_corpora(metrics[TEST_CORPORA], path), path, {})
    return Saved({**metrics, **parts}, path, _METRICS)


def _check_labels(metrics: Mapping[str, Any], path: Path) -> None:
    """Check the scores and thresholds of single labels."""
    for name, types in ((PER_LABEL, _OF_LABEL), (THRESHOLDS, _OF_THRESHOLD)):
        for label, found in metrics.get(name, {}).items():
            about = f"{path}, {name}.{label:.80},"
            value: dict[str, Any] = checked(found, dict, about, REFIT)
            check_types(value, types, about, REFIT, required=tuple(types))
            for score in ("f1", "uar") if name == PER_LABEL else ():
                check_types(value[score], _SCORE, about, REFIT, required=("mean", "std"))
                _check_score(value[score], path, f"{label:.80}.{score}")
            _check_items(value.get("per_training", []), int | float, path, f"{name}.{label:.80}.per_training")


def _check_score(value: Any, path: Path, name: str) -> None:
    score: dict[str, Any] = checked(value, dict, f"{path}, {name},", REFIT)
    check_types(score, _SCORE, f"{path}, {name},", REFIT)
    for key, number in (("per_seed", None), ("ci95", 2), ("ci95_utterances", 2)):
        _check_items(score.get(key) or [], int | float | None, path, f"{name}.{key}", number)


def _checked_scores(scores: Mapping[str, Any], path: Path, part: str) -> dict[str, Saved]:
    for name, value in scores.items():
        try:
            find_score(name)
        except KeyError:
            raise damaged(path, f"{part}: no score is called {name!r:.80}", REFIT) from None
        _check_score(value, path, f"{part}.{name}")
    return {name: Saved(value, path, {}) for name, value in scores.items()}


def _checked_corpora(corpora: Mapping[str, Any], path: Path) -> dict[str, dict[str, Any]]:
    """Return corpus → its number of utterances and its scores."""
    found = {}
    for corpus, content in corpora.items():
        where = f"{TEST_CORPORA}.{corpus:.80}"
        scores = dict(checked(content, dict, f"{path}, {where},", REFIT))
        number = {"num_utterances": scores.pop("num_utterances", None)}
        check_types(number, {"num_utterances": (int,)}, f"{path}, {where},", REFIT)
        found[corpus] = {**number, **_checked_scores(scores, path, where)}
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that contains a mapping.

    Raises:
        StoreError: the file cannot be read, is not YAML, or contains no mapping.
    """
    from featcache.files.yaml_text import YamlError, load

    content = read_checked(path)
    try:
        found = load(content.decode())
    except YamlError as error:
        place = "" if error.line is None else f"line {error.line}: "
        raise damaged(path, f"{place}{error}", REFIT) from error
    except UnicodeDecodeError as error:
        raise damaged(path, f"not UTF-8: {error}", REFIT) from error
    return checked(found, dict, path, REFIT)


def read_table(path: Path) -> "pd.DataFrame":
    """Read a table of a run; ids and labels remain text, so that speaker 03 does not become 3.

    Raises:
        StoreError: the file is missing, is not a table, or has changed since it was written.
    """
    import pandas as pd

    texts = dict.fromkeys(("utterance_id", "speaker_id", "target", "prediction", "layer", "features"), str)
    nans = {"train_loss": ["nan"], "validation_loss": ["nan"]}  # losses of a training that diverged
    try:
        content = io.BytesIO(read_checked(path))
        return pd.read_csv(content, dtype=texts, keep_default_na=False, na_values=nans)
    except DiskError as error:
        raise StoreError(f"{path}: not readable as a table ({reason_of(error)})") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: not readable as a table ({_reason(error)})") from error


def read_checked(path: Path) -> bytes:
    """Read a file of a run and compare it with its checksum; runs of earlier releases have no checksums.

    Raises:
        StoreError: the file cannot be read, is outside of the folder, or has changed since it was written.
    """
    _check_inside(path.parent, path.name)
    with reading(path):
        content = read_regular(path)
    _check_sha256(path.parent, path.name, hashlib.sha256(content).hexdigest())
    return content


def check_file(folder: Path, name: str) -> str:
    """Compare a file of a run with its checksum.

    Args:
        folder: The run folder.
        name: Path of the file, relative to the folder.

    Returns:
        The SHA-256 of the file.

    Raises:
        StoreError: the file cannot be read, is outside of the folder, or has changed since it was written.
    """
    _check_inside(folder, name)
    with reading(folder / name):
        found = sha256_of_file(folder / name)
    _check_sha256(folder, name, found)
    return found


@contextmanager
def open_tensors(folder: Path, name: str) -> Iterator[Any]:
    """Open a safetensors file of a run and compare it with its checksum; tensors are read on request.

    Args:
        folder: The run folder.
        name: Path of the file, relative to the folder.

    Yields:
        The result of ``safetensors.safe_open``; an error of safetensors in the block becomes a StoreError.

    Raises:
        StoreError: the file cannot be read, is outside of the folder, has changed since it was written, or is not a
            safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / name
    check_file(folder, name)
    try:
        with safe_open(path, framework="pt") as tensors:
            yield tensors
    except SafetensorError as error:
        raise damaged(path, f"cannot be read as safetensors: {' '.join(str(error).split())}", REFIT) from error


def _check_inside(folder: Path, name: str) -> None:
    path, home = folder / name, resolved(folder)
    # In a cache of the Hugging Face hub, the files of a snapshot link to the blobs of the same repository.
    inside = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    if not any(map(resolved(path).is_relative_to, inside)):
        raise damaged(path, "it is a link to a file outside of the run folder", f"copy the file here, or {REFIT}")


def _check_sha256(folder: Path, name: str, found: str) -> None:
    _check_inside(folder, CHECKSUMS)
    recorded = recorded_checksums(folder)
    if recorded is None:
        raise StoreError(f"{folder / CHECKSUMS} is damaged; restore it, train the run again, or remove it")
    if recorded.get(name, found) != found:
        raise StoreError(
            f"{folder / name} has changed since it was written: its checksum differs; restore it, train the run again, "
            f"or remove {CHECKSUMS} if the change is yours"
        )


def _has_huge(value: object) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_huge, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int) and abs(value) > MOST


def _check_items(items: list[Any], kind: Any, path: Path, name: str, number: int | None = None) -> None:
    if not all(isinstance(item, kind) for item in items) or len(items) not in (number, len(items)):
        raise damaged(path, f"{name}: unexpected number or type of items", REFIT)


def reason_of(error: StoreError) -> str:
    """Return the reason of an error, with the name of the file in place of its path."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.strerror and cause.filename:
        return f"{cause.strerror}: {Path(cause.filename).name}"
    return str(error)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror}: {Path(error.filename).name}" if error.filename else str(error)
    return (str(error).splitlines() or [type(error).__name__])[0]
