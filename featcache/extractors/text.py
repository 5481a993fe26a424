"""Tokens → hidden states of a frozen text encoder, independent of the batch.

Layer 0 is the encoder's input, after the embeddings. Layers 1 … N-1 are the outputs of the transformer blocks. Layer N
is ``last_hidden_state``. Every token is a frame, including special tokens such as [CLS] and [SEP]. Only texts with the
same number of tokens are computed together, so that no model needs padding.
"""

import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from threading import Lock
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from featcache.errors import ModelError
from featcache.extractors.base import Extractor
from featcache.extractors.devices import check_precision, on
from featcache.extractors.footprint import block_bytes, kept_bytes
from featcache.extractors.pretrained import count_parameters, explained
from featcache.extractors.text_models import ARCHITECTURE, load_text_model
from featcache.extractors.tokens import Tokeniser, most_tokens
from featcache.features import Description, Features, Tokens
from featcache.layer_selection import select_layers
from featcache.settings.extractor_configs import TextConfig


class TextExtractor(Extractor):
    """Frozen text encoder: (num_layers, num_tokens, hidden_size).

    Raises:
        ModelError: the model cannot be loaded, a layer does not exist, or the device does not support the precision.
    """

    Config = TextConfig
    kind = "model"
    averages_frames = False

    def __init__(self, config: TextConfig, *, device: str = "cpu") -> None:
        check_precision(device, config.precision)
        loaded = load_text_model(config.model, weights=config.weights, revision=config.revision)
        module = loaded.module
        accepted = inspect.signature(module.forward).parameters
        self._model: Any = module
        with explained(config.model):
            max_tokens = most_tokens(module, loaded.tokenizer)
            tokenise = Tokeniser(loaded.tokenizer, accepted=accepted, max_tokens=max_tokens)
            num_blocks, hidden_size = self._dimensions(loaded.model_id, tokenise("a"))
        names = tuple(str(number) for number in range(num_blocks + 1))
        self._layers = select_layers(config.layers, names, num_blocks=num_blocks)
        module.to(device, getattr(torch, config.precision))
        _transform_in_float32(module)
        self._device = on(device)
        self._turn = nullcontext() if _safe_in_threads() else Lock()
        wanted = tuple(names[layer] for layer in self._layers)
        self.tokenise = tokenise
        self.description = Description(
            dataset="hidden_states",
            layer_names=wanted,
            hidden_size=hidden_size,
            frame_shift=None,
            sampling_rate=None,
            channel=None,
            settings={
                "extractor": "text",
                "model_id": loaded.model_id,
                "weights": config.weights,
                "weights_sha256": loaded.weights_sha256,
                "architecture": {name: getattr(module.config, name, None) for name in ARCHITECTURE},
                "layers": list(wanted),
                "precision": config.precision,
                "tokenizer": "bytes" if config.weights == "random" else "the model's own",
                "tokenizer_sha256": tokenise.sha256(),
                "special_tokens": {"before": tokenise.before, "after": tokenise.after},
                "without_words": tokenise.without_words,
                "max_tokens": max_tokens,
                "transcripts": config.transcripts,
                "transcripts_made_by": config.transcripts_made_by,
            },
            provenance={
                "model_type": module.config.model_type,
                "num_blocks": num_blocks,
                "num_parameters": count_parameters(module),
                "revision": loaded.revision or "",
                "weights_revision": loaded.weights_revision or "",
                "torch_version": str(torch.__version__),
                "transformers_version": transformers.__version__,
            },
        )

    def num_frames(self, num_samples: int, sampling_rate: int) -> int:
        return num_samples

    def hop(self, sampling_rate: int) -> int:
        return 1

    def peak_bytes(self, batch: int, num_samples: int, sampling_rate: int) -> int:
        layers, size = len(self._layers), self.description.hidden_size
        kept = kept_bytes(layers, batch * num_samples, size)
        if not self._device.is_cpu:
            return kept
        return kept + block_bytes(self._model.config, batch, num_samples, size, padded=False)

    def extract(self, signals: Sequence[Tokens]) -> list[Features]:
        together: dict[int, list[int]] = {}
        for position, tokens in enumerate(signals):
            together.setdefault(len(tokens), []).append(position)
        features: dict[int, Features] = {}
        for positions in together.values():
            batch = self._inputs([signals[position] for position in positions])
            with torch.inference_mode(), self._turn:
                layers = self._device.run(partial(self._wanted_layers, batch))
            for item, position in enumerate(positions):
                features[position] = np.stack([layer[item].float().numpy() for layer in layers])
        return [features[position] for position in range(len(signals))]

    def _inputs(self, batch: Sequence[Tokens]) -> dict[str, Tensor]:
        """Return the model's inputs for texts with the same number of tokens: (batch, num_tokens) each."""
        return {name: torch.tensor([tokens.inputs[name] for tokens in batch]) for name in batch[0].inputs}

    def _wanted_layers(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        layers = self._all_layers({name: self._device.send(values) for name, values in inputs.items()})
        return [layers[layer] for layer in self._layers]

    def _all_layers(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Return all layers of a batch: (batch, num_tokens, hidden_size) each."""
        outputs = self._model(**inputs, output_hidden_states=True)
        # Versions of transformers disagree on the last hidden state.
        return [*outputs.hidden_states[:-1], outputs.last_hidden_state]

    def _dimensions(self, model_id: str, tokens: Tokens) -> tuple[int, int]:
        """Return the number of transformer blocks and the hidden size, from a forward pass.

        Raises:
            ModelError: the layers do not have one vector per token, all of the same size.
        """
        with torch.inference_mode():
            layers = self._all_layers(self._inputs([tokens]))
        shapes = {tuple(layer.shape) for layer in layers}
        expected = (1, len(tokens), layers[-1].shape[-1])
        if shapes != {expected}:
            raise ModelError(
                f"{model_id}: its layers have the shapes {sorted(shapes)} for {len(tokens)} tokens, expected "
                f"{expected} for each layer; use an encoder such as BERT"
            )
        return len(layers) - 1, int(expected[-1])


def _transform_in_float32(module: Any) -> None:
    """Make Fourier transforms over tokens (FNet) use float32, because CPUs have none in half precision."""
    for part in module.modules():
        original = getattr(part, "fourier_transform", None)
        if original is not None:
            part.fourier_transform = lambda states, original=original: original(states.float()).real.to(states.dtype)


def _safe_in_threads() -> bool:
    """Return whether models may run in several threads; some versions of transformers patch a model while it runs."""
    patching = hasattr(transformers.utils.generic, "check_model_inputs")
    return not patching or find_spec("transformers.utils.output_capturing") is not None
