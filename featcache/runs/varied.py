"""``config.yaml`` of runs → their settings as flat text, and the settings in which runs differ."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict
from typing import Any

from featcache.errors import PredictionsError, unknown_name
from featcache.runs.identity import (
    CORPUS_RANGES,
    FROM_LAYER,
    LABEL_MAP,
    NUMERICS,
    RECORDED,
    SET_BY_FOLD,
    SOLVER,
    SWEEP,
    TARGET_COLUMNS,
    TRAINING,
    hash_of,
)
from featcache.runs.reader import RunFolder
from featcache.settings.field import settings_of
from featcache.settings.finetunings import FinetuneSettings
from featcache.settings.fits import FitSettings, TrainingConfig
from featcache.settings.types import first_seeds

# Settings that other settings determine, or that describe the origin and not the choice of the user.
_DERIVED = {
    *RECORDED,
    NUMERICS,
    SOLVER,
    "untrained",
    "classes",
    "label_names",
    "label_ranges",
    "folds",
    "fused",
    "parts",
    "published",
} | {
    *(SET_BY_FOLD, "candidates", "sizes", "votes", "members", "vote", "chosen_on", CORPUS_RANGES, TARGET_COLUMNS),
}
# Settings that come first in lists.
MAIN = ("corpus", "features", FROM_LAYER, "lora", "layers", "head", "norm", "protocol", "target", "seeds")
# Settings that are shown wherever runs differ in them.
_SHOWN = ("features", FROM_LAYER, "lora", "head", "norm")
_TRAINING = f"{TRAINING}."
NOT_SET = "default"
# Largest number of seeds that --seeds accepts.
_MOST_SEEDS = 1000
# Shown in place of the checksums of stores with equal names and other settings.
CONTENT = "content of features"


def settings_text(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of a run as text, by name; nested settings have names such as ``training.learning_rate``.

    Features of untrained models are marked. Checksums and conditions of the computation are left out.

    Args:
        config: Content of ``config.yaml``.
    """
    chosen = {name: value for name, value in config.items() if name not in _DERIVED and not name.endswith("_sha256")}
    if isinstance(search := chosen.get(SWEEP), Mapping):
        chosen[SWEEP] = f"{search.get('settings')} settings, {search.get('choose')}"
    untrained = config.get("untrained", ())
    names = [f"{name} (untrained)" if name in untrained else name for name in config.get("features", {})]
    if LABEL_MAP in chosen:  # of several corpora, with dozens of entries
        chosen[LABEL_MAP] = hash_of(chosen[LABEL_MAP])[:6]
    flat = _flat({**chosen, "features": " + ".join(names)})
    if seeds := tuple(config.get("seeds", ())):
        usual = len(seeds) <= _MOST_SEEDS and seeds == first_seeds(len(seeds))
        flat["seeds"] = str(len(seeds)) if usual else ",".join(map(str, seeds))
    return flat


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = _text(value)
    return found


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)


def compared_settings(runs: Sequence[RunFolder]) -> list[dict[str, str]]:
    """Return the settings of each run as text, with the same names for all runs.

    A setting that a run does not record has its default value, or ``default`` for options of heads.
    """
    found = [settings_text(run.config) for run in runs]
    fingerprints = [[*run.config.get("features", {}).values()] for run in runs]
    by_name: dict[str, set[str]] = {}
    for settings, checksums in zip(found, fingerprints, strict=True):
        by_name.setdefault(settings["features"], set()).add(str(checksums))
    for settings, checksums in zip(found, fingerprints, strict=True):
        if len(by_name[settings["features"]]) > 1:
            settings[CONTENT] = "+".join(str(one)[:6] for one in checksums)
    names = list(dict.fromkeys(name for settings in found for name in settings))
    return [with_defaults(settings, names) for settings in found]


def with_defaults(settings: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Return the named settings of a fit; one that it does not record has its default value."""
    usual = _defaults()
    return {name: settings.get(name, usual.get(name, NOT_SET)) for name in names}


def _defaults() -> dict[str, str]:
    fit = {
        name: _text(field.default)
        for name, (field, about) in {**settings_of(FinetuneSettings), **settings_of(FitSettings)}.items()
        if about.identity and field.default is not MISSING and name not in TrainingConfig.__dataclass_fields__
    }
    return (
        fit | {SWEEP: "none"} | {f"{_TRAINING}{name}": _text(value) for name, value in asdict(TrainingConfig()).items()}
    )


def differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the names of the settings that are not equal in all runs, in their order.

    Args:
        settings: Settings of each run, from :func:`compared_settings`.
    """
    return [name for name in (settings[0] if settings else ()) if len({one[name] for one in settings}) > 1]


def distinguishing(settings: Sequence[Mapping[str, str]], first: Sequence[str] = ()) -> list[str]:
    """Return the settings in which runs differ, without those that always change together with an earlier one.

    Features, trained blocks, head and norm are never left out: a reader must see that they differ.
    A setting that a run does not have (an ensemble has no learning rate) is not counted as a difference.

    Args:
        settings: Settings of each run.
        first: Names that come first; after them come the main settings.
    """
    names = list(dict.fromkeys([*first, *MAIN, *(name for one in settings for name in one)]))
    found, patterns = [], set[tuple[str | None, ...]]()
    for name in names:
        values = [one.get(name) for one in settings]
        numbers: dict[str | None, str | None] = {None: None}
        pattern = tuple(numbers.setdefault(value, str(len(numbers))) for value in values)
        if len(numbers) > 2 and (name in _SHOWN or not any(_follows(pattern, other) for other in patterns)):
            patterns.add(pattern)
            found.append(name)
    return found


def _follows(pattern: Sequence[str | None], other: Sequence[str | None]) -> bool:
    """Return whether one setting is determined by another, in all runs that have it."""
    pairs = {(before, value) for before, value in zip(other, pattern, strict=True) if value is not None}
    return len({before for before, _ in pairs}) == len(pairs)


def find_setting(name: str, settings: Sequence[Mapping[str, str]]) -> str:
    """Return the full name of a setting: ``learning_rate`` is ``training.learning_rate``.

    Args:
        name: Full name, or its last part if no other setting ends with it; ``-`` and ``_`` are the same.
        settings: Settings of each run, from :func:`compared_settings`.

    Raises:
        PredictionsError: no run has such a setting, or several settings end with the name.
    """
    known = {**settings[0], **_defaults()}
    wanted = name.replace("-", "_")
    if wanted in known or name in known:
        return wanted if wanted in known else name
    ending = [one for one in known if one.rpartition(".")[2] == wanted]
    if len(ending) > 1:
        raise PredictionsError(f"which setting {name!r}? {' or '.join(ending)}")
    if not ending:
        raise PredictionsError(unknown_name("setting of these runs", name, known))
    return ending[0]


def value_of(name: str, settings: Mapping[str, str]) -> str:
    """Return the value of a setting as text, also if no run records it."""
    return settings.get(name, _defaults().get(name, NOT_SET))
