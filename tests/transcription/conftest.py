"""Tiny untrained Whisper models with their own tokenizers, and a corpus of tones."""

import json

import numpy as np
import pytest
import soundfile

import featcache
from featcache.transcription.whisper import Transcriber

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SECONDS = 2  # window length of the tiny Whisper, instead of 30
LANGUAGES = ("en", "de")


@pytest.fixture(scope="session")
def tiny_whisper(tmp_path_factory):
    """Return a function that writes a tiny untrained Whisper and its tokenizer; equal calls return the same folder."""
    folders = {}

    def make(**options):
        key = json.dumps(options, sort_keys=True)
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("models") / "tiny-whisper"
            save_whisper(folders[key], **options)
        return folders[key]

    return make


@pytest.fixture(scope="session")
def tone():
    """Return a function that makes a different signal for each number: (num_samples,) float32."""

    def make(number, seconds=1.0):
        time = np.arange(round(16000 * seconds)) / 16000
        loudness = 1 + np.sin(2 * np.pi * 3 * time)
        return (0.3 * loudness * np.sin(2 * np.pi * 150 * 2 ** (number / 3) * time)).astype(np.float32)

    return make


@pytest.fixture
def corpus(tmp_path, tone):
    """Write a corpus of tones, six with a human transcript; utterance e is longer than the tiny Whisper's window."""
    folder = tmp_path / "tones"
    folder.mkdir()
    rows = ["path,speaker_id,emotion,transcript"]
    for number, name in enumerate("abcdefgh"):
        soundfile.write(folder / f"{name}.wav", tone(number, 5.0 if name == "e" else 0.5 + 0.1 * number), 16000)
        rows.append(f"{name}.wav,x,joy,{'zi xzi wi la' if name < 'g' else ''}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def save_whisper_tokenizer(folder):
    """Write a tokenizer with two letters per token, and return its special tokens and the numbers of all tokens."""
    import transformers

    # In a byte-level tokenizer, Ġ represents the space.
    plain = [*LETTERS, "Ġ", *(f"{first}{second}" for first in LETTERS for second in "aeiou")]
    plain += [f"Ġ{letter}" for letter in LETTERS]
    special = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES)]
    special += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"]
    special += ["<|notimestamps|>"]
    timestamps = [f"<|{0.02 * number:.2f}|>" for number in range(SECONDS * 50 + 1)]
    ids = {token: number for number, token in enumerate([*plain, *special, *timestamps])}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: ids[token] for token in [*plain, "<|endoftext|>"]}))
    merges = [f"{token[0]} {token[1]}" for token in plain if len(token) == 2]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    (folder / "normalizer.json").write_text("{}")
    # In transformers 4, only the fast tokenizer writes a tokenizer.json.
    tokenizer_class = getattr(transformers, "WhisperTokenizerFast", transformers.WhisperTokenizer)
    tokenizer = tokenizer_class.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    tokenizer.add_tokens([transformers.AddedToken(token, special=False) for token in timestamps])
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in ids} == ids
    tokenizer.save_pretrained(folder)
    return special, ids


def save_whisper(folder, *, seed=2, english_only=False, says_timestamps=False, **generation):
    """Write an untrained Whisper with a window of two seconds, which generates up to 12 tokens of two letters."""
    import torch
    import transformers

    special, ids = save_whisper_tokenizer(folder)
    config = transformers.WhisperConfig(
        d_model=16,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        vocab_size=len(ids),
        max_source_positions=SECONDS * 50,
        max_target_positions=32,
        pad_token_id=ids["<|endoftext|>"],
        bos_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"],
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = transformers.WhisperForConditionalGeneration(config)
        for name, values in model.named_parameters():  # Weights must be large, so that the text depends on the audio.
            if "norm" not in name:
                values.copy_(torch.randn_like(values))
        if not says_timestamps:
            model.model.decoder.embed_tokens.weight[ids["<|0.00|>"] :] = 0
    settings = {
        "decoder_start_token_id": ids["<|startoftranscript|>"],
        "eos_token_id": ids["<|endoftext|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "bos_token_id": ids["<|endoftext|>"],
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "is_multilingual": not english_only,
        "max_length": 12,
        "suppress_tokens": [ids[token] for token in special[1:]],
        **generation,
    }
    if not english_only:
        settings["lang_to_id"] = {f"<|{code}|>": ids[f"<|{code}|>"] for code in LANGUAGES}
        settings["task_to_id"] = {"translate": ids["<|translate|>"], "transcribe": ids["<|transcribe|>"]}
    model.generation_config = transformers.GenerationConfig(**settings)
    model.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(chunk_length=SECONDS).save_pretrained(folder)
    return folder


@pytest.fixture
def transcribe(corpus, tiny_whisper, tmp_path):
    """Return a function that transcribes the corpus as a user would, and returns the report."""

    def run(**options):
        return featcache.transcribe(**{"model": str(tiny_whisper()), "data": corpus, **options})

    return run


@pytest.fixture
def cache(tmp_path):
    """Return the cache folder of the corpus of tones."""
    return tmp_path / "data" / "cache" / "tones"


@pytest.fixture
def heard(monkeypatch):
    """Return a list that records the length of each signal passed to Whisper, in samples."""
    lengths = []
    real = Transcriber.transcribe

    def transcribe(self, signal, stopping=None):
        lengths.append(len(signal.samples))
        return real(self, signal, stopping)

    monkeypatch.setattr(Transcriber, "transcribe", transcribe)
    return lengths
