"""Engines, which compute the chunks: this process, or workers on Ray."""
