"use strict";
// The explorer, the theme and the keys. Every text from the run reaches the page as a text node.
(() => {
  const COLOURS = "000000 0074d9 ff4136 2ecc40 ffdc00 aaaaaa f012be ff851b 7fdbff 870c25".split(" ");
  const byId = (id) => document.getElementById(id);

  // --- theme -------------------------------------------------------------------------------
  const THEMES = ["as the system", "light", "dark"], STORED = "seal_jax theme";
  let theme = 0;
  const setTheme = (place) => {
    theme = Math.max(0, place) % THEMES.length;
    document.documentElement.dataset.theme = THEMES[theme]; // the style knows the last two
    byId("theme").textContent = `Theme: ${THEMES[theme]}`;
  };
  try { setTheme(THEMES.indexOf(localStorage.getItem(STORED))); } catch { /* no storage: file:// */ }
  byId("theme").addEventListener("click", () => {
    setTheme(theme + 1);
    try { localStorage.setItem(STORED, THEMES[theme]); } catch { /* it lasts for this page */ }
  });

  const [list, stageBox, searchBox] = ["contexts", "stage", "search"].map(byId);
  if (!list) return;
  const data = JSON.parse(byId("data").textContent);
  let words = [];

  // --- elements ----------------------------------------------------------------------------
  function make(name, className, ...content) {
    const element = document.createElement(name);
    element.className = className;
    element.append(...content.filter((part) => part));
    return element;
  }

  /** A text with the words of the search marked. */
  function marked(text) {
    if (!words.length) return text;
    const safe = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    return make("span", "", ...text.split(new RegExp(`(${safe.join("|")})`, "gi"))
      .map((piece, place) => (place % 2 ? make("mark", "", piece) : piece)));
  }

  /** A <details>; what is inside is made when it is first opened. */
  function folded(className, title, facts, inside, kept) {
    const box = make("details", className, make("summary", "", make("strong", "", title),
      kept && make("span", "kept", "kept"), make("span", "facts-line", listed(facts))));
    box.addEventListener("toggle", () => {
      if (box.open && box.children.length === 1) box.append(make("div", "inside", ...inside()));
    });
    return box;
  }

  const listed = (facts) => facts.filter(Boolean).join(" · ");
  const plural = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
  const capital = (text) => text[0].toUpperCase() + text.slice(1);
  const note = (text, className = "note") => make("p", className, text);

  function number(value, unit) {
    const [, scale, digits, after] = data.forms[unit] || ["", 1, 3, ""];
    return value === null ? "–" : (scale * value).toFixed(digits).replace("-", "−") + after;
  }

  const worth = (unit, rewards) => `${(data.forms[unit] || [unit])[0]} ` +
    rewards.map((value) => number(value, unit)).join(" to ");

  // --- search ------------------------------------------------------------------------------
  const holds = (text, all) => all.every((word) => text.includes(word));
  const asks = (about, place) => about.questions[place].join("\n").toLowerCase();

  /** What can be found of a context in a stage, in lower case. */
  function textOf(entry) {
    const about = data.contexts[entry.at];
    entry.search ??= [about.title, about.id, about.text, ...about.questions.flat(),
      ...entry.edits.flatMap((edit) =>
        [edit.text, edit.head, edit.refused, ...edit.trials.map((trial) => trial.reason)]),
    ].join("\n").toLowerCase();
    return entry.search;
  }

  // --- the list ----------------------------------------------------------------------------
  function show() {
    const stage = data.stages[Number(stageBox.value)];
    words = (searchBox.value.toLowerCase().match(/"[^"]+"|[^\s"]+/g) || [])
      .map((word) => word.replaceAll('"', ""));
    const open = new Set([...list.querySelectorAll(":scope > [open]")].map((box) => box.at));
    const found = stage.contexts.filter((entry) => holds(textOf(entry), words));
    list.replaceChildren(...found.map((entry) => Object.assign(contextBox(stage, entry),
      { at: entry.at, open: open.has(entry.at) })));
    byId("count").textContent = words.length
      ? `${found.length} of ${plural(stage.contexts.length, data.word)} found`
      : plural(found.length, data.word);
    if (!found.length) list.append(note("Nothing here has all of these words."));
  }

  /** Whether a context as a whole is right after some update, such as a solved task. */
  const whole = (edit) => edit.trials.some((trial) => trial.scores[data.whole] === 1);

  /** Whether a value that a task shows is pairs of grids. */
  const pictures = (value) => Array.isArray(value) && value.every((pair) =>
    Array.isArray(pair) && pair.length === 2 && /^[0-9/]+$/.test(pair.join("/")));

  function contextBox(stage, { at, edits, base }) {
    const about = data.contexts[at];
    const rewards = edits.map((edit) => edit.reward).filter((value) => value !== null);
    const ends = rewards.length > 1 ? [rewards[0], rewards.at(-1)] : rewards;
    const facts = [
      !about.title.endsWith(about.id) && about.id,
      ends.length && worth(stage.unit, ends),
      edits.length > 1 && `${edits.length} self-edits`,
      data.whole && edits.length && `${data.whole} by ${edits.filter(whole).length} of ${edits.length}`];
    return folded("", marked(about.title), facts, () => [
      ...Object.entries(about.shown).map(([name, value]) => pictures(value)
        ? make("div", "pairs", ...value.map(([given, output], k) => make("div", "",
          make("h3", "", `${capital(name.replace(/s$/, ""))} ${k + 1}`),
          make("div", "grids", gridFigure("input", given), gridFigure("output", output)))))
        : note(`${name}: ${JSON.stringify(value)}`)),
      about.text && make("details", "", make("summary", "", "Passage"),
        make("div", "text", marked(about.text))),
      ...(base && !edits.length ? [make("h3", "", "Answers"), ...questions(about, base, [])] : []),
      ...edits.map((edit) =>
        Object.assign(editBox(stage, about, base, edit), { open: edits.length === 1 }))]);
  }

  function editBox(stage, about, base, edit) {
    const { trials } = edit;
    const graded = trials.flatMap((trial) => trial.answers || [])
      .map(([, , right]) => right).filter((right) => typeof right === "boolean");
    const facts = [
      worth(stage.unit, [edit.reward]),
      !data.whole && graded.length && `${graded.filter(Boolean).length} of ${graded.length} answers right`,
      data.whole && trials.length && (whole(edit) ? data.whole : `not ${data.whole}`),
      trials.length > 1 && `${trials.length} replicates`,
      !trials.length && (edit.refused ? "refused" : "not tried")];
    const title = edit.text === null ? "Adapted" : `Self-edit ${edit.number + 1}`;
    return folded("edit", title, facts, () => [
      edit.cut && note("Cut off at the limit of new tokens."),
      edit.refused && note(`No result: ${edit.refused}`, "verdict wrong"),
      edit.text !== null && make("div", "text", marked(edit.text)),
      edit.head && make("div", "text head", marked(spelled(edit.head))),
      edit.sequences?.length && make("details", "", make("summary", "",
        `The ${plural(edit.sequences.length, "training sequence")} that it became`),
      make("ol", "", ...edit.sequences.map((at) => make("li", "text", marked(about.sequences[at]))))),
      ...trials.flatMap((trial) => trialParts(edit, trial)),
      ...questions(about, base, trials)], edit.kept);
  }

  function trialParts(edit, trial) {
    const [first, last] = trial.losses, { left_out: out } = trial;
    const facts = listed([
      edit.trials.length > 1 && `replicate ${trial.replicate + 1}`,
      trial.steps && plural(trial.steps, "step"),
      trial.sequences && plural(trial.sequences, "training sequence"),
      first !== null && last !== null && `loss ${first.toFixed(2)} to ${last.toFixed(2)}`,
      ...Object.entries(trial.scores).map(([name, value]) => worth(name, [value])),
      out.some(Boolean) && `${plural(out[0], "sequence")} and ${plural(out[1], "token")} left out`]);
    return [facts && note(facts), trial.reason && note(`No result: ${trial.reason}`, "verdict wrong")];
  }

  /** Each question with the answers of the unadapted and of the adapted models. */
  function questions(about, base, trials) {
    const of = [["unadapted", base || []], ...trials.map((trial) =>
      [trials.length > 1 ? `adapted ${trial.replicate + 1}` : "adapted", trial.answers || []])];
    const all = [...new Set(of.flatMap(([, answers]) => answers.map(([place]) => place)))]
      .sort((a, b) => a - b);
    // Words that no question has were found elsewhere in the context.
    const asked = words.filter((word) => all.some((place) => asks(about, place).includes(word)));
    const some = all.filter((place) => holds(asks(about, place), asked));
    const shown = some.length ? some : all;
    return [
      shown.length < all.length && note(`${shown.length} of ${all.length} questions have these words.`),
      ...shown.map((place) => {
        const [text, gold] = about.questions[place], [given, truth] = about.tests?.[place] || [];
        return make("div", "question", note(marked(text), ""),
          gold !== null && make("p", "gold", "Gold answer: ", marked(gold)),
          given && make("div", "grids", gridFigure("input", given), truth && gridFigure("truth", truth)),
          ...of.map(([who, answers]) =>
            answerLine(who, answers.find((one) => one[0] === place), truth)));
      })];
  }

  function answerLine(who, answer, truth) {
    if (!answer) return null;
    const [, said, right, nats, why] = answer;
    const likely = number(nats, "gold_log_likelihood");
    const line = (...parts) => make("div", "answer", make("span", "who", who), ...parts);
    // Nothing but its likelihood may have been asked for.
    if (said === null) return line(make("span", "nats alone", likely));
    const verdict = typeof right === "number" ? make("span", "verdict", number(right, data.main))
      : right === null ? make("span", "verdict", why && "? ungraded")
      : right ? make("span", "verdict right", "✓ right") : make("span", "verdict wrong", "✗ wrong");
    if (why) verdict.title = why;
    const shown = Array.isArray(said) ? attempts(said, truth)
      : said.trim().replace(/\s*\n\s*/g, " ↵ ") || make("em", "", "(empty)");
    return line(verdict, make("span", "said", shown), make("span", "nats", likely));
  }

  // --- grids -------------------------------------------------------------------------------
  /** Directives as people read them: a line for each, of switches those that are on. */
  function spelled(head) {
    const line = ([name, value]) => `${name.replaceAll("_", " ")}: ${value}`;
    try {
      return Object.entries(JSON.parse(head)).flatMap(([name, value]) => {
        if (typeof value !== "object") return [line([name, value])];
        const switches = Object.entries(value).filter(([, on]) => typeof on === "boolean");
        const on = switches.filter(([, on]) => on).map(([key]) => key.replaceAll("_", " "));
        return [...(switches.length ? [line([name, on.join(", ") || "none"])] : []),
          ...Object.entries(value).filter(([, on]) => typeof on !== "boolean").map(line)];
      }).join("\n");
    } catch { return head; }
  }

  function drawn(name, attributes) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }

  function gridFigure(label, text, className = "") {
    const rows = text.split("/"), height = rows.length, width = rows[0].length;
    const size = Math.max(7, Math.min(26, Math.floor(200 / Math.max(width, height))));
    const picture = drawn("svg", { width: width * size + 1, height: height * size + 1, role: "img",
      viewBox: `0 0 ${width * size + 1} ${height * size + 1}`,
      "aria-label": `${label}, ${height} by ${width}: rows ${rows.join(", ")}` });
    rows.forEach((row, y) => [...row].forEach((cell, x) => picture.append(drawn("rect", {
      x: x * size + 0.5, y: y * size + 0.5, width: size, height: size, fill: `#${COLOURS[cell]}`,
      stroke: "#666" }))));
    const caption = make("figcaption", className, `${label} (${height}×${width})`);
    return make("figure", "", caption, picture);
  }

  /** Answers that are grids, each right or wrong where the truth is known. */
  function attempts(grids, truth) {
    if (!grids.length) return make("em", "", "no readable attempt");
    const right = (grid) => (grid === truth ? "right" : "wrong");
    return make("div", "grids", ...grids.map((grid, k) => (truth
      ? gridFigure(`attempt ${k + 1}: ${right(grid)}`, grid, `verdict ${right(grid)}`)
      : gridFigure(`attempt ${k + 1}`, grid))));
  }

  // --- keys --------------------------------------------------------------------------------
  document.addEventListener("keydown", (event) => {
    const { key, target: at } = event, searching = at === searchBox, left = key === "ArrowLeft";
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const every = [...list.querySelectorAll("summary")].filter((one) => one.checkVisibility());
    const place = every.indexOf(at), box = place < 0 ? null : at.parentElement;
    const next = searching ? { ArrowDown: 0 }[key] : box &&
      { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: every.length - 1 }[key];
    if (Number.isInteger(next)) (next < 0 ? searchBox : every[next] || at).focus();
    else if (key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName)) searchBox.focus();
    else if (key === "Escape" && searching) { searchBox.value = ""; show(); }
    else if (key === "ArrowRight" && box) box.open = true;
    else if (left && box?.open) box.open = false;
    else if (left && box) box.parentElement.closest("#contexts details")?.firstChild.focus();
    else return;
    event.preventDefault();
  });
  let timer;
  searchBox.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(show, 120); });
  stageBox.addEventListener("change", show);
  show();
})();
