"""launch/site.py: links of the documentation's pages, before and after the site is built."""

import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("site_builder", ROOT / "launch" / "site.py")
site = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(site)


def test_links_into_the_source_are_names_of_files_and_pages_have_titles():
    text = (
        "[api](../seal_jax/api.py), [launch/](../launch), [design.md](design.md#words), "
        "[the words](design.md#words), [x](https://x.org), ![d](loop.svg), [run](runs/demo)"
    )
    found, missing = site.without_source(text, ROOT / "docs")
    assert found == (
        "`api`, `launch/`, [Design](design.md#words), [the words](design.md#words), "
        "[x](https://x.org), ![d](loop.svg), `run`"
    )
    assert not missing
    assert site.without_source("[a](../gone.py)", ROOT / "docs")[1] == ["../gone.py"]


def test_dead_links_and_dead_anchors_are_found(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text("<h1 id='here'>x</h1>")
    (tmp_path / "index.html").write_text(
        "<a href='other/#here'>a</a><a href='other/#gone'>b</a><a href='gone/'>c</a>"
        "<a href='https://x.org/gone'>d</a>"
    )
    assert site.dead_links(tmp_path) == [
        "index.html: other/#gone leads nowhere", "index.html: gone/ leads nowhere",
    ]  # fmt: skip


def test_no_page_for_users_names_a_place_of_development():
    for page in (ROOT / "docs").glob("*.md"):
        text = page.read_text()
        assert "../shared" not in text, page
