"""Seed images: their places, their selection, their pixels."""
