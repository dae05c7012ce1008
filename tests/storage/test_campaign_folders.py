"""The folder of a campaign that is killed at its very start."""

import shutil
import sys

import pytest

from camdrift.storage.campaign_directory import CampaignDirectory


class _Killed(BaseException):
    """In place of a signal that nobody can catch."""


STEPS = 30
RECORD = {"camdrift": "1", "kind": "fuzz"}
_state = {"left": None}


def _count(event, arguments):
    if _state["left"] is not None and event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "open"):
        _state["left"] -= 1
        if _state["left"] < 0:
            _state["left"] = None
            raise _Killed


sys.addaudithook(_count)


@pytest.mark.parametrize("has_ended", [False, True], ids=["new", "in place of one that has ended"])
def test_the_same_command_may_follow_at_any_moment(has_ended, tmp_path):
    moments = 0
    for steps in range(STEPS):
        directory = CampaignDirectory(tmp_path / f"{steps}")
        directory.path.mkdir()
        if has_ended:
            directory.begin(RECORD)
            (directory.trials / "fuzz.json").rename(directory.path / "fuzz.json")
            shutil.rmtree(directory.trials)
        _state["left"] = steps
        try:
            directory.begin(RECORD)
        except _Killed:
            moments += 1
        finally:
            _state["left"] = None
        if not directory.is_going_on:
            directory.check_free(overwrite=has_ended)
        with directory.writing():
            directory.begin(RECORD)
        assert directory.read_record()["kind"] == "fuzz"
        assert {path.name for path in directory.path.iterdir()} - {"fuzz.json"} == {"trials"}
    assert 3 <= moments < STEPS
