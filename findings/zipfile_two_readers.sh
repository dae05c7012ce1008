#!/usr/bin/env bash
# Python 3.12.1 and 3.13.0, zipfile: an archive that two threads read from takes sound members for damaged ones, or reads
# bytes of one for the other's.
#
# `ZipFile.open` skips the extra field of a member (which every member written with `force_zip64` has, as those of
# `numpy.savez` do) by `seek(length, whence=1)`, from where the shared file stands; another reader may have moved it since
# the header was read. Python 3.11 reads the field instead. Here a file stands for the other thread: it moves right after
# the header of the second member was read.
#
# Seen:
#   3.11.7    as written
#   3.12.1    error: Error -3 while decompressing data: invalid block type
#   3.13.0    the same
# Exits with 1 once that is no longer so.
set -euo pipefail
: "${PYTHON:=python3.13}"
"$PYTHON" - <<'PYTHON'
import io
import sys
import zipfile
import zlib


class Moved(io.BytesIO):
    """A file in which another reader reads, right after the 30 bytes of a member's header."""

    is_moved = False

    def seek(self, offset, whence=0):
        if self.is_moved and whence == 1:
            super().seek(0)
        return super().seek(offset, whence)


file = Moved()
with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
    for name in ("a", "b"):
        with archive.open(name, "w", force_zip64=True) as member:
            member.write(name.encode() * 1000)
with zipfile.ZipFile(file) as archive:
    file.is_moved = True
    try:
        text = "as written" if archive.read("b") == b"b" * 1000 else "other bytes"
    except (zipfile.BadZipFile, zlib.error) as error:
        text = f"{type(error).__name__}: {error}"
print(f"Python {sys.version.split()[0]}: {text}")
is_shared = (3, 12) <= sys.version_info < (3, 14)
assert (text != "as written") == is_shared, "zipfile tells its readers apart now"
PYTHON
