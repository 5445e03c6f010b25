"""The report in a headless Chromium: search, keys, phone width, both themes, a large run."""

import time

import pytest

from seal_jax.reports.html import report

from . import chromium, made_runs

_EVIL = '</script><img src=x onerror="window.bad=1"><script>window.bad=1</script>'
_FOCUSED = "document.activeElement.innerText || document.activeElement.id"
_OPEN = "[...document.querySelectorAll('#contexts > details[open]')].length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    path = chromium.find()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(chromium.NAMES)} is installed")
    with chromium.Chromium(path, tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of a run with a hostile self-edit in every context."""
    folder = made_runs.knowledge(
        tmp_path_factory.mktemp("runs") / "run",
        contexts=4, edits=3, replicates=2, questions=3,
        edit_text=lambda c, m: f"1. Copper {c} {m}.\n2. {_EVIL}",
    )  # fmt: skip
    return report.write(str(folder))


def _shown(browser, selector):
    """The texts of the elements that can be seen."""
    return browser.run(
        f"[...document.querySelectorAll({selector!r})].filter(e => e.checkVisibility())"
        ".map(e => e.innerText)"
    )


def _search(browser, text):
    browser.run("document.getElementById('search').value = ''")
    browser.run("document.getElementById('search').focus()")
    browser.type(text)


def test_search_filters_contexts_and_questions(browser, page):
    browser.open(page)
    assert browser.run("document.getElementById('count').innerText") == "4 contexts"
    _search(browser, 'copper "train 2 comes" "place 1"')
    browser.until("document.getElementById('count').innerText === '1 of 4 contexts found'")
    [summary] = _shown(browser, "#contexts > details > summary")
    assert summary.startswith("train article 2")
    browser.run("document.querySelector('#contexts summary').click()")
    browser.until("document.querySelector('.edit') !== null")
    browser.run("document.querySelector('.edit summary').click()")
    browser.until("document.querySelector('.question') !== null")
    [question] = _shown(browser, ".question")
    assert "What of train 2 comes at place 1?" in question
    assert [word in question for word in ("unadapted", "adapted 1", "adapted 2")] == [True] * 3
    assert "1 of 3 questions have these words." in _shown(browser, ".edit .note")
    assert _shown(browser, ".question mark") == ["train 2 comes", "place 1"]
    _search(browser, "no such word")
    browser.until("document.getElementById('count').innerText === '0 of 4 contexts found'")
    assert _shown(browser, "#contexts .note") == ["Nothing here has all of these words."]
    browser.press("Escape")
    browser.until("document.getElementById('count').innerText === '4 contexts'")


def test_another_stage(browser, page):
    browser.open(page)
    browser.run("document.getElementById('stage').value = '2'")
    browser.run("document.getElementById('stage').dispatchEvent(new Event('change'))")
    summaries = _shown(browser, "#contexts > details > summary")
    assert len(summaries) == 2 and summaries[0].startswith("held out article 0")


def test_keys_alone_reach_everything(browser, page):
    browser.open(page)
    browser.press("Tab")
    assert browser.run(_FOCUSED) == "Skip to the explorer"
    outline = browser.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    browser.press("/")
    assert browser.run(_FOCUSED) == "search"
    browser.press("ArrowDown")
    assert browser.run(_FOCUSED).startswith("train article 0")
    browser.press("ArrowDown")
    assert browser.run(_FOCUSED).startswith("train article 1")
    browser.press("ArrowRight")
    browser.until(f"{_OPEN} === 1")
    browser.until("document.querySelector('.edit') !== null")
    browser.press("ArrowDown")
    assert browser.run(_FOCUSED) == "Passage"
    browser.press("ArrowDown")
    assert browser.run(_FOCUSED).startswith("Self-edit")
    browser.press("ArrowRight")
    browser.until("document.querySelectorAll('.question').length === 3")
    browser.press("ArrowLeft")
    browser.until("document.querySelector('.edit[open]') === null")
    browser.press("ArrowLeft")
    assert browser.run(_FOCUSED).startswith("train article 1")
    browser.press("ArrowLeft")
    browser.until(f"{_OPEN} === 0")
    browser.press("End")
    assert browser.run(_FOCUSED).startswith("train article 3")
    browser.press("Home")
    browser.press("ArrowUp")
    assert browser.run(_FOCUSED) == "search"


def test_names_and_landmarks(browser, page):
    browser.open(page)
    for selector in ("header", "main", "nav[aria-label]", "h1", "[role=search][aria-label]"):
        assert browser.run(f"document.querySelectorAll({selector!r}).length") == 1, selector
    nameless = browser.run(
        "[...document.querySelectorAll('input, select, button, section, [role=region]')].filter("
        "e => !(e.labels?.length || e.innerText && e.tagName === 'BUTTON'"
        " || e.getAttribute('aria-label')"
        " || document.getElementById(e.getAttribute('aria-labelledby')))).length"
    )
    assert nameless == 0


@pytest.mark.parametrize("few_shot", [False, True])
def test_phone_width(browser, page, few_shot, tmp_path):
    if few_shot:
        page = report.write(str(made_runs.few_shot(tmp_path / "arc")))
    browser.open(page, width=360, height=740)
    browser.run("document.querySelectorAll('details').forEach(box => { box.open = true; })")
    browser.until("document.querySelector('.edit') !== null")
    browser.run("document.querySelectorAll('details').forEach(box => { box.open = true; })")
    browser.until("document.querySelector('.edit .inside') !== null")
    assert browser.run("innerWidth") == 360
    assert browser.run("document.documentElement.scrollWidth") == 360
    boxes = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
    assert browser.run(f"{boxes}.length") > 0  # so there was something to keep in its box


@pytest.mark.parametrize("width", [390, 700, 1200])
def test_the_header_at_every_width(browser, page, width):
    browser.open(page, width=width)
    box = "getBoundingClientRect()"
    assert browser.run(f"document.querySelector('header').{box}.height") < 135
    heights = browser.run(f"[...document.querySelectorAll('nav a')].map(a => a.{box}.height)")
    assert len(heights) == 7 and max(heights) < 30  # none is broken in two
    right = browser.run(f"document.querySelector('h1').{box}.right")
    assert right <= browser.run(f"document.getElementById('theme').{box}.left")
    inside = "[...document.querySelectorAll('header *')].map(e => e.getBoundingClientRect().right)"
    assert max(browser.run(inside)) <= width
    plot = "[...document.querySelectorAll('.forests svg')].map(e => e.getBoundingClientRect())"
    assert browser.run(f"{plot}.every(b => b.width > 250 && b.right <= {width})")


def _contrast(browser, selector):
    """The contrast of an element's text with the page, by WCAG's formula."""
    return browser.run(
        """(() => {
          const light = (colour) => {
            const canvas = document.createElement('canvas').getContext('2d');
            canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
              .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const of = (e, key) => light(getComputedStyle(e)[key]);
          const pair = [of(document.querySelector(SELECTOR), 'color'),
            of(document.body, 'backgroundColor')].sort((a, b) => b - a);
          return (pair[0] + 0.05) / (pair[1] + 0.05);
        })()""".replace("SELECTOR", repr(selector))
    )


def test_both_themes_and_the_button(browser, page):
    paper = "getComputedStyle(document.body).backgroundColor"
    found = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}
    for scheme in ("light", "dark"):
        browser.open(page, scheme=scheme)
        browser.run("document.querySelector('#contexts summary').click()")
        browser.until("document.querySelector('.kept') !== null")
        assert browser.run(paper) == found[scheme]
        for selector in ("main", ".note", "a", ".kept", ".facts dt"):
            assert _contrast(browser, selector) > 4.5, (scheme, selector)
        for name in ("light", "dark", "as the system"):
            browser.run("document.getElementById('theme').click()")
            assert browser.run("document.getElementById('theme').innerText") == f"Theme: {name}"
            assert browser.run(paper) == found.get(name, found[scheme])


def test_a_hostile_self_edit_does_nothing(browser, page):
    browser.open(page)
    browser.run("document.querySelectorAll('#contexts > details').forEach(b => { b.open = true; })")
    browser.until("document.querySelectorAll('.edit').length === 12")
    browser.run(
        "document.querySelectorAll('.edit, .edit details').forEach(b => { b.open = true; })"
    )
    browser.until("document.querySelectorAll('.question').length === 36")
    assert browser.run("document.querySelector('.edit .text').innerText").endswith(_EVIL)
    assert browser.run("window.bad === undefined && document.images.length === 0")
    asked = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    assert len(asked) == 1 and asked[0].startswith("file:")  # the page itself
    assert not [e for e in browser.events if e.get("method") == "Runtime.exceptionThrown"]
    # Even an element that got through all escaping could run nothing.
    browser.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"bad=1\">')")
    browser.until("document.images[0].complete")
    assert browser.run("window.bad === undefined")


def test_grids_are_drawn(browser, tmp_path):
    browser.open(report.write(str(made_runs.few_shot(tmp_path / "arc"))))
    browser.run("document.querySelectorAll('#contexts summary')[1].click()")
    browser.until("document.querySelectorAll('.edit').length === 3")
    browser.run("document.querySelector('.edit summary').click()")
    browser.until("document.querySelector('.edit figure') !== null")
    summaries = _shown(browser, "#contexts > details > summary")
    assert [text.rsplit(" · ", 1)[1] for text in summaries] == [
        "solved by 0 of 3",
        "solved by 1 of 3",
    ]
    labels = _shown(browser, ".edit figcaption")
    assert labels == ["input (1×2)", "truth (1×2)", "attempt 1: right (1×2)"]
    cells = "[...document.querySelectorAll('.edit .answer figure rect')]"
    assert browser.run(f"{cells}.map(e => e.getAttribute('fill'))") == ["#aaaaaa", "#ffdc00"]
    head = _shown(browser, ".edit .head")[0].split("\n")
    assert head == [
        "data generation: use size augmentations",
        "strategy: train_using_all_tokens",
        "learning rate: 0.001",
        "num train epochs: 2",
    ]
    said = " ".join(_shown(browser, "#contexts .inside"))
    assert "Demonstration 2" in said and "solved 100.0 % · graded 1.000" in said
    [unadapted, adapted] = _shown(browser, ".edit .answer")
    assert "no readable attempt" in unadapted and "✗ wrong" in unadapted
    assert "✓ right" in adapted and "−2.00 nats" in adapted


def test_a_run_of_50_contexts_5_edits_and_3_replicates(browser, tmp_path):
    folder = made_runs.knowledge(
        tmp_path / "large", contexts=50, edits=5, replicates=3, questions=5, rounds=2
    )
    page = report.write(str(folder))
    size = page.stat().st_size
    start = time.perf_counter()
    browser.open(page)
    browser.until("document.querySelectorAll('#contexts > details').length === 50")
    seconds = time.perf_counter() - start
    print(f"{size / 1e6:.2f} MB, {seconds:.2f} s")
    assert size < 4e6
    assert seconds < 30  # it is a fraction of one; this machine may be busy
    assert browser.run("document.querySelectorAll('.question').length") == 0  # made when opened
    browser.run("document.querySelectorAll('#contexts summary')[49].click()")
    browser.until("document.querySelectorAll('.edit').length === 5")
    browser.run("document.querySelector('.edit summary').click()")
    browser.until("document.querySelectorAll('.question').length === 5")
    assert browser.run("document.querySelectorAll('.answer').length") == 5 * (1 + 3)
    rewards = [
        float(text.split("accuracy ")[1].split(" %")[0])
        for text in _shown(browser, ".edit > summary")
    ]
    assert len(rewards) == 5 and rewards == sorted(rewards, reverse=True)
