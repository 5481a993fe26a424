"""Corpus → findings: problems in files, sound, labels and speakers, before hours are spent on the corpus."""
