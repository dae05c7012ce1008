"""Purifiers of images."""
