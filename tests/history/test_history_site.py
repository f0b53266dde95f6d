"""``diffspeed history site``: from both stores, the same bytes again, into its own folder."""

import json
import subprocess
import sys

import pytest
from history_sessions import chained, compared, example, moved, session

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.history.histories import read_histories, read_size
from pytest_diffspeed.reports.site.folder import LIST, page_of
from pytest_diffspeed.reports.site.tracks import rows_of

TEST = "test_sdxl.py::test_fast[compile]"


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def site(tmp_path, store_url, capsys):
    """Build into a folder; its files, or the sentence of a refusal."""

    def build(name="pages", *words):
        where = ["--store", store_url, "--rootdir", str(tmp_path)]
        status = main(["history", "site", "--out", str(tmp_path / name), *where, *words])
        out, err = capsys.readouterr()
        return (files_of(tmp_path / name), out) if status == 0 else err

    return build


def test_both_stores_give_the_same_site_and_a_rebuild_the_same_bytes(
    tmp_path, history, postgresql, database
):
    history("list", sessions=[*list(example())[:45], *chained()])
    history("export", "all.jsonl")
    url = postgresql.url(database)
    history("import", "all.jsonl", "--store", url)
    assert history("site", "--out", "one")[2] == history("site", "--out", "two", "--store", url)[2]
    one = files_of(tmp_path / "one")
    assert one == files_of(tmp_path / "two") and len(one) > 10
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*.*")}
    assert history("site", "--out", "one")[2] == 0
    assert files_of(tmp_path / "one") == one
    # Not even written again: what publishes a folder sees what changed.
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_row_shows_the_newest_of_each_figure(add, store):
    add(*list(example())[:80], *moved(), *chained())
    with store.reading() as connection:
        assert read_size(connection).sessions == 80  # moved() and chained() are of the same names
        (history,) = read_histories(connection)
    (row,) = rows_of(history, "page")
    assert row.test == TEST and row.state == "worse" and row.verdict == "PASS"
    assert list(row.cells) == ["ratio", "breaks"]
    assert row.cells["breaks"].value == "0" and row.cells["ratio"].value.endswith("×")


def test_an_index_is_shown_by_its_newest_curve(add, store):
    add(*chained())
    with store.reading() as connection:
        (history,) = read_histories(connection)
    (row,) = rows_of(history, "page")
    assert list(row.cells) == ["speed index", "ratio"]
    assert row.cells["speed index"].value == "0.972×"  # docs/history.md shows it of this history
    assert len(row.cells["ratio"].parts) == 2 and history.differing.keys() == {1}


def test_pages_of_pruned_tests_go_and_files_of_others_stay(add, site, store_url, tmp_path):
    add(session(1), compared(2, 1, 1.0, test="test_other.py::test_gone"))
    files, _ = site()
    assert page_of("test_other.py::test_gone") in files
    (tmp_path / "pages" / "CNAME").write_text("speed.example.com")
    assert main(["history", "prune", "--keep", "1", "--yes", "--store", store_url]) == 0
    files, out = site()
    assert page_of(TEST) not in files and page_of("test_other.py::test_gone") in files
    assert "1 file of earlier builds deleted" in out
    assert files["CNAME"] == b"speed.example.com"


def test_only_an_empty_folder_or_an_own_one_is_written(add, site, tmp_path):
    add(session(1))
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "index.html").write_text("mine")
    said = site("theirs")
    assert "it holds 'index.html', and no build of ours wrote it; name an empty folder" in said
    assert files_of(theirs) == {"index.html": b"mine"}
    (theirs / LIST).write_text('{"made_by": "somebody", "files": []}')
    assert f"its {LIST} is none that a build of ours wrote" in site("theirs")
    (tmp_path / "file").write_text("")
    assert "it is a file; name a folder" in site("file")
    (tmp_path / "link").symlink_to(theirs)
    assert "it is a symbolic link to" in site("link")

    site("own")
    page = tmp_path / "own" / "tests"
    page.rename(tmp_path / "moved")
    page.symlink_to(tmp_path / "moved")
    assert "tests in it is a symbolic link; delete it" in site("own")


def test_a_file_of_somebody_else_in_an_own_folder_is_not_replaced(add, site, tmp_path):
    add(session(1))
    site()
    add(session(2), compared(3, 2, 1.0, test="test_new"))
    theirs = tmp_path / "pages" / page_of("test_new")
    theirs.write_text("mine")
    assert f"the file {page_of('test_new')} in it is none that a build of ours wrote" in site()
    assert theirs.read_text() == "mine"


def test_a_list_that_names_files_elsewhere_deletes_none_of_them(add, site, tmp_path):
    add(session(1))
    site()
    (tmp_path / "keep.html").write_text("mine")
    path = tmp_path / "pages" / LIST
    content = json.loads(path.read_text())
    content["files"] += ["../keep.html", "tests/../../keep.html", 7, "assets/../../keep.html"]
    content["pictures"] = {"a": ["../keep.html", 1, 1], "b": 3}
    path.write_text(json.dumps(content))
    site()
    assert (tmp_path / "keep.html").read_text() == "mine"
    assert "keep" not in path.read_text()


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("test_a.py::test_x[A]", "test_a.py::test_x[a]"),
        ("test_a.py::test_x", "test_b.py::test_x"),
        ("a/b::t", "a::b/t"),
        ("é" * 300, "é" * 301),
        ("..", "../.."),
        ("\ud800", "\ud801"),
    ],
)
def test_two_tests_never_share_a_page_whatever_the_file_system(one, two):
    names = page_of(one), page_of(two)
    assert names[0].lower() != names[1].lower()
    for name in names:
        folder, _, file = name.partition("/")
        assert folder == "tests" and len(file) <= 80
        assert set(file) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")


def test_an_empty_store_has_a_page_that_says_so(add, site):
    add([session(1)[0]])
    files, out = site()
    assert "No figure is in this history yet" in files["index.html"].decode()
    assert "0 tests in" in out


def test_no_torch_is_imported(history, tmp_path):
    history("list", sessions=[session(1)])
    code = (
        "import sys; from pytest_diffspeed.commands.cli import main\n"
        "assert main(['history', 'site', '--out', 'pages']) == 0\n"
        "assert not {'torch', 'diffusers', 'pytest'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "index.html" in done.stdout
