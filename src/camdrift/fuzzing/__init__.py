"""Fuzzing campaigns: seeds that are mutated again and again, and kept where something guides the search on."""
