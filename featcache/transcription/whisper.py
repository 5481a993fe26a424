"""Signal → text, transcribed by a frozen Whisper model with greedy decoding, so that the text is reproducible.

Signals that are longer than Whisper's window (30 s) are transcribed by the sequential long-form generation of
transformers. It processes one window after the other; each starts at the end of the last complete segment, according to
Whisper's predicted timestamps. Nothing is sampled. OpenAI's own program repeats some windows with sampling at a higher
temperature; featcache does not.
"""

import hashlib
import json
from dataclasses import dataclass
from threading import Event
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from featcache._version import __version__
from featcache.audio import Signal
from featcache.errors import AudioError, ModelError, unknown_name
from featcache.extraction.long import StoppedError
from featcache.extractors import is_reference
from featcache.extractors.checkpoint import TRANSCRIBER, open_checkpoint
from featcache.extractors.devices import on
from featcache.extractors.families import ARCHITECTURE, FAMILIES
from featcache.extractors.families.whisper_encoder import Whisper
from featcache.extractors.models import SAMPLING_RATE, known_models, model_id_of, resolve
from featcache.extractors.preprocessing import read_feature_extractor, unusual_settings
from featcache.extractors.pretrained import (
    count_parameters,
    explained,
    freeze,
    hash_parameters,
    pretrained_module,
    quiet_transformers,
    read_configuration,
    ways_to_get,
)

# Fixed values of the generation options for sampling and repetition; they replace those of the checkpoint.
GREEDY = {
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "num_beams": 1,
    "num_return_sequences": 1,
    "return_dict_in_generate": False,
    "compression_ratio_threshold": None,
    "logprob_threshold": None,
    "no_speech_threshold": None,
    "condition_on_prev_tokens": False,
}

TOKENIZER_FILES = ("tokenizer.json", "vocab.json")


class Transcriber:
    """A frozen Whisper model with its tokenizer, safe to use from several threads.

    Args:
        model: Short name, Hugging Face id, or folder with weights and tokenizer.
        language: Code or English name of the language, such as ``de`` or ``german``. None uses the model's own language
            if it has only one; otherwise Whisper detects the language of each signal.
        revision: Branch, tag or commit on the Hugging Face hub.
        device: Torch device.

    Attributes:
        config: Configuration of the model, from transformers.
        settings: Everything that affects the text, as plain JSON values.
        provenance: Further information for the user: revision and package versions.

    Raises:
        ModelError: the model is not a Whisper model, cannot be loaded or has no tokenizer, or does not support the
            language.
    """

    def __init__(
        self, model: str, *, language: str | None = None, revision: str | None = None, device: str = "cpu"
    ) -> None:
        loaded = _load(model, revision)
        config = loaded.module.generation_config
        own = {name: value for name, value in config.to_diff_dict().items() if name[0] != "_"}
        own.pop("transformers_version", None)
        self._prompt = _prompt(model, config, language)
        self._languages = {token: name for name, token in (getattr(config, "lang_to_id", None) or {}).items()}
        for name, value in GREEDY.items():
            setattr(config, name, value)
        self._feature_extractor, self._tokenizer = loaded.feature_extractor, loaded.tokenizer
        self._window = int(self._feature_extractor.n_samples)
        architecture = {n: getattr(loaded.module.config, n, None) for n in (*ARCHITECTURE, "decoder_attention_heads")}
        self.settings: dict[str, Any] = {
            "model_id": loaded.model_id,
            "weights_sha256": hash_parameters(loaded.module),
            "architecture": {name: value for name, value in architecture.items() if value is not None},
            "vocabulary_sha256": _sha256(sorted(self._tokenizer.get_vocab().items())),
            "task": "transcribe",
            "language": self._prompt.get("language"),
            "generation": {
                "decoding": "greedy",
                "max_length": config.max_length,
                "config_sha256": _sha256(own),
            },
            "sampling_rate": SAMPLING_RATE,
            "channel": "mean",
            "window_seconds": self._window / SAMPLING_RATE,
            "longer_audio": "sequential, by timestamps",
        }
        self.provenance: dict[str, Any] = {
            "revision": loaded.revision,
            "weights_revision": loaded.weights_revision,
            "num_parameters": count_parameters(loaded.module),
            "featcache_version": __version__,
            "torch_version": str(torch.__version__),
            "transformers_version": transformers.__version__,
        }
        if device.startswith("cuda"):
            # TF32 would round the products of convolutions to 10 bits, which is less precise than float32.
            torch.backends.cudnn.allow_tf32 = False
        self.config = loaded.module.config
        self._model: Any = loaded.module.to(device)
        self._device = on(device)

    def transcribe(self, signal: Signal, stopping: Event | None = None) -> str:
        """Transcribe a signal.

        Args:
            signal: Signal at 16 kHz, of any length.
            stopping: Event that stops the transcription of a signal with several windows.

        Returns:
            The text, without spaces at both ends; empty if Whisper recognises no words.

        Raises:
            AudioError: the signal is longer than one window, and the model does not support timestamps.
            StoppedError: ``stopping`` was set before the end.
        """
        is_long = len(signal.samples) > self._window
        if is_long and not hasattr(self._model.generation_config, "no_timestamps_token_id"):
            raise AudioError(
                f"{len(signal.samples) / SAMPLING_RATE:.1f} s are longer than one window of Whisper "
                f"({self._window / SAMPLING_RATE:g} s), and this model's generation_config.json has no "
                "no_timestamps_token_id, which longer audio needs; split it with start and end in the manifest"
            )
        whole = {"truncation": False, "padding": "longest"} if is_long else {}
        features = self._feature_extractor(
            signal.samples, sampling_rate=SAMPLING_RATE, return_tensors="pt", **whole
        ).input_features

        def generate() -> list[Tensor]:
            return [self._long(features, stopping) if is_long else self._short(features)]

        with torch.inference_mode():
            tokens = self._device.run(generate)[0][0]
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def _short(self, features: Tensor) -> Tensor:
        """Return the tokens of one window; the encoder runs once, for both language detection and transcription."""
        features = self._device.send(features)
        encoded = self._model.get_encoder()(features)
        prompt = dict(self._prompt)
        if prompt and "language" not in prompt:
            prompt["language"] = self._languages[int(self._model.detect_language(encoder_outputs=encoded)[0])]
        tokens: Tensor = self._model.generate(
            features,
            encoder_outputs=encoded,
            return_timestamps=False,
            force_unique_generate_call=True,  # one window, even if the model generates timestamps unasked
            **prompt,
        )
        return tokens

    def _long(self, features: Tensor, stopping: Event | None) -> Tensor:
        """Return the tokens of all windows, including timestamps."""
        tokens: Tensor = self._model.generate(
            self._device.send(features),
            return_timestamps=True,
            stopping_criteria=[_Stop(stopping)] if stopping else None,
            **self._prompt,
        )
        return tokens


