"""Transcripts: human transcripts in the manifest, ASR transcripts in files of the cache."""
