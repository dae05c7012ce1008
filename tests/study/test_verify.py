"""`camdrift verify`: a run as it was written passes, anything else is named."""

import json
import re
import shutil

import polars as pl
import pytest
import torch

import camdrift
from camdrift.errors import StoreError, UserError
from camdrift.pipeline.chunk import fit_chunk
from camdrift.storage.integrity import disagreements
from camdrift.storage.run_directory import RunDirectory
from camdrift.study.recomputation import recomputation
from camdrift.study.verify import TOLERANCE
from support.studies import SMALL, listing, skip_report, study_of, write_factory, write_images


def verify(*arguments, **options):
    """Runs the factory that the run names."""
    return camdrift.verify(*arguments, **{"trust": True, **options})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Model, images and a finished run of them."""
    folder = tmp_path_factory.mktemp("verify")
    model = camdrift.load_model(write_factory(folder))
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        study_of(model, write_images(folder / "eight", 8), folder / "run", **SMALL)
    return folder


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder / "run", tmp_path / "run")


def rewrite(run, name, change):
    """Changes a table, and the record's checksum with it, as one who computed wrongly would."""
    directory = RunDirectory.open(run)
    (run / f"{name}.parquet").unlink() if change is None else directory.write_table(
        name, change(directory.read_table(name))
    )
    directory.write_record({**directory.read_record(), "files": directory.files()})


def with_record(run, **changed):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, **changed}))


def moved(by, rows=1):
    """Adds to the first defined similarities."""

    def change(table):
        first = pl.col("similarity").is_not_null() & (pl.col("similarity").is_not_null().cum_sum() <= rows)
        return table.with_columns(similarity=pl.when(first).then(pl.col("similarity") + by).otherwise("similarity"))

    return change


class TestSound:
    def test_everything_is_checked(self, folder):
        before = listing(folder)
        found = verify(folder / "run", sample=100)
        rows = camdrift.open(folder / "run").similarity.height
        assert found.problems == found.skipped == ()
        assert found.checked == (
            "checksums of 13 files",
            "schemas and counts of 12 tables",
            f"{rows:,} similarities of 8 seed images computed again, equal within 0.0001",
        )
        assert found.lines()[-1].endswith("run: nothing differs")
        assert listing(folder) == before

    def test_it_computes_with_the_threads_of_the_run(self, copy, monkeypatch):
        """On a processor another number of threads adds in another order: DLFuzz made other images of it."""
        threads = []

        def noted(*arguments):
            threads.append(torch.get_num_threads())
            return fit_chunk(*arguments)

        monkeypatch.setattr("camdrift.study.verify.fit_chunk", noted)
        before = torch.get_num_threads()
        for recorded in (before + 1, None):
            with_record(copy, engine={"name": "local", "threads": recorded} if recorded else None)
            assert verify(copy, sample=1).problems == ()
        assert threads == [before + 1, before]
        assert torch.get_num_threads() == before

    @pytest.mark.parametrize(("sample", "seeds"), [(1, {2, 3}), (4, {5, 6}), (7, {8}), (8, {8})])
    def test_seeds_are_drawn_by_whole_chunks(self, folder, sample, seeds):
        done = [
            int(verify(folder / "run", sample=sample, rng_seed=rng).checked[-1].split()[3])
            for rng in range(1 if sample > 4 else 3)
        ]
        assert set(done) <= seeds

    def test_several_measures_targets_and_draws(self, folder, tmp_path, monkeypatch):
        """The counts are those of every combination; seeds without a class have no rows under `label`."""
        skip_report(monkeypatch)
        labels = [f"class {number}" for number in range(10)]
        model = camdrift.load_model(write_factory(tmp_path, labels=labels))
        for number in range(2):
            (tmp_path / "in" / f"class {number}").mkdir(parents=True)
            shutil.copy(folder / "eight" / f"img_0{number}.png", tmp_path / "in" / f"class {number}")
        shutil.copy(folder / "eight" / "img_02.png", tmp_path / "in")
        (tmp_path / "in" / "broken.png").write_bytes(b"no image")
        study_of(
            model,
            tmp_path / "in",
            tmp_path / "run",
            strengths=(1.0, 2.0),
            noise_draws=2,
            targets=("own", "label"),
            explanations=("gradcam", "activation"),
            similarities=("cosine", "pearson"),
        )
        found = verify(tmp_path / "run")
        assert (found.problems, found.skipped) == ((), ())

    def test_without_a_sample(self, folder):
        found = verify(folder / "run", sample=0)
        assert found.skipped == ("similarities: no seed was to be computed again",)
        with pytest.raises(UserError, match="`sample` must be at least 0, got: -1"):
            verify(folder / "run", sample=-1)