class _Stop:
    """Stopping criterion for transformers that raises StoppedError as soon as an event is set."""

    def __init__(self, stopping: Event) -> None:
        self._stopping = stopping

    def __call__(self, tokens: Tensor, _scores: Any, **_: Any) -> Tensor:
        if self._stopping.is_set():
            raise StoppedError
        return torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    module: Any
    feature_extractor: Any
    tokenizer: Any
    model_id: str
    revision: str | None
    weights_revision: str | None


def _load(model: str, revision: str | None) -> _Loaded:
    if is_reference(model):
        raise ModelError(_no_whisper(model, "a feature extractor"))
    source, entry = resolve(model, transcribes=True)
    if entry and not FAMILIES[entry["family"]].transcribes:
        raise ModelError(_no_whisper(model, f"a {entry['family']!r} model"))
    with (
        quiet_transformers(),
        explained(model, ways_to_get(model, untrained=False)),
        open_checkpoint(source, revision, names=TRANSCRIBER, weights=True) as checkpoint,
    ):
        config = read_configuration(checkpoint)
        if config.model_type not in Whisper.model_types:
            raise ModelError(_no_whisper(model, f"a {config.model_type!r} model"))
        module = pretrained_module(transformers.WhisperForConditionalGeneration, checkpoint, config)
        if not any(checkpoint.has(name) for name in TOKENIZER_FILES):
            raise ModelError(
                f"{model} has no tokenizer, expected {' or '.join(TOKENIZER_FILES)}; copy it from the checkpoint"
            )
        feature_extractor = read_feature_extractor(checkpoint, config, Whisper)
        unusual = unusual_settings(feature_extractor)
        if unusual:
            raise ModelError(f"{model}: its preprocessor_config.json has {unusual}, unlike every published Whisper")
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(checkpoint.folder), trust_remote_code=False)
        start = module.generation_config.decoder_start_token_id
        if tokenizer.convert_tokens_to_ids("<|startoftranscript|>") != start:
            raise ModelError(
                f"{model}: its tokenizer belongs to another model, because '<|startoftranscript|>' is not its token "
                f"{start}; copy the checkpoint's own tokenizer into the folder of the weights"
            )
    freeze(module)
    return _Loaded(
        module=module,
        feature_extractor=feature_extractor,
        tokenizer=tokenizer,
        model_id=model_id_of(source),
        revision=checkpoint.revision,
        weights_revision=checkpoint.weights_revision,
    )


def _no_whisper(model: str, found: str) -> str:
    known = ", ".join(name for name, entry in known_models().items() if FAMILIES[entry["family"]].transcribes)
    return f"{model} is {found}, expected a Whisper model: {known}, or a Hugging Face id or folder of one"


def _prompt(model: str, config: Any, language: str | None) -> dict[str, str]:
    """Return the task and language options for generation; empty for a model with only one language and task."""
    languages = getattr(config, "lang_to_id", None) or {}
    if not getattr(config, "is_multilingual", bool(languages)):
        if language is not None and _code(language) != "en":
            raise ModelError(
                f"--language {language}: {model} supports only English; leave it out, or use a model without '.en'"
            )
        return {}
    if language is None:
        own = getattr(config, "language", None)
        return {"task": "transcribe", **({"language": _code(own)} if own else {})}
    codes = [token.strip("<|>") for token in languages]
    if _code(language) not in codes:
        names = {name for name, code in TO_LANGUAGE_CODE.items() if code in codes}
        raise ModelError(f"--language: {unknown_name('language', language, names | set(codes))}")
    return {"task": "transcribe", "language": _code(language)}


def _code(language: str) -> str:
    plain = language.lower().strip("<|>")
    return str(TO_LANGUAGE_CODE.get(plain, plain))


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
