"""Names of s3prl → the short names of the same models, so that both can be given and fill the same store.

Source: the ``hubconf.py`` files in s3prl/upstream, which name the checkpoint behind each name. Names without a size,
such as ``wavlm``, and checkpoints that are not known to be the same are left out.
"""

from collections.abc import Mapping

S3PRL: Mapping[str, str] = {
    "data2vec_base_960": "data2vec-audio-base",
    "distilhubert_base": "distilhubert",
    "hubert_base": "hubert-base",
    "hubert_large_ll60k": "hubert-large",
    "unispeech_sat_base": "unispeech-sat-base",
    "unispeech_sat_base_plus": "unispeech-sat-base-plus",
    "unispeech_sat_large": "unispeech-sat-large",
    "wav2vec2_base_960": "wav2vec2-base",
    "wav2vec2_large_960": "wav2vec2-large",
    "wav2vec2_large_ll60k": "wav2vec2-large-lv60",
    "wav2vec2_large_lv60_cv_swbd_fsh": "wav2vec2-large-robust",
    "wavlm_base": "wavlm-base",
    "wavlm_base_plus": "wavlm-base-plus",
    "wavlm_large": "wavlm-large",
    "xls_r_1b": "wav2vec2-xls-r-1b",
    "xls_r_2b": "wav2vec2-xls-r-2b",
    "xls_r_300m": "wav2vec2-xls-r-300m",
    "xlsr_53": "wav2vec2-large-xlsr-53",
}
"""Name in s3prl → short name."""
