"""Folders and files: whole or absent, checked before use. This room knows no science."""
