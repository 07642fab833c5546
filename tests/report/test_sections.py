"""What stands on the pages of the made-up results: the pages as a whole are in tests/report/pages/.

After a change that means to change them, `RENEW=1 python -m pytest tests/report/test_sections.py` writes them
again; check the difference number by number.
"""

import os
from pathlib import Path

import pytest
from made_up import make_tree

from report.pages import render
from report.results import read_results

FOLDER = Path(__file__).parent / "pages"
NAMES = sorted(path.stem for path in FOLDER.iterdir())


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    tree = make_tree(tmp_path_factory.mktemp("front"))
    outputs = render(results := read_results(tree / "results"), tree / "README.md")
    assert results.faults == []
    texts = {path.parent.name: text for path, text in outputs.items() if path.name == "README.md"}
    texts["front"] = texts.pop(tree.name)
    for name in texts if "RENEW" in os.environ else ():
        (FOLDER / f"{name}.md").write_bytes(texts[name])
    return texts


def test_every_page_has_its_file(pages):
    assert sorted(pages) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_every_number_and_explains_its_signs(pages, name):
    assert pages[name].decode() == (FOLDER / f"{name}.md").read_text("utf-8")
