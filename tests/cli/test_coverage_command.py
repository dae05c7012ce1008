"""`camdrift coverage` as a person meets it."""

import json

import pytest

from support.studies import write_factory, write_images


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return write_factory(tmp_path_factory.mktemp("model"))


def test_a_table_that_fits_a_terminal(camdrift_command, eight, spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ordinary = write_images(tmp_path / "ordinary", 13)
    line = ("coverage", eight, "--model", spec, "--profile", ordinary)
    code, out, _ = camdrift_command(*line)
    assert code == 0
    head, *lines = out.splitlines()
    assert head.split() == ["criterion", "value", "covered", "of"]
    (folder,) = (tmp_path / "runs").iterdir()
    assert lines[-1] == f"runs/{folder.name}"
    table = lines[: lines.index("")]
    assert len(table) == 16
    assert all(len(row) <= 80 for row in table)
    assert next(row for row in table if row.startswith("snac")).split()[1:3] == ["0", "0"]
    assert "8 of 8 images are in the profile too: they cannot leave its bounds, and are no surprise" in lines
    assert sorted(path.name for path in folder.iterdir()) == [
        "coverage.json", "criteria.parquet", "criteria_layers.parquet", "profile.npz",
    ]  # fmt: skip


def test_json_and_limit(camdrift_command, eight, spec, tmp_path):
    line = ("coverage", eight, "--model", spec, "--criteria", "nc(threshold=0.5),tknc", "--out", tmp_path / "out")
    code, out, _ = camdrift_command(*line, "--limit", "3", "--json")
    assert code == 0
    result = json.loads(out)
    assert [row["criterion"] for row in result["criteria"]] == ["nc(threshold=0.5)", "tknc(k=1)"]
    assert {row["n_images"] for row in result["criteria"]} == {3}
    assert result["folder"] == str(tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["--criteria", "kmmc"], "`criteria` must be of nc, ", "did you mean `kmnc`? "),
        (["--criteria", "nbc"], "`nbc` needs a profile: ", "--profile FOLDER"),
        (["--criteria", "kmnc(k=0)", "--profile", "."], "`k` of criterion `kmnc` must be 1 or more, got: 0", ""),
        (["--profile", "nothing/"], "no such file or folder, and no image matches it: nothing", "give a folder"),
        (["--out", "s3://bucket/run"], "`out` must be a folder of this machine, got: s3://bucket/run", "copy it"),
    ],
)
def test_mistakes_are_one_line_with_a_cure(camdrift_command, eight, spec, arguments, error, hint):
    code, out, err = camdrift_command("coverage", eight, "--model", spec, *arguments)
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert lines[-2].startswith(f"error: {error}")
    assert lines[-1].startswith(f"hint: {hint}")


def test_reasons_are_told_once(camdrift_command, eight, spec, tmp_path):
    code, out, _ = camdrift_command("coverage", eight, "--model", spec, "--out", tmp_path / "out")
    assert code == 0
    (reason,) = (line for line in out.splitlines() if line.startswith("no profile: "))
    assert reason.startswith("no profile: kmnc, nbc, snac, cc, ")
