"""Description of a search → notes for the report: how much was tried, and how the setting was chosen."""

from collections.abc import Mapping, Sequence
from typing import Any

from featcache.evaluate.scores import Score
from featcache.fitting.resolve import ResolvedFit
from featcache.settings.searches import PER_FOLD, value_text
from featcache.units import counted

_OVER_FOLDS = "One setting was chosen for all folds by the {on}: {chosen}."
_PER_FOLD = "Each fold uses the setting with the highest {on}; test utterances of a fold had no part in its choice."
_UNTESTED = (
    "Test scores were not used for the choice. The validation {label} is the highest of {number} and therefore "
    "optimistic."
)
_TESTED = (
    "Utterances that validate in one fold are tested in another, so the test scores may be slightly optimistic; "
    "--choose per-fold avoids this."
)


def search_notes(described: Mapping[str, Any], score: Score, setups: Sequence[ResolvedFit]) -> list[str]:
    """Return the notes on a search.

    Args:
        described: Description of the search, as in ``config.yaml``.
        score: Score by which settings were chosen.
        setups: The resolved request of each fold.
    """
    number, on = described["settings"], described["chosen_on"]
    options = "; ".join(f"{name} {_values(name, values)}" for name, values in described["options"].items())
    drawn = f", drawn in {counted(described['trials'], 'trial')}" if "trials" in described else ""
    told = [
        f"{counted(number, 'setting')} were tried{drawn}: {options}."
        if number != 1
        else f"1 setting was tried: {options}."
    ]
    if described["choose"] == PER_FOLD:
        told.append(_PER_FOLD.format(on=on))
    else:
        told.append(_OVER_FOLDS.format(on=on, chosen=setting_text(described["chosen"])))
    told.append(_UNTESTED.format(label=score.label, number=number))
    if described["choose"] != PER_FOLD and number > 1 and _validates_tested(setups[0]):
        told.append(_TESTED)
    return told


def setting_text(values: Mapping[str, Any]) -> str:
    """Return the values of a setting as text: ``learning_rate=0.001, batch_size=16``."""
    return ", ".join(f"{name}={value_text(name, value)}" for name, value in values.items())


def _values(name: str, values: Any) -> str:
    if isinstance(values, str):
        return values
    texts = [value_text(name, value) for value in values]
    return (" | " if any("," in text for text in texts) else ", ").join(texts)


def _validates_tested(setup: ResolvedFit) -> bool:
    tested = {one for fold in setup.folds for one in fold.test}
    return any(one in tested for fold in setup.folds for one in fold.validation)
