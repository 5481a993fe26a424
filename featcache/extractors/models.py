"""Name → frozen model. Short names, Hugging Face ids and folders; pretrained, or the same architecture untrained."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from featcache.errors import ModelError, unknown_name
from featcache.extractors.checkpoint import SPEECH, is_folder, open_checkpoint
from featcache.extractors.preprocessing import read_feature_extractor
from featcache.extractors.pretrained import (
    check_memory,
    explained,
    freeze,
    hash_parameters,
    pretrained_module,
    quiet_transformers,
    read_configuration,
)
from featcache.files.regular import resolved

# transformers' model_type → the class that holds the encoder
FAMILIES = {
    "wav2vec2": "Wav2Vec2Model",
    "hubert": "HubertModel",
    "wavlm": "WavLMModel",
    "unispeech": "UniSpeechModel",
    "unispeech-sat": "UniSpeechSatModel",
    "data2vec-audio": "Data2VecAudioModel",
    "whisper": "WhisperModel",
}
SAMPLING_RATE = 16000
# What decides on a model's numbers beside its weights and their shapes.
ARCHITECTURE = (
    "activation_function",
    "conv_stride",
    "do_stable_layer_norm",
    "encoder_attention_heads",
    "feat_extract_activation",
    "hidden_act",
    "layer_norm_eps",
    "max_bucket_distance",
    "num_attention_heads",
    "num_conv_pos_embedding_groups",
    "scale_embedding",
)
RANDOM_WEIGHTS_SEED = 0


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A frozen model, ready to run.

    Attributes:
        module: transformers' model or encoder, in evaluation mode, without gradients, float32.
        feature_extractor: transformers' own, which normalises the waveform or computes Whisper's log-mel spectrogram.
        model_id: Hugging Face id or folder name.
        revision: The commit that was resolved; None for folders and untrained models.
        weights_sha256: Over all parameters, in order of their names.
    """

    module: Any
    feature_extractor: Any
    model_id: str
    revision: str | None
    weights_sha256: str


@cache
def known_models() -> dict[str, dict[str, Any]]:
    """Short name → ``model_id``, ``family``, ``do_normalize``, ``config``, as carried by the package."""
    models: dict[str, dict[str, Any]] = json.loads(files("featcache.extractors").joinpath("models.json").read_text())
    return models


@cache
def known_text_models() -> dict[str, dict[str, Any]]:
    """Short name → ``model_id``, ``family``, ``num_layers``, ``hidden_size``, ``config``, of encoders of text."""
    text = files("featcache.extractors").joinpath("text_models.json").read_text()
    models: dict[str, dict[str, Any]] = json.loads(text)
    return models


def short_name(model: str) -> str:
    """How a model's store is called: its short name, the last part of its folder, or its id with ``--`` for ``/``."""
    known = known_models() | known_text_models()
    if model in known:
        return model
    if is_folder(model):
        return resolved(model).name
    if is_path(model):
        return re.split(r"[\\/]", model.rstrip("\\/"))[-1]
    by_id = {entry["model_id"]: name for name, entry in known.items()}
    return by_id.get(model, model.replace("/", "--"))


def dimensions(family: str, config: Mapping[str, Any]) -> tuple[int, int]:
    """Number of layers and hidden size; what is left out is transformers' default, that of a base model."""
    if family == "whisper":
        return config.get("encoder_layers", 4) + 1, config.get("d_model", 384)
    return config.get("num_hidden_layers", 12) + 1, config.get("hidden_size", 768)


def is_local(model: str) -> bool:
    """Whether a model's configuration and weights can be had without the network."""
    from huggingface_hub import try_to_load_from_cache

    known = known_models() | known_text_models()
    model_id = known[model]["model_id"] if model in known else model
    if is_folder(model_id):
        return True
    weights = ("model.safetensors", "model.safetensors.index.json")
    return any(isinstance(try_to_load_from_cache(model_id, name), str) for name in weights)


def load(
    model: str,
    *,
    weights: Literal["pretrained", "random"] = "pretrained",
    revision: str | None = None,
    num_blocks: int | None = None,
) -> LoadedModel:
    """Load a speech model, frozen.

    Args:
        model: A short name, a Hugging Face id, or a folder with ``config.json`` and safetensors weights.
        weights: ``random`` builds the architecture untrained, always with the same weights; the short names need no
            network for this.
        revision: Branch, tag or commit on the Hugging Face hub.
        num_blocks: Only so many transformer blocks, the first; the weights of the others are not read. Those of an
            untrained model are the same with and without the others.

    Raises:
        ModelError: unknown name; not a speech model of a known family; fewer blocks than asked for; weights that are
            missing, incomplete or pickled; a hub that cannot be reached.
    """
    source, entry = resolve(model)
    untrained_instead = "; '--weights random' builds it untrained, offline" if entry else ""
    with quiet_transformers(), explained(model, untrained_instead):
        if weights == "random":
            module, feature_extractor = _untrained(source, entry, revision, num_blocks)
            revision = None
        else:
            module, feature_extractor, revision = _pretrained(source, revision, num_blocks)
    freeze(module)
    return LoadedModel(
        module=module,
        feature_extractor=feature_extractor,
        model_id=model_id_of(source),
        revision=revision,
        weights_sha256=hash_parameters(module),
    )


