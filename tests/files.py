"""Files that hold nothing, and files that nobody may read."""

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
