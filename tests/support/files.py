"""Files that hold nothing, and files that nobody may read."""

import os
from pathlib import Path


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def deny(monkeypatch, method, name):
    """Takes away a right, as no permission bits do from the superuser."""
    granted = getattr(Path, method)

    def denied(path):
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return granted(path)

    monkeypatch.setattr(Path, method, denied)


def lock(monkeypatch, name):
    """Nobody may list the folders of one name."""
    deny(monkeypatch, "iterdir", name)
    granted = os.scandir

    def denied(path):
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return granted(path)

    monkeypatch.setattr(os, "scandir", denied)
