"""Short name, Hugging Face id or folder → frozen speech model, pretrained or untrained."""

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from featcache.errors import ModelError, unknown_name
from featcache.extractors.aliases import S3PRL
from featcache.extractors.checkpoint import SPEECH, is_folder, open_checkpoint
from featcache.extractors.families import FAMILIES, Family, family_of, weight_prefixes, xvector_family
from featcache.extractors.hub import find_local
from featcache.extractors.preprocessing import read_feature_extractor
from featcache.extractors.pretrained import (
    check_memory,
    count_parameters,
    explained,
    freeze,
    hash_parameters,
    quiet_transformers,
    ways_to_get,
)
from featcache.files.regular import resolved

SAMPLING_RATE = 16000
RANDOM_WEIGHTS_SEED = 0

log = logging.getLogger(__name__)

# oneDNN compiles convolutions for each utterance length. By default it keeps the last 1024 of them, half a gigabyte for
# a base model, but few are used again. It reads this variable when it compiles the first convolution.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A frozen model, ready to run.

    Attributes:
        family: Family of the model.
        module: Model or encoder, in evaluation mode, without gradients, float32.
        feature_extractor: Feature extractor, which prepares the input of the model.
        model_id: Hugging Face id or folder name.
        revision: Commit on the hub; None for folders and untrained models.
        weights_revision: Commit of the weights on the hub; it differs from ``revision`` if that commit contains them as
            a pickle only.
        weights_sha256: SHA-256 of all parameters, in order of their names.
        num_parameters: Number of parameters of the module.
        whole: Model of transformers with the module, in order to save it; None unless requested.
    """

    family: type[Family]
    module: Any
    feature_extractor: Any
    model_id: str
    revision: str | None
    weights_revision: str | None
    weights_sha256: str
    num_parameters: int
    whole: Any = None


@cache
def known_models() -> dict[str, dict[str, Any]]:
    """Return the speech models of the package: short name → ``model_id``, ``family``, ``do_normalize``, ``config``."""
    models: dict[str, dict[str, Any]] = json.loads(files("featcache.extractors").joinpath("models.json").read_text())
    return models


@cache
def known_text_models() -> dict[str, dict[str, Any]]:
    """Return the text models of the package, by short name.

    Each entry has ``model_id``, ``family``, ``num_layers``, ``hidden_size`` and ``config``.
    """
    text = files("featcache.extractors").joinpath("text_models.json").read_text()
    models: dict[str, dict[str, Any]] = json.loads(text)
    return models


def short_name(model: str) -> str:
    """Return the name of a model's store: its short name, its folder's name, or its id with ``--`` for ``/``.

    A name of s3prl gives the short name of the same model.
    """
    known = known_models() | known_text_models()
    if model in known:
        return model
    if model in S3PRL:
        return S3PRL[model]
    if is_folder(model):
        return resolved(model).name
    if is_path(model):
        return re.split(r"[\\/]", model.rstrip("\\/"))[-1]
    by_id = {entry["model_id"]: name for name, entry in known.items()}
    return by_id.get(model, model.replace("/", "--"))


def dimensions(family: str, config: Mapping[str, Any]) -> tuple[int, int]:
    """Return the number of layers and the hidden size of a configuration.

    Args:
        family: ``model_type`` of the configuration.
        config: Configuration entries; missing entries have their defaults.

    Raises:
        ValueError: an entry has the wrong type; the message is the reason.
    """
    return FAMILIES.get(family, Family).dimensions(config)


def frames_per_hour(family: str) -> int:
    """Return the number of frames of an hour of audio.

    Args:
        family: ``model_type`` of the configuration.
    """
    return round(3600 / FAMILIES.get(family, Family).usual_frame_shift)


def entry_of(model: str) -> dict[str, Any] | None:
    """Return the package's entry for a short name, a name of s3prl or a Hugging Face id; None if there is none."""
    name = short_name(model)
    return None if is_folder(model) else known_models().get(name) or known_text_models().get(name)


def is_local(model: str) -> bool:
    """Return whether the configuration and weights of a model are available without network."""
    return local_folder(model) is not None