class TestRecomputed:
    def test_a_changed_similarity_is_found(self, copy):
        rewrite(copy, "similarity", moved(0.01, rows=2))
        found = verify(copy, sample=8)
        (problem,) = found.problems
        assert "2 similarities differ (most: adversarial, strength 1, target own, layer " in problem
        assert found.checked[-1].endswith("compared within 0.0001")

    def test_rounding_is_not(self, copy):
        rewrite(copy, "similarity", moved(TOLERANCE / 2))
        assert verify(copy, sample=8).problems == ()

    def test_a_value_where_there_is_none(self, copy):
        def undefine(table):
            first = pl.int_range(pl.len()) == 0
            return table.with_columns(
                pl.when(first).then(None).otherwise("similarity").alias("similarity"),
                pl.when(first).then(pl.lit("zero_map")).otherwise("undefined_reason").alias("undefined_reason"),
            )

        rewrite(copy, "similarity", undefine)
        (problem,) = verify(copy, sample=8).problems
        assert "1 similarities differ" in problem
        assert "none is stored, now " in problem

    def test_an_image_that_has_changed_is_named(self, folder, copy, tmp_path):
        images = shutil.copytree(folder / "eight", tmp_path / "eight")
        shutil.copyfile(images / "img_05.png", images / "img_01.png")
        found = verify(copy, images=images, sample=8)
        (problem,) = found.problems
        assert problem.startswith("seed img_01.png: sha256 ")

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            ({"model": "nowhere.py:build"}, "nowhere.py"),
            ({"images": "no/such/folder"}, "no such file or folder"),
            ({"device": "cuda:99"}, "cuda"),
        ],
        ids=["model", "images", "device"],
    )
    def test_what_cannot_be_had_is_said(self, folder, arguments, reason):
        found = verify(folder / "run", **arguments)
        assert found.problems == ()
        assert len(found.checked) == 2
        assert found.skipped[0].startswith("similarities: ")
        assert reason in found.skipped[0]

    def test_a_list_of_images_is_asked_for(self, folder):
        record = camdrift.open(folder / "run").record
        arguments = {**record["arguments"], "passed": {**record["arguments"]["passed"], "images": "8 paths"}}
        with pytest.raises(UserError, match=r"a list of images, which no record keeps: 8 paths \(hint: give IMAGES"):
            recomputation({**record, "arguments": arguments}, None, None, {}, trust=True)

    def test_another_model_is_not_compared(self, folder, tmp_path):
        spec = write_factory(tmp_path, rng_seed=5)
        found = verify(folder / "run", spec)
        assert "similarities: this is another study: model was " in found.skipped[0]
        assert "weights was those of checksum" in found.skipped[0]


class TestCode:
    """A run that somebody else has made is data: what it names is not run."""

    CODE = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n"

    @pytest.fixture
    def planted(self, copy):
        (copy / "planted.py").write_text(self.CODE)
        return f"{copy}/planted.py:build"

    @pytest.mark.parametrize("where", ["model", "attack", "surrogate"])
    def test_it_is_not_run_unasked(self, folder, copy, planted, where):
        record = json.loads((copy / "run.json").read_text())
        arguments = record["arguments"]
        if where == "surrogate":
            record["surrogate"] = {**record["model"], "spec": planted}
        else:
            arguments["effective"][where] = planted
            arguments["passed"] |= {"attack": planted} if where == "attack" else {}
        with_record(copy, **record)
        mine = {} if where == "model" else {"model": record["model"]["spec"]}
        found = camdrift.verify(copy, **mine)
        said = f"similarities: the run names Python code, which is not run unasked: {planted} (hint: --trust runs it"
        assert found.skipped[0].startswith(said)
        assert not (copy / "planted.ran").exists()
        if where == "attack":  # what is made is what was passed
            arguments["effective"][where] = "dlfuzz"
            with_record(copy, **record)
            assert camdrift.verify(copy, **mine).skipped[0].startswith(said)
            assert not (copy / "planted.ran").exists()
        verify(copy, **mine)
        assert (copy / "planted.ran").exists()

    def test_a_model_that_is_named_is_run(self, folder):
        found = camdrift.verify(folder / "run", f"{folder}/tiny.py:build", sample=1)
        assert (found.problems, found.skipped) == ((), ())


GRAIN = """
def grain(image, rng):
    return (image + 0.05 * rng.standard_normal(image.shape)).clip(0, 1)
"""


@pytest.fixture(scope="module")
def changed(folder, tmp_path_factory):
    """A run whose natural change lies in a file beside it."""
    place = tmp_path_factory.mktemp("grain")
    (place / "changes.py").write_text(GRAIN)
    model = camdrift.load_model(f"{folder}/tiny.py:build")
    with pytest.MonkeyPatch.context() as patch:
        skip_report(patch)
        study_of(model, folder / "eight", place / "run", perturb=[f"{place}/changes.py:grain"], **SMALL)
    return place


