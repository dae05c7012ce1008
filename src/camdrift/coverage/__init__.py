"""Neurons: what an image covers, how coverage grows, and which neurons to activate next."""
