"""Manifest × extractors → cache."""

from featcache.extraction.extract_corpus import extract
from featcache.extraction.summary import ExtractionReport, summarise_report, summarise_with_next_step

__all__ = ["ExtractionReport", "extract", "summarise_report", "summarise_with_next_step"]