class TestNaturalChanges:
    @pytest.fixture
    def place(self, changed, tmp_path):
        """The same, to be changed; its record names the file of its own."""
        return shutil.copytree(changed, tmp_path / "place")

    def test_they_are_computed_again(self, changed):
        found = verify(changed / "run")
        rows = camdrift.open(changed / "run").perturbed.height
        assert (found.problems, found.skipped) == ((), ())
        words = f"{rows:,} similarities under natural changes of 8 seed images computed again, equal within 0.0001"
        assert found.checked[-1] == words

    def test_a_changed_similarity_is_found(self, place):
        rewrite(place / "run", "perturbed", moved(0.01, rows=2))
        found = verify(place / "run", sample=8)
        (problem,) = found.problems
        assert re.search(
            r"img_\d+\.png: 2 similarities differ \(most: .*/changes.py:grain, natural, strength 1, ", problem
        )
        assert "computed again, equal within" in found.checked[-2]
        assert "natural changes of 8 seed images computed again, compared within" in found.checked[-1]

    def test_code_is_not_run_unasked_and_not_when_it_is_another(self, folder, changed):
        spec, file = f"{folder}/tiny.py:build", changed / "changes.py"
        found = camdrift.verify(changed / "run", spec, sample=1)
        unasked = "the run names Python code, which is not run unasked"
        said = f"natural changes: {unasked}: {file}:grain (hint: --trust runs it)"
        assert (found.problems, found.skipped) == ((), (said,))
        assert "equal within" in found.checked[-1]  # the attack's similarities are computed again all the same
        file.write_text(GRAIN + "raise SystemExit\n")
        try:
            found = verify(changed / "run", sample=1)
        finally:
            file.write_text(GRAIN)
        said = "natural changes: the code of the perturbations was another: changes.py changed"
        assert (found.problems, found.skipped) == ((), (said,))


class TestTables:
    @pytest.mark.parametrize(
        ("name", "change", "problem"),
        [
            ("seeds", lambda t: t.head(7), "seeds.parquet: 7 images of the study, expected 8"),
            ("seeds", lambda t: pl.concat([t.head(7), t.head(1)]), "7 different names of seed images, expected 8"),
            ("variants", lambda t: t.slice(1), "variants.parquet: 1 seed images have another number of rows"),
            ("similarity", lambda t: t.slice(2), "(first: img_0"),
            ("layers", lambda t: t.slice(1), "layers.parquet: 7 rows, expected 8"),
            ("floor", None, "floor.parquet is missing"),
        ],
    )
    def test_counts_that_do_not_agree(self, copy, name, change, problem):
        rewrite(copy, name, change)
        assert problem in "\n".join(verify(copy, sample=0).problems)

    def test_a_flipped_bit_a_cut_and_a_missing_file(self, copy):
        data = bytearray((copy / "focus.parquet").read_bytes())
        data[10] ^= 1
        (copy / "focus.parquet").write_bytes(data)
        (copy / "counts.parquet").write_bytes(b"PAR1")
        (copy / "gallery.npz").unlink()
        problems = "\n".join(verify(copy, sample=0).problems)
        assert "focus.parquet is not what was written" in problems
        assert "counts.parquet is not what was written" in problems
        assert "gallery.npz is missing" in problems

    def test_tables_of_which_no_checksum_is_known_are_read(self, copy):
        with_record(copy, files=None)
        (copy / "counts.parquet").write_bytes(b"PAR1")
        assert "counts.parquet cannot be read" in "\n".join(verify(copy, sample=0).problems)

    def test_other_columns(self, copy):
        path = copy / "counts.parquet"
        pl.read_parquet(path).drop("n_seeds").write_parquet(path)
        with_record(copy, files=None)
        assert "counts.parquet has not the columns" in "\n".join(verify(copy, sample=0).problems)

    def test_a_similarity_with_a_reason_why_there_is_none(self, folder):
        study = camdrift.open(folder / "run")
        wrong = study.similarity.with_columns(undefined_reason=pl.lit("zero_map"))
        defined = study.similarity["similarity"].is_not_null().sum()
        (problem,) = disagreements({"seeds": study.seeds, "similarity": wrong}, study.record)
        assert f"{defined:,} rows have neither a similarity nor a reason" in problem

    def test_a_record_without_checksums(self, copy):
        with_record(copy, files=None)
        found = verify(copy, sample=0)
        assert found.skipped[0].startswith("checksums: ")

    def test_a_run_that_is_not_complete(self, copy):
        with_record(copy, status="running")
        with pytest.raises(StoreError, match="is not complete"):
            verify(copy)


class TestCommand:
    def test_exit_codes(self, folder, copy, camdrift_command):
        code, out, err = camdrift_command("verify", folder / "run", "--sample", 3, "--trust")
        assert (code, err) == (0, "")
        assert out.splitlines()[-1] == f"{folder / 'run'}: nothing differs"
        assert "computed again, equal within 0.0001" in out
        code, out, err = camdrift_command("verify", folder / "run", "--json")
        result = json.loads(out)
        assert (code, result["problems"], result["is_complete"]) == (4, [], False)
        assert "not run unasked" in result["skipped"][0]
        assert camdrift_command("verify", folder / "run", "--sample", 0)[0] == 0
        rewrite(copy, "similarity", moved(0.5))
        code, out, err = camdrift_command("verify", copy, "--sample", 8, "--trust", "--images", folder / "eight")
        assert (code, err) == (1, "")
        assert "differs: seed img_0" in out
        assert out.splitlines()[-1] == f"{copy}: 1 difference"
        code, _, err = camdrift_command("verify", folder / "nothing")
        assert (code, err.splitlines()[0][:6]) == (2, "error:")