def local_folder(model: str) -> Path | None:
    """Return the folder on this machine that contains a model, or None.

    Args:
        model: Short name, name of s3prl, Hugging Face id, or folder.
    """
    if is_folder(model):
        return Path(model)
    entry = entry_of(model)
    return find_local(entry["model_id"] if entry else model)


def load(
    model: str,
    *,
    weights: Literal["pretrained", "random"] = "pretrained",
    revision: str | None = None,
    num_blocks: int | None = None,
    xvector: bool = False,
    keep_whole: bool = False,
) -> LoadedModel:
    """Load a speech model, frozen.

    Args:
        model: Short name, name of s3prl, Hugging Face id, or folder with ``config.json`` and safetensors weights.
        weights: ``pretrained``, or ``random`` for the untrained architecture, always with the same random weights.
            Short names need no network for ``random``.
        revision: Branch, tag or commit on the Hugging Face hub.
        num_blocks: Number of transformer blocks to keep, from the first; None keeps all. The weights of the other
            blocks are not read. The random weights of a block do not depend on ``num_blocks``.
        xvector: Whether to load the speaker recognition model, which computes x-vectors, instead of its encoder.
        keep_whole: Whether to keep the parts that are not needed for features, such as a decoder.

    Returns:
        The model and the information that identifies it.

    Raises:
        ModelError: the name is unknown; the model is not a speech model of a known family; it has fewer blocks than
            requested, or no x-vectors; its weights are missing, incomplete or pickled; the hub cannot be reached.
    """
    source, entry = resolve(model)
    instead = ways_to_get(model, untrained=entry is not None)
    with quiet_transformers(), explained(model, instead):
        if weights == "random":
            family, whole, feature_extractor = _untrained(source, entry, revision, num_blocks, xvector)
            commit = weights_commit = None
        else:
            found = _pretrained(source, revision, num_blocks, xvector)
            family, whole, feature_extractor, commit, weights_commit = found
        module = family.part(whole)
        if weights == "random":
            # All blocks are built first: a smaller model would draw other random weights for the same blocks.
            blocks = family(module, feature_extractor).blocks
            del blocks[num_blocks or len(blocks) :]
    freeze(whole)
    return LoadedModel(
        family=family,
        module=module,
        feature_extractor=feature_extractor,
        model_id=model_id_of(source),
        revision=commit,
        weights_revision=weights_commit,
        weights_sha256=hash_parameters(module, family.lasting_name),
        num_parameters=count_parameters(module),
        whole=whole if keep_whole else None,
    )


def resolve(model: str, *, text: bool = False, transcribes: bool = False) -> tuple[str, dict[str, Any] | None]:
    """Return the folder or Hugging Face id of a model, and the package's entry for it.

    Args:
        model: Short name, Hugging Face id, or folder.
        text: Whether a text model is expected instead of a speech model.
        transcribes: Whether the message on an unknown name lists only models that can transcribe.

    Returns:
        The folder or id, and the entry of :func:`known_models` or :func:`known_text_models`; None if there is none.

    Raises:
        ModelError: the name is unknown or belongs to a model of the other kind, or the folder contains no model.
    """
    known, others = known_models(), known_text_models()
    if text:
        known, others = others, known
    if is_folder(model):
        if model in known or model in others or model in S3PRL:
            log.info("%s: the folder of this name is used, not the model", model)
        return model, None
    if os.path.isdir(model):
        raise ModelError(f"{model} is a folder without a config.json, expected a model that transformers can load")
    if os.path.lexists(model) or is_path(model):
        found = "is not a folder" if os.path.lexists(model) else "does not exist"
        raise ModelError(
            f"model folder {model!r} {found}; expected a folder with config.json and model.safetensors, a short name "
            f"such as {next(iter(known))}, or a Hugging Face id such as {next(iter(known.values()))['model_id']}"
        )
    entry = known.get(short_name(model))
    if entry is None and short_name(model) in others:
        raise ModelError(of_other_kind(model, others[short_name(model)]["family"], text=text))
    if entry is None and "/" not in model:
        if transcribes:
            known = {name: one for name, one in known.items() if FAMILIES[one["family"]].transcribes}
        example = next(iter(known.values()))["model_id"]
        hint = f"a folder or a Hugging Face id like {example!r} works too"
        raise ModelError(unknown_name("text model" if text else "model", model, known, hint=hint))
    if entry and os.path.isdir(entry["model_id"]):
        log.info("%s: the folder %s is used, not the model of the hub", model, entry["model_id"])
    return entry["model_id"] if entry else model, entry


