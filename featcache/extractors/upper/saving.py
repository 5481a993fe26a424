"""Trained upper blocks → model folder of Hugging Face transformers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featcache.errors import ModelError
from featcache.extractors.models import load
from featcache.extractors.pretrained import explained, quiet_transformers
from featcache.extractors.text_models import load_text_model
from featcache.extractors.upper.model_source import ModelSource
from featcache.files.disk import writing, writing_tensors

# Parts of parameter names that are not written: a decoder does not fit to a trained encoder.
NOT_WRITTEN = "decoder"


def save_model(source: ModelSource, trained: Mapping[str, Tensor], folder: Path) -> None:
    """Write a model folder with trained parameters: configuration, safetensors weights, preprocessor or tokenizer.

    Args:
        source: Origin of the other parameters, which are loaded again.
        trained: Name of a parameter → values.
        folder: Folder to which the files are written.

    Raises:
        ModelError: the origin of the weights is not available, or its weights changed.
        DiskError: the folder cannot be written.
    """
    loaded: Any
    if source.text:
        loaded = load_text_model(source.model, weights=source.weights, revision=source.revision, keep_whole=True)
        companion = loaded.tokenizer
    else:
        loaded = load(
            source.model,
            weights=source.weights,
            revision=source.revision,
            num_blocks=source.num_blocks,
            keep_whole=True,
        )
        companion = loaded.feature_extractor
        if source.do_normalize is not None:
            companion.do_normalize = source.do_normalize
    if loaded.weights_sha256 != source.weights_sha256:
        raise ModelError(
            f"the weights of {source.model} changed since the training began, so the trained model cannot be "
            "completed; restore them"
        )
    parameters = dict(loaded.module.named_parameters())
    with torch.no_grad():
        for name, values in trained.items():
            parameters[name].copy_(values)
    written = {name: values for name, values in loaded.whole.state_dict().items() if NOT_WRITTEN not in name}
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers(), explained(source.model), writing(folder), writing_tensors():
        loaded.whole.save_pretrained(folder, state_dict=written)
        companion.save_pretrained(folder)
