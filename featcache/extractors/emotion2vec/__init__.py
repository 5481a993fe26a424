"""emotion2vec and emotion2vec+, without FunASR or fairseq.

Source: Ma et al. 2024, "emotion2vec: self-supervised pre-training for speech emotion representation". The network is
the audio model of data2vec 2.0 (Baevski et al. 2023).
"""

from featcache.extractors.emotion2vec.renaming import convert

__all__ = ["convert"]
