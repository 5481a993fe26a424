"""Request with several values of its options → settings to try, and the request of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from featcache.errors import FeatcacheError, ModelError, unknown_name
from featcache.fitting.common_options import are_solved, options_for
from featcache.heads import head_spec, without_steps
from featcache.settings.checked import configured
from featcache.settings.field import settings_of, values_of
from featcache.settings.fits import TRAINING_STEPS, FeatureSettings, FitSettings, TargetSettings
from featcache.settings.searches import OF_HEAD, PER_FOLD, Range, SearchSettings, read_range_of_search

Setting = Mapping[str, Any]
"""Option → value; options of the head begin with ``set.``."""
# Options that decide what is predicted, for which utterances, and how often: scores would not be comparable.
_FIXED = {
    *TargetSettings.__dataclass_fields__,
    *SearchSettings.__dataclass_fields__,
    *("set", "final", "fold", "seeds", "train", "test", "label_map", "train_fraction", "test_view"),
}
# Options that change the features or the network: a run folder has one value of each for all folds.
_ALL_FOLDS = {*FeatureSettings.__dataclass_fields__, "head", "norm"}
# Digits of numbers that are drawn from a range, so that settings are short to write.
DIGITS = 4


class SearchSpace:
    """Values of options to try.

    Args:
        request: The settings of the fit, with ``sweep``.

    Attributes:
        request: The settings of the fit, without the search.
        options: Option → values, or a range to draw from.

    Raises:
        ModelError: an option or value cannot be tried.
    """

    def __init__(self, request: FitSettings) -> None:
        if not request.sweep:
            raise ModelError(
                "--trials needs options to draw from; add --sweep OPTION=log:LOW..HIGH or --sweep OPTION=A,B"
            )
        self.request = replace(request, sweep={}, trials=None, choose=SearchSettings().choose)
        self._heads = [*map(str, request.sweep.get("head", (request.head,)))]
        self.options: dict[str, tuple[Any, ...] | Range] = {}
        for name, values in request.sweep.items():
            self._check_name(name, request.choose)
            found = read_range_of_search(values)
            if found and request.trials is None:
                raise ModelError(f"--sweep {name}={values}: a range needs --trials; without it, list the values")
            self.options[name] = found or tuple(values)

    def _check_name(self, name: str, choose: str) -> None:
        known = [one for one, (_, about) in settings_of(FitSettings).items() if about.identity and one not in _FIXED]
        if name in _FIXED:
            raise ModelError(
                f"--sweep {name}: expected an option of features, head or training; scores of settings that differ in "
                f"{name} cannot be compared"
            )
        if name not in known and not name.startswith(OF_HEAD):
            advice = f"; for an option of the head, write {OF_HEAD}NAME"
            raise ModelError(f"--sweep {name}: {unknown_name('option', name, known)}{advice}")
        if name in TRAINING_STEPS and are_solved(self._heads):
            raise ModelError(f"--sweep {name}: {without_steps(self._heads[0])}")
        if choose == PER_FOLD and name in _ALL_FOLDS:
            raise ModelError(
                f"--sweep {name}: --choose {PER_FOLD} needs the same features and head in all folds; "
                "use --choose over-folds"
            )

    def grid(self) -> list[Setting]:
        """Return every combination of the values, the last option varying fastest."""
        lists = [values for values in self.options.values() if not isinstance(values, Range)]
        return [dict(zip(self.options, values, strict=True)) for values in product(*lists)]

    def checks(self) -> list[Setting]:
        """Return a few settings that together contain every listed value and the ends of every range."""
        columns = {name: list(_examples(values)) for name, values in self.options.items()}
        number = max(map(len, columns.values()))
        return [{name: column[i % len(column)] for name, column in columns.items()} for i in range(number)]

    def request_of(self, setting: Setting) -> FitSettings:
        """Return the request that trains a setting.

        Raises:
            ModelError: a value is not accepted, or the head does not use an option.
        """
        given = values_of(self.request)
        given["set"] = {**given["set"], **{_short(name): one for name, one in setting.items() if name != _short(name)}}
        given |= {name: value for name, value in setting.items() if name == _short(name)}
        if not are_solved(self._heads):  # options of training steps are for the other heads
            given = options_for(given["head"], given)
        try:
            return configured(FitSettings, given)
        except FeatcacheError as error:
            raise ModelError(f"--sweep {', '.join(self.options)}: {error}") from error

    def values(self, request: FitSettings) -> dict[str, Any]:
        """Return the values that a request has for the options of the search that its head uses, in their types."""
        of_head = configured(head_spec(request.head).options, request.set, f"head {request.head!r}")
        return {
            name: getattr(request, name) if name == _short(name) else getattr(of_head, _short(name))
            for name in options_for(request.head, self.options)
        }

    def listed(self, name: str, values: Sequence[Any]) -> list[Any]:
        """Return the listed values of an option in their types."""
        head = next((one for one in self._heads if options_for(one, {name: None})), self._heads[0])
        of_head = {} if name == "head" else {"head": head}
        return [self.values(self.request_of({**of_head, name: value}))[name] for value in values]


def _short(name: str) -> str:
    return name.removeprefix(OF_HEAD)


def _examples(values: tuple[Any, ...] | Range) -> Iterator[Any]:
    if not isinstance(values, Range):
        yield from values
        return
    inside = values.low + (values.high - values.low) / 3.14159  # not an integer, unless integers are drawn
    for number in (values.low, values.high, *([] if values.whole else [inside])):
        yield drawn_number(number, values)


def drawn_number(number: float, limits: Range) -> float | int:
    """Return a number that was drawn from a range: an integer, or four significant digits within the range."""
    if limits.whole:
        return round(number)
    return min(max(float(f"{number:.{DIGITS}g}"), limits.low), limits.high)