def is_path(model: str) -> bool:
    """Return whether a name has the form of a path, and not of a short name or a Hugging Face id."""
    return (
        model in (".", "..") or "\\" in model or ("/" in model and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model) is None)
    )


def of_other_kind(model: str, family: str, *, text: bool) -> str:
    """Return the message for a speech model where a text model is expected, or the other way round.

    Args:
        model: Name of the model.
        family: transformers' ``model_type``.
        text: Whether a text model is expected.
    """
    if text:
        return f"{model} is a {family!r} speech model, expected a text model such as tinybert; use it with --model"
    return f"{model} is a {family!r} text model, expected a speech model such as wav2vec2-base; use it with --text"


def model_id_of(source: str) -> str:
    """Return the id that is stored for a model: its Hugging Face id, or the name of its folder.

    Args:
        source: Folder or Hugging Face id, as :func:`resolve` returns it.
    """
    return resolved(source).name if is_folder(source) else source


def store_model_id(model: str) -> str:
    """Return the id that a store's settings contain for a model: its Hugging Face id, or the name of its folder.

    Args:
        model: Short name, Hugging Face id, or folder.
    """
    entry = entry_of(model)
    if entry:
        return str(entry["model_id"])
    return resolved(model).name if os.path.isdir(model) else model


def _pretrained(
    source: str, revision: str | None, num_blocks: int | None, xvector: bool
) -> tuple[type[Family], Any, Any, str | None, str | None]:
    with open_checkpoint(source, revision, names=SPEECH, prefixes=weight_prefixes) as checkpoint:
        family = family_of(checkpoint)
        if xvector:
            family = xvector_family(family, source, checkpoint.config.get("architectures"))
        config = family.read_configuration(checkpoint)
        family.shorten(config, num_blocks, source)
        has_preprocessor = any(checkpoint.has(name) for name in SPEECH)
        if family.needs_preprocessor and not has_preprocessor:
            raise ModelError(
                f"{source}: cannot be loaded (it has no {SPEECH[0]}, which describes how audio is prepared; copy the "
                "checkpoint's file into the folder of the weights)"
            )
        module = family.load(checkpoint, config)
        if has_preprocessor:
            feature_extractor = read_feature_extractor(checkpoint, config, family)
        else:
            feature_extractor = family.new_feature_extractor(config, do_normalize=None)
        return family, module, feature_extractor, checkpoint.revision, checkpoint.weights_revision


def _untrained(
    source: str, entry: dict[str, Any] | None, revision: str | None, num_blocks: int | None, xvector: bool
) -> tuple[type[Family], Any, Any]:
    import torch

    if entry:
        family = FAMILIES[entry["family"]]
        if xvector:
            family = xvector_family(family, source)
        config = family.configuration(entry["config"])
        feature_extractor = family.new_feature_extractor(config, do_normalize=entry.get("do_normalize"))
    else:
        with open_checkpoint(source, revision, names=SPEECH, weights=False) as checkpoint:
            family = family_of(checkpoint)
            if xvector:
                family = xvector_family(family, source)
            config = family.read_configuration(checkpoint)
            if any(checkpoint.has(name) for name in SPEECH):
                feature_extractor = read_feature_extractor(checkpoint, config, family)
            else:  # An untrained architecture needs only a config.json.
                feature_extractor = family.new_feature_extractor(config, do_normalize=True)
    model_class = family.model_class()
    check_memory(model_class, config, source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_WEIGHTS_SEED)
        module = model_class(config)
    family.shorten(config, num_blocks, source)
    return family, module, feature_extractor
