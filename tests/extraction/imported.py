"""Imports of an extraction, loaded once by the server from which the workers of a cluster are forked."""

import distributed  # noqa: F401
import opensmile
import scipy.linalg  # noqa: F401
import torch  # noqa: F401
import transformers.models.wav2vec2.modeling_wav2vec2  # noqa: F401

import featcache.extraction.dask_worker
import featcache.extractors.egemaps
import featcache.extractors.ssl  # noqa: F401

opensmile.Smile()  # It looks once at every installed package.