def resolve(model: str, *, text: bool = False) -> tuple[str, dict[str, Any] | None]:
    """What transformers is to load, and what the package carries of it, if it does.

    Args:
        model: A short name, a Hugging Face id, or a folder.
        text: Whether it is to encode text, and not speech.

    Raises:
        ModelError: an unknown name, a name of the other kind, or a folder that holds no model.
    """
    known, others = known_models(), known_text_models()
    if text:
        known, others = others, known
    if is_folder(model):
        return model, None
    if os.path.isdir(model):
        raise ModelError(f"{model} is a folder without a config.json, expected one that transformers can load")
    if os.path.lexists(model) or is_path(model):
        found = "is no folder" if os.path.lexists(model) else "does not exist"
        raise ModelError(
            f"model folder {model!r} {found}; expected a folder with config.json and model.safetensors, a short name "
            f"such as {next(iter(known))}, or a Hugging Face id such as {next(iter(known.values()))['model_id']}"
        )
    entry = known.get(short_name(model))
    if entry is None and short_name(model) in others:
        raise ModelError(of_other_kind(model, others[short_name(model)]["family"], text=text))
    if entry is None and "/" not in model:
        example = next(iter(known.values()))["model_id"]
        hint = f"a folder or a Hugging Face id like {example!r} works too"
        raise ModelError(unknown_name("text model" if text else "model", model, known, hint=hint))
    return entry["model_id"] if entry else model, entry


def is_path(model: str) -> bool:
    """Whether a name can only be that of a folder: neither a short name nor an id of the hub looks like it."""
    return (
        model in (".", "..") or "\\" in model or ("/" in model and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model) is None)
    )


def of_other_kind(model: str, family: str, *, text: bool) -> str:
    """The message for a model of speech where one of text is wanted, or the other way round."""
    if text:
        return f"{model} is a {family!r} model of speech, expected one of text such as tinybert; use it with --model"
    return f"{model} is a {family!r} model of text, expected one of speech such as wav2vec2-base; use it with --text"


def model_id_of(source: str) -> str:
    """How a model is called in what is made with it: its Hugging Face id, or the name of its folder."""
    return resolved(source).name if is_folder(source) else source


def store_model_id(model: str) -> str:
    """How the settings of a store call a model that a user names: its Hugging Face id, or the name of its folder."""
    entry = known_models().get(model) or known_text_models().get(model)
    if entry:
        return str(entry["model_id"])
    return resolved(model).name if os.path.isdir(model) else model


def _pretrained(source: str, revision: str | None, num_blocks: int | None) -> tuple[Any, Any, str | None]:
    with open_checkpoint(source, revision, names=SPEECH) as checkpoint:
        config = read_configuration(checkpoint)
        model_class = _model_class(config, source)
        _prune(config, num_blocks, source)
        if not any(checkpoint.has(name) for name in SPEECH):
            raise ModelError(
                f"{source}: cannot be loaded (it has no {SPEECH[0]}, which says how its audio is prepared; put the "
                "checkpoint's beside its weights)"
            )
        # the mask embedding serves pre-training alone, the decoder is not run
        unused = ("masked_spec_embed", "decoder")
        module = pretrained_module(model_class, checkpoint, config, unused=unused)
        return _encoder(module), read_feature_extractor(checkpoint, config), checkpoint.revision


def _untrained(
    source: str, entry: dict[str, Any] | None, revision: str | None, num_blocks: int | None
) -> tuple[Any, Any]:
    import torch
    import transformers

    if entry:
        config = transformers.AutoConfig.for_model(entry["family"], **entry["config"])
        feature_extractor = _new_feature_extractor(config, do_normalize=entry.get("do_normalize"))
    else:
        with open_checkpoint(source, revision, names=SPEECH, weights=False) as checkpoint:
            config = read_configuration(checkpoint)
            _model_class(config, source)
            if any(checkpoint.has(name) for name in SPEECH):
                feature_extractor = read_feature_extractor(checkpoint, config)
            else:  # an architecture may come as a config.json alone
                feature_extractor = _new_feature_extractor(config, do_normalize=True)
    model_class = _model_class(config, source)
    check_memory(model_class, config, source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_WEIGHTS_SEED)
        module = _encoder(model_class(config))
    # built whole, since a smaller model would draw other weights for the blocks that stay
    _prune(config, num_blocks, source)
    blocks = blocks_of(module)
    del blocks[num_blocks or len(blocks) :]
    return module, feature_extractor


def _new_feature_extractor(config: Any, *, do_normalize: bool | None) -> Any:
    import transformers

    if config.model_type == "whisper":
        return transformers.WhisperFeatureExtractor(feature_size=config.num_mel_bins)
    return transformers.Wav2Vec2FeatureExtractor(do_normalize=do_normalize)


def _prune(config: Any, num_blocks: int | None, source: str) -> None:
    """Have a configuration be that of the model without its upper blocks."""
    if num_blocks is None:
        return
    name = "encoder_layers" if config.model_type == "whisper" else "num_hidden_layers"
    there = getattr(config, name)
    if not 1 <= num_blocks <= there:
        raise ModelError(f"--num-blocks is {num_blocks}, expected 1 to the {there} that {source} has")
    setattr(config, name, num_blocks)


def blocks_of(module: Any) -> Any:
    """The transformer blocks of a model or encoder, a list that can be shortened."""
    return module.layers if module.config.model_type == "whisper" else module.encoder.layers


def _model_class(config: Any, source: str) -> Any:
    import transformers

    if config.model_type not in FAMILIES:
        raise ModelError(
            f"{source} is a {config.model_type!r} model, expected a speech model of one of: {', '.join(FAMILIES)}; "
            "models of text go with --text"
        )
    return getattr(transformers, FAMILIES[config.model_type])


def _encoder(module: Any) -> Any:
    return module.encoder if module.config.model_type == "whisper" else module
