"""Tiny untrained models of the real classes: their configurations, and folders with them."""

import json

import pytest

TINY_WAVEFORM_MODEL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
TINY_DATA2VEC = {**TINY_WAVEFORM_MODEL, "num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5}
TINY_WHISPER = {
    "d_model": 32,
    "encoder_layers": 3,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 64,
    "vocab_size": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
}
TINY_CONFORMER = {**TINY_WAVEFORM_MODEL, "position_embeddings_type": "rotary", "conv_depthwise_kernel_size": 7}
TINY_W2V_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_depthwise_kernel_size": 7,
    "left_max_position_embeddings": 8,
    "right_max_position_embeddings": 4,
    "max_source_positions": 60,
}
# Three patches at each time, and up to two seconds.
TINY_AST = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_mel_bins": 36,
    "max_length": 200,
}
# Up to two seconds.
TINY_QWEN2_AUDIO = {
    "d_model": 32,
    "encoder_layers": 3,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "num_mel_bins": 80,
    "max_source_positions": 100,
}
TINY_QWEN2 = {
    "model_type": "qwen2",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 8,
}
TINY_EMOTION2VEC = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 2,
    "num_conv_pos_embedding_groups": 4,
    "num_extra_tokens": 3,
}
# Name → model_type in transformers, and configuration: each family, and well-known variants.
TINY_MODELS = {
    "wav2vec2": ("wav2vec2", TINY_WAVEFORM_MODEL),
    "hubert": ("hubert", TINY_WAVEFORM_MODEL),
    "wavlm": ("wavlm", TINY_WAVEFORM_MODEL),
    "unispeech": ("unispeech", TINY_WAVEFORM_MODEL),
    "unispeech-sat": ("unispeech-sat", TINY_WAVEFORM_MODEL),
    "data2vec-audio": ("data2vec-audio", TINY_DATA2VEC),
    "whisper": ("whisper", TINY_WHISPER),
    "xls-r": (
        "wav2vec2",
        {**TINY_WAVEFORM_MODEL, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    ),
    "distilhubert": ("hubert", {**TINY_WAVEFORM_MODEL, "num_hidden_layers": 2, "feat_proj_layer_norm": False}),
    "mhubert": ("hubert", {**TINY_WAVEFORM_MODEL, "conv_pos_batch_norm": True}),
    "wav2vec2-conformer": ("wav2vec2-conformer", TINY_CONFORMER),
    "wav2vec2-bert": ("wav2vec2-bert", TINY_W2V_BERT),
    "audio-spectrogram-transformer": ("audio-spectrogram-transformer", TINY_AST),
    "qwen2_audio_encoder": ("qwen2_audio_encoder", TINY_QWEN2_AUDIO),
    "qwen2_audio": (
        "qwen2_audio",
        {"audio_config": {**TINY_QWEN2_AUDIO, "model_type": "qwen2_audio_encoder"}, "text_config": TINY_QWEN2},
    ),
    "emotion2vec": ("emotion2vec", TINY_EMOTION2VEC),
}
# Name → class whose checkpoint contains the model.
TINY_CLASSES = {"qwen2_audio": "Qwen2AudioForConditionalGeneration"}


TINY_TEXT_MODEL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}
TINY_BART = {
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 40,
}
# Name → model_type in transformers, configuration, and kind of tokenizer.
TINY_TEXT_MODELS = {
    "bert": ("bert", TINY_TEXT_MODEL, "bert"),
    "distilbert": (
        "distilbert",
        {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 40},
        "bert",
    ),
    "roberta": ("roberta", TINY_TEXT_MODEL, "roberta"),
    "xlm-roberta": ("xlm-roberta", TINY_TEXT_MODEL, "roberta"),
    "albert": ("albert", {**TINY_TEXT_MODEL, "embedding_size": 16}, "bert"),
    "electra": ("electra", {**TINY_TEXT_MODEL, "embedding_size": 16}, "bert"),
    "mpnet": ("mpnet", TINY_TEXT_MODEL, "roberta"),
    "deberta-v2": (
        "deberta-v2",
        {
            **TINY_TEXT_MODEL,
            "relative_attention": True,
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
        },
        "bert",
    ),
    "fnet": ("fnet", {**TINY_TEXT_MODEL, "pad_token_id": 0}, "bert"),
    "bart": ("bart", TINY_BART, "roberta"),
    "t5": ("t5", {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 3, "num_heads": 4}, "t5"),
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 40}, "gpt2"),
}


def save_untrained(folder, family, config, do_normalize, class_name=None):
    import torch
    import transformers

    from featcache.extractors.models import FAMILIES

    needed = class_name or FAMILIES[family].class_name
    if needed and not hasattr(transformers, needed):
        pytest.skip(f"transformers {transformers.__version__} has no {needed}")
    is_own = family == "emotion2vec"  # transformers does not have it
    config = FAMILIES[family].configuration(config) if is_own else transformers.AutoConfig.for_model(family, **config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = (getattr(transformers, class_name) if class_name else FAMILIES[family].model_class())(config)
        # With an initial bias of 0 and scale of 1, no test would notice a layer that does not apply them.
        for values in model.state_dict().values():
            if values.is_floating_point():
                values.add_(0.1 * torch.randn_like(values))
    if is_own:
        save_own(folder, model, do_normalize)
        return
    model.save_pretrained(folder)
    tiny_feature_extractor(family, config, do_normalize).save_pretrained(folder)


def save_own(folder, model, do_normalize):
    """Save a model whose network is featcache's own, which has no file on how audio is prepared."""
    from safetensors.torch import save_file

    entries = {"model_type": model.config.model_type, **vars(model.config), "do_normalize": do_normalize}
    (folder / "config.json").write_text(json.dumps(entries))
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})


def tiny_feature_extractor(family, config, do_normalize):
    import transformers

    if family in ("whisper", "qwen2_audio_encoder", "qwen2_audio"):
        encoder = getattr(config, "audio_config", config)
        seconds = encoder.max_source_positions // 50
        return transformers.WhisperFeatureExtractor(feature_size=encoder.num_mel_bins, chunk_length=seconds)
    if family == "audio-spectrogram-transformer":
        return transformers.ASTFeatureExtractor(num_mel_bins=config.num_mel_bins, max_length=config.max_length)
    if family == "wav2vec2-bert":
        return transformers.SeamlessM4TFeatureExtractor(padding_value=1.0)
    return transformers.Wav2Vec2FeatureExtractor(do_normalize=do_normalize)
