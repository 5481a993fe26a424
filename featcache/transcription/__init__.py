"""Manifest × Whisper → transcripts beside the human ones."""

from featcache.transcription.summary import TranscriptionReport, summarise
from featcache.transcription.transcribe_corpus import transcribe

__all__ = ["TranscriptionReport", "summarise", "transcribe"]
