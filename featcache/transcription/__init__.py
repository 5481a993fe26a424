"""Manifest × Whisper → ASR transcripts, stored next to the human transcripts."""

from featcache.transcription.summary import TranscriptionReport, summarise
from featcache.transcription.transcribe_corpus import transcribe

__all__ = ["TranscriptionReport", "summarise", "transcribe"]
