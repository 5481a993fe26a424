"""Files of a run folder → one of its heads. Everything is checked, because a run folder may come from anybody."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from featcache.cache.identity import StoreIdentity
from featcache.errors import ModelError, StoreError
from featcache.extractors.upper import load_upper
from featcache.files.values import check_types, damaged
from featcache.heads import HEADS as REGISTRY
from featcache.heads import SOLVERS, Head, HeadSpec, create_head, head_spec, head_weights
from featcache.heads.base import POOLINGS, frame_sizes
from featcache.heads.tuned import TunedHead
from featcache.normalise import SCOPES
from featcache.registry import is_external
from featcache.runs.file_names import CONFIG, HEADS, head_name, seed_and_fold
from featcache.runs.head_inputs import HeadInput, Shapes, check_shapes, read_head_inputs
from featcache.runs.identity import LABEL_NAMES, SET_BY_FOLD, STORE_SETTINGS, THRESHOLDS
from featcache.runs.model_files import checked_model
from featcache.runs.parse import REFIT, open_tensors
from featcache.runs.saved_head import LinearModel, SavedHead
from featcache.runs.saved_statistics import read_statistics
from featcache.runs.tuned_inputs import TunedInput, read_tuned_inputs
from featcache.settings.checked import configured

log = logging.getLogger(__name__)

# Entries of the origin of a head that a message shows, and the largest number of characters.
_ORIGIN, _MOST_TOLD = ("distribution", "version", "sha256"), 80
# Names of the tasks in config.yaml.
CLASSIFICATION, REGRESSION, MULTILABEL = "classification", "regression", "multilabel"
# Largest label value: the difference of two such values is finite in float32.
_LARGEST = torch.finfo(torch.float32).max / 2


def load_head(
    folder: Path, config: Mapping[str, Any], *, seed: int, fold: int, with_statistics: bool = True
) -> SavedHead:
    """Load one head of a run, see :meth:`featcache.runs.reader.RunFolder.head`.

    Args:
        folder: The run folder.
        config: The content of its ``config.yaml``.
        seed: A seed of the run.
        fold: Number of a fold, from 1 on.
        with_statistics: Whether to read the statistics of the normalisation; those of many speakers are large.

    Returns:
        The head in evaluation mode, on the CPU.

    Raises:
        StoreError: the run has no such seed or fold, it is an ensemble, a file is damaged, or the head is code from
            outside of featcache that the user did not name.
    """
    if "members" in config:
        members = ", ".join(config["members"])
        raise StoreError(f"{folder} is an ensemble without a head; load the heads of its members: {members}")
    config = config_of_fold(folder, config, fold)
    for name, known in (("norm", SCOPES), ("pooling", (None, *POOLINGS))):
        if config[name] not in known:
            raise damaged(folder / CONFIG, f"{name}: expected one of {', '.join(map(str, known))}", REFIT)
    _check_exists(folder, seed, fold)
    path = folder / head_name(seed, fold)
    with open_tensors(folder, head_name(seed, fold)) as tensors:
        stored = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118, it is not a mapping
        shapes = {name: tuple(one.get_shape()) for name, one in stored.items()}
        spec = _spec(folder, config)
        dtypes = {"F32", "I64"} if spec.is_network else {"F64", "I64"}
        if not {one.get_dtype() for one in stored.values()} <= dtypes:
            raise damaged(path, "its weights have another dtype", REFIT)
        inputs = read_head_inputs(folder, config, shapes)
        outputs, ranges = _outputs(folder / CONFIG, config)
        thresholds = None
        if config["task"] == MULTILABEL:
            check_shapes(path, {THRESHOLDS: (len(outputs),)}, {THRESHOLDS: shapes.pop(THRESHOLDS, ())})
            thresholds = tensors.get_tensor(THRESHOLDS).clone()
        tuned = read_tuned_inputs(folder, config)
        make = partial(_network, tuned=tuned) if spec.is_network else _linear_model
        head = make(path, config, inputs, len(outputs), shapes, lambda name: tensors.get_tensor(name).clone())
    if tuned:
        head = _with_models(folder, config, cast(Head, head), tuned, seed=seed, fold=fold)
    statistics = None
    if config["norm"] != "none" and with_statistics:
        statistics = read_statistics(folder, inputs, fold=fold if config["norm"] == "global" else None)
    saved = SavedHead(
        folder,
        head,
        config,
        inputs,
        outputs=outputs,
        ranges=ranges,
        statistics=statistics,
        thresholds=thresholds,
    )
    return saved.eval()


def config_of_fold(folder: Path, config: Mapping[str, Any], fold: Any) -> Mapping[str, Any]:
    """Return the configuration with the options of the head of one fold, if a search chose them for each fold.

    Args:
        folder: The run folder.
        config: The content of its ``config.yaml``.
        fold: Number of the fold.

    Raises:
        StoreError: the configuration has no options for this fold.
    """
    of_folds = config.get(SET_BY_FOLD)
    if of_folds is None or not isinstance(fold, Integral):
        return config
    if not 1 <= int(fold) <= len(of_folds):
        raise damaged(folder / CONFIG, f"{SET_BY_FOLD}: expected the options of the head of fold {fold}", REFIT)
    return {**config, "set": of_folds[int(fold) - 1]}


def _spec(folder: Path, config: Mapping[str, Any]) -> HeadSpec:
    try:
        spec = head_spec(config["head"])
        _compare_origin(folder, config)
    except ModelError as error:
        if is_external(config["head"]):
            raise StoreError(f"{folder / CONFIG}: {error}") from error
        raise damaged(folder / CONFIG, str(error), REFIT) from error
    return spec


def _compare_origin(folder: Path, config: Mapping[str, Any]) -> None:
    """Warn if a head from outside of featcache has changed since the run was trained."""
    name = config["head"]
    if name in SOLVERS or (origin := REGISTRY.origin(name)) is None:
        return
    recorded: dict[str, Any] = config.get("parts", {})
    check_types(recorded, {"head": (dict,)}, f"{folder / CONFIG}, parts,", REFIT)
    then, now = ({**one, "reference": ""} for one in (recorded.get("head", {}), origin.settings()))
    if then != now:
        told = [" ".join(str(one.get(key, "")) for key in _ORIGIN).split() for one in (then, now)]
        before, present = (" ".join(words)[:_MOST_TOLD] or "unknown code" for words in told)
        log.warning(
            "%s: head %r was trained as %s and is now %s; its outputs may differ", folder, name, before, present
        )


def _check_exists(folder: Path, seed: Any, fold: Any) -> None:
    """Check that the run has a head of this seed and fold.

    Raises:
        StoreError: it has none; the message lists the seeds and folds of the run.
    """
    found = {one for one in map(seed_and_fold, (path.stem for path in (folder / HEADS).glob("*.safetensors"))) if one}
    if not all(isinstance(one, Integral) for one in (seed, fold)) or (seed, fold) not in found:
        seeds, folds = (", ".join(map(str, sorted({one[i] for one in found}))) or "none" for i in (0, 1))
        raise StoreError(f"{folder} has no head of seed {seed!r} and fold {fold!r}; seeds: {seeds}; folds: {folds}")


def _outputs(path: Path, config: Mapping[str, Any]) -> tuple[list[str], Tensor | None]:
    """Return the names of the outputs and, for a regression, the label values of 0 and 1: (num_outputs, 2) float32."""
    if config["task"] == CLASSIFICATION:
        classes: list[str] = config["classes"]
        if len(classes) < 2 or not all(isinstance(name, str) for name in classes):
            raise damaged(path, "classes: expected two names or more", REFIT)
        return classes, None
    if config["task"] == MULTILABEL:
        names: list[str] = config[LABEL_NAMES]
        if not names or not all(isinstance(name, str) for name in names):
            raise damaged(path, f"{LABEL_NAMES}: expected one name or more", REFIT)
        return names, None
    if config["task"] != REGRESSION:
        raise damaged(path, f"task: expected {CLASSIFICATION}, {REGRESSION} or {MULTILABEL}", REFIT)
    ranges: dict[str, Any] = config["label_ranges"]
    if not ranges or not all(isinstance(name, str) and _is_range(bounds) for name, bounds in ranges.items()):
        raise damaged(path, "label_ranges: expected the lowest and the highest value of each label", REFIT)
    return list(ranges), torch.tensor([list(map(float, bounds)) for bounds in ranges.values()])


def _is_range(bounds: Any) -> bool:
    numbers = isinstance(bounds, list) and len(bounds) == 2 and all(isinstance(one, int | float) for one in bounds)
    return numbers and -_LARGEST < bounds[0] < bounds[1] < _LARGEST


def _network(
    path: Path,
    config: Mapping[str, Any],
    inputs: Sequence[HeadInput],
    num_outputs: int,
    shapes: Shapes,
    tensor: Callable[[str], Tensor],
    *,
    tuned: Sequence[TunedInput],
) -> nn.Module:
    """Create a head with the configured sizes and load the saved weights.

    Raises:
        StoreError: the weights have other sizes, or the head of the configuration does not exist.
    """
    name, given = config["head"], config.get("set", {})
    try:
        if not all(isinstance(option, str) for option in given):
            raise ModelError("set: expected options by name")
        sizes: dict[str, Any] = {
            "num_layers": [len(one.layers) for one in tuned or inputs],
            "hidden_sizes": [one.hidden_size for one in inputs],
            "num_outputs": num_outputs,
            "layer_weighting": config["layer_weighting"],
            "pooling": config["pooling"],
            "paired": len(inputs) == 1 or config["fused"] == "frames",
            "options": configured(head_spec(name).options, given, f"head {name!r}"),
        }
        expected = head_weights(name, **sizes)  # needs no memory, whatever sizes the configuration contains
        check_shapes(path, {key: tuple(one.shape) for key, one in expected.items()}, shapes)
        head = create_head(name, **sizes, seed=0)
    except ModelError as error:
        raise damaged(path.parents[1] / CONFIG, str(error), REFIT) from error
    weights = {key: tensor(key) for key in shapes}
    if any(weights[key].dtype != one.dtype for key, one in expected.items()):
        raise damaged(path, "its weights have another dtype", REFIT)
    head.load_state_dict(weights)
    return head


def _with_models(
    folder: Path, config: Mapping[str, Any], head: Head, tuned: Sequence[TunedInput], *, seed: int, fold: int
) -> TunedHead:
    """Put the fine-tuned models of a training before its head.

    Raises:
        StoreError: the folder of a model is missing or damaged, or the configuration does not match it.
    """
    identities: dict[str, Any] = config.get(STORE_SETTINGS) or {}
    models = {}
    for one in tuned:
        path, _ = checked_model(folder, one.store, seed=seed, fold=fold)
        check_types(identities, {one.store: (dict,)}, f"{folder / CONFIG}, {STORE_SETTINGS},", REFIT)
        settings = identities[one.store]
        try:
            models[one.store] = load_upper(
                str(path),
                text=StoreIdentity(settings=settings).reads_text,
                with_padding=settings.get("keep_padding") is True,
                from_layer=one.from_layer,
                layers=",".join(one.layers),
                expected_sha256=None,
            )
        except ModelError as error:
            raise damaged(path, str(error), REFIT) from error
    return TunedHead(head, models, paired=config.get("fused") == "frames", frozen=True)


def _linear_model(
    path: Path,
    config: Mapping[str, Any],
    inputs: Sequence[HeadInput],
    num_outputs: int,
    shapes: Shapes,
    tensor: Callable[[str], Tensor],
) -> nn.Module:
    """Create the linear model of a solver from the saved weights.

    Raises:
        StoreError: the weights have other sizes.
    """
    has_frames = (
        config["pooling"] is None and inputs[0].frame_shift is not None
    )  # functionals have neither pooling nor frames
    if len(inputs) != 1 or inputs[0].num_layers != 1 or has_frames:
        raise damaged(path.parents[1] / CONFIG, f"head {config['head']!r} needs one pooled layer of one store", REFIT)
    [size] = frame_sizes([inputs[0].hidden_size], config["pooling"])
    trained = None
    if config["task"] == CLASSIFICATION and len(shapes.get("classes", ())) == 1 and shapes["classes"][0] <= num_outputs:
        trained = tensor("classes")
    number = num_outputs if trained is None else len(trained) if len(trained) > 2 else 1
    expected: dict[str, tuple[int, ...]] = {"coef": (number, size), "intercept": (number,)}
    if config["task"] == CLASSIFICATION:
        expected["classes"] = (num_outputs if trained is None else max(2, len(trained)),)
    check_shapes(path, expected, shapes)
    if trained is not None and (trained.dtype != torch.int64 or not _are_positions(trained.tolist(), num_outputs)):
        raise damaged(path, "classes: expected positions among the classes of config.yaml", REFIT)
    return LinearModel(tensor("coef").double(), tensor("intercept").double(), trained, num_outputs)


def _are_positions(numbers: list[int], below: int) -> bool:
    return numbers == sorted(set(numbers)) and set(numbers) <= set(range(below))
