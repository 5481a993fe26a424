"""YAML → stores → runs → a table beside the paper's: a published experiment, of which only what is missing is done.

``schema`` says what a file may hold and ``reading`` reads it; ``place`` finds the corpora, ``rows`` what is to be
trained and what differs from the paper, ``stores`` what is to be extracted; ``run`` does it, ``printing`` tells.
"""

from featcache.pipeline.read import find_pipeline, read_pipeline, shipped_pipelines
from featcache.pipeline.run import PipelineOutcome, run_pipeline
from featcache.pipeline.schema import Pipeline

__all__ = ["Pipeline", "PipelineOutcome", "find_pipeline", "read_pipeline", "run_pipeline", "shipped_pipelines"]
