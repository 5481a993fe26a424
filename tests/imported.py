"""Imports that the server of ``tests.forked`` loads once, for all processes that are forked from it."""

import gc
import importlib
import threading
from contextlib import suppress

LIBRARIES = (
    *("PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.PpmImagePlugin", "filelock", "joblib"),
    *("distributed", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "opensmile"),
    *(
        "pandas.io.formats.csvs",
        "pandas.io.formats.string",
        "pyarrow.pandas_compat",
        "pydantic",
        "pydantic.dataclasses",
    ),
    *("safetensors.torch", "scipy.linalg", "scipy.sparse", "scipy.stats", "sklearn.metrics", "yaml"),
    "torch._dynamo",  # the first step of an optimizer imports it
    "transformers.models.wav2vec2.modeling_wav2vec2",
)
FEATCACHE = (
    *("cli.app", "cli.columns", "cli.listing", "extraction.dask_worker", "extraction.extract_corpus"),
    *("extractors.egemaps", "extractors.ssl", "files.yaml_text", "fitting.fit", "report.classification"),
    *("report.html", "report.layers", "report.relevance", "report.whole_words", "terminal.console"),
)

for name in (*LIBRARIES, *(f"featcache.{module}" for module in FEATCACHE)):
    with suppress(ImportError):  # An optional package, or a module that no longer exists: children are slower then.
        importlib.import_module(name)

importlib.import_module("opensmile").Smile()  # It looks once at every installed package.
assert threading.active_count() == 1  # Other threads do not survive a fork.
gc.freeze()  # Children that collect garbage would copy the pages of all these objects.
