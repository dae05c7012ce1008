"""Vocabulary: every column and word, the shape of run.json, and how large tables are read."""
