"""A gallery is read by several threads, and its sizes are looked at before anything is unpacked."""

import io
import sys
import threading
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import pytest

from camdrift.errors import StoreError
from camdrift.storage import archives
from camdrift.storage.archives import open_arrays, write_arrays

ARRAYS = {f"{i}/map/{k}": np.full((3, 8, 8), 16 * i + k, np.uint8) for i in range(4) for k in range(8)}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "gallery.npz"
    with path.open("wb") as file:
        write_arrays(file, ARRAYS.items(), ZIP_DEFLATED)
    return path


class TestThreads:
    @pytest.fixture(autouse=True)
    def _switch_often(self):
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        yield
        sys.setswitchinterval(before)

    def test_each_has_an_archive_of_its_own(self, path, monkeypatch):
        """One archive of Python 3.12 or 3.13 takes sound arrays for damaged ones if two threads read from it."""
        readers = {}

        class Archive(ZipFile):
            def open(self, *arguments, **options):
                readers.setdefault(id(self), set()).add(threading.get_ident())
                return super().open(*arguments, **options)

        monkeypatch.setattr(archives, "ZipFile", Archive)
        both, wrong = threading.Barrier(2), []
        with open_arrays(path) as arrays:

            def read():
                both.wait()
                wrong.extend(key for key in arrays if not np.array_equal(arrays[key], ARRAYS[key]))

            threads = [threading.Thread(target=read) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert wrong == []
        assert sorted(map(len, readers.values())) == [1, 1]


def test_headers_are_parsed_one_at_a_time(path, monkeypatch):
    """Python's parser of literals is shared by all threads, and 3.11.7 raises SystemError by chance."""
    parse, is_alone = archives._HEADERS[1, 0], []
    monkeypatch.setitem(
        archives._HEADERS, (1, 0), lambda file: (is_alone.append(archives._PARSING.locked()), parse(file))[1]
    )
    with open_arrays(path) as arrays:
        assert len([arrays[key] for key in arrays]) == len(ARRAYS)
    assert is_alone == [True] * len(ARRAYS)


def test_arrays_keep_their_order_and_can_be_written_to(tmp_path):
    array = np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3))
    with (tmp_path / "a.npz").open("wb") as file:
        write_arrays(file, [("a", array)], ZIP_STORED)
    with open_arrays(tmp_path / "a.npz") as arrays:
        read = arrays["a"]
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)
    read += 1


class TestSizes:
    def test_a_large_array_is_not_unpacked(self, path):
        with open_arrays(path, most=300) as arrays, pytest.raises(StoreError) as caught:
            arrays["0/map/0"]
        assert "0/map/0.npy unpacks to 320 bytes, more than 300" in caught.value.message

    def test_a_header_must_fit_its_array(self, path):
        """Else room would be made for what the header promises."""
        data = io.BytesIO()
        np.lib.format.write_array(data, np.zeros((3, 8, 8), np.uint8))
        text = data.getvalue().replace(b"(3, 8, 8)", b"(9, 8, 8)")
        with ZipFile(path, "w") as archive:
            archive.writestr("x.npy", text)
        with open_arrays(path) as arrays, pytest.raises(StoreError, match="not what its header says"):
            arrays["x"]

    def test_a_name_is_looked_up_without_reading(self, path, monkeypatch):
        with open_arrays(path, most=1) as arrays:
            assert "0/map/0" in arrays
            assert "0/map/9" not in arrays
            assert len(arrays) == 32
