"""A classifier from pixels to logits, loaded from anywhere."""
