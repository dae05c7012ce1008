"""Detectors of adversarial images: their scores, and how well these tell."""
