"""Attributions of every layer, and how far two of them lie apart."""
