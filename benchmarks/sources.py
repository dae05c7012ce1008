"""Time and memory to list many images: a folder of hard links, its list of paths, shards; each in a process of its own.

python benchmarks/sources.py [--images 100000] [--folder /tmp]
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

MEASURE = """
import json, resource, sys, time
from camdrift.images.selection import select_images
from camdrift.pipeline.settings import Settings

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before, wall, cpu = peak(), time.perf_counter(), time.process_time()
found = select_images(sys.argv[1], per_class=Settings(sample=sys.argv[2] or None).per_class).files
print(json.dumps([len(found), time.perf_counter() - wall, time.process_time() - cpu, peak() - before]))
"""
PER_FOLDER, PER_SHARD = 1000, 10_000


def make_folder(root: Path, images: int) -> None:
    """Hard links of one empty file, a thousand per class."""
    for start in range(0, images, PER_FOLDER):
        folder = root / f"n{start // PER_FOLDER:08d}"
        folder.mkdir(parents=True)
        first = folder / f"ILSVRC2012_val_{start:08d}.JPEG"
        first.touch()
        for number in range(start + 1, min(start + PER_FOLDER, images)):
            os.link(first, folder / f"ILSVRC2012_val_{number:08d}.JPEG")


def make_shards(root: Path, images: int) -> None:
    """Shards of ten thousand images of a hundred bytes, each with its label."""
    root.mkdir()
    for start in range(0, images, PER_SHARD):
        with tarfile.open(root / f"shard-{start // PER_SHARD:05d}.tar", "w") as tar:
            for number in range(start, min(start + PER_SHARD, images)):
                for ending, data in (("jpg", b"x" * 100), ("cls", str(number % 1000).encode())):
                    member = tarfile.TarInfo(f"{number:08d}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def measure(what: str, source: Path, sample: str = "") -> None:
    """One line of the table."""
    done = subprocess.run([sys.executable, "-c", MEASURE, str(source), sample], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    count, wall, cpu, memory = json.loads(done.stdout)
    print(f"| {what} | {count:,} | {wall:.1f} | {cpu:.1f} | {memory:.0f} |", flush=True)


def main() -> None:
    """Makes the files, measures, removes the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the files are made; the system's folder for such files")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=wanted.folder) as name:
        root = Path(name)
        make_folder(root / "photos", wanted.images)
        make_shards(root / "shards", wanted.images)
        paths = sorted(path.relative_to(root).as_posix() for path in (root / "photos").rglob("*.JPEG"))
        (root / "list.txt").write_text("\n".join(paths), encoding="utf-8")
        print("| source | images | seconds | of the processor | MiB |\n|---|---|---|---|---|")
        measure("folder", root / "photos")
        measure("folder, 5-per-class", root / "photos", "5-per-class")
        measure("list of paths", root / "list.txt")
        measure("shards with labels", root / "shards")


if __name__ == "__main__":
    main()
