"""YAML → stores → runs → a table with published scores beside ours: a published experiment as one file.

``schema`` defines the fields of a pipeline file and ``read`` reads it. ``locate`` finds the corpora, ``rows`` lists the
runs and their differences from the paper, ``stores`` and ``transcripts`` find what is missing in the cache, and ``run``
extracts and trains it.
"""

from featcache.pipeline.read import find_pipeline, read_pipeline, shipped_pipelines
from featcache.pipeline.run import PipelineOutcome, run_pipeline
from featcache.pipeline.schema import Pipeline

__all__ = ["Pipeline", "PipelineOutcome", "find_pipeline", "read_pipeline", "run_pipeline", "shipped_pipelines"]
