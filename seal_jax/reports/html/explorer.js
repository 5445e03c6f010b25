"use strict";
// The explorer, the theme and the keys. Every text from the run reaches the page as a text node.
(() => {
  const COLOURS = ["#000000", "#0074d9", "#ff4136", "#2ecc40", "#ffdc00",
    "#aaaaaa", "#f012be", "#ff851b", "#7fdbff", "#870c25"];
  const NAMES = { gold_log_likelihood: "gold log-likelihood", log_likelihood_gain: "gain" };
  const SHARES = new Set(["accuracy", "solved"]);
  const SVG = "http://www.w3.org/2000/svg";
  const byId = (id) => document.getElementById(id);

  // --- theme -------------------------------------------------------------------------------
  const THEMES = { "": "as the system", light: "light", dark: "dark" };
  const button = byId("theme");
  const setTheme = (theme) => {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    button.textContent = `Theme: ${THEMES[theme]}`;
  };
  let theme = "";
  try { theme = localStorage.getItem("seal_jax theme") || ""; } catch { /* no storage: file:// */ }
  setTheme(theme in THEMES ? theme : "");
  button.addEventListener("click", () => {
    const order = Object.keys(THEMES);
    theme = order[(order.indexOf(theme) + 1) % order.length];
    setTheme(theme);
    try { localStorage.setItem("seal_jax theme", theme); } catch { /* it lasts for this page */ }
  });

  const list = byId("contexts");
  if (!list) return;
  const data = JSON.parse(byId("data").textContent);
  const stageBox = byId("stage"), searchBox = byId("search"), count = byId("count");
  let words = [];

  // --- elements ----------------------------------------------------------------------------
  function make(name, className, ...content) {
    const element = document.createElement(name);
    if (className) element.className = className;
    element.append(...content.filter((part) => part !== null && part !== undefined));
    return element;
  }

  /** A text with the words of the search marked. */
  function marked(text) {
    const parts = document.createDocumentFragment();
    if (!words.length) { parts.append(text); return parts; }
    const safe = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    text.split(new RegExp(`(${safe.join("|")})`, "gi")).forEach((piece, place) => {
      parts.append(place % 2 ? make("mark", "", piece) : piece);
    });
    return parts;
  }

  /** A <details> whose inside is made when it is first opened. */
  function lazy(className, summary, fill) {
    const box = make("details", className, summary);
    box.addEventListener("toggle", () => {
      if (!box.open || box.querySelector(":scope > .inside")) return;
      const inside = make("div", "inside");
      fill(inside);
      box.append(inside);
    });
    return box;
  }

  function number(value, unit) {
    if (value === null || value === undefined) return "–";
    const shown = SHARES.has(unit) ? `${(100 * value).toFixed(1)} %` : value.toFixed(
      unit === "length" ? 0 : unit === "gold_log_likelihood" ? 2 : 3);
    return shown.replace("-", "−");
  }

  const named = (unit) => NAMES[unit] || unit;
  const plural = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;

  // --- search ------------------------------------------------------------------------------
  const holds = (text, all = words) => all.every((word) => text.includes(word));

  /** What can be found of a context in a stage, in lower case. */
  function textOf(entry) {
    if (entry.search !== undefined) return entry.search;
    const about = data.contexts[entry.at];
    const parts = [about.title, about.id, about.text || ""];
    for (const [question, gold] of about.questions || []) parts.push(question, gold || "");
    for (const edit of entry.edits) {
      parts.push(edit.text || "");
      for (const trial of edit.trials) parts.push(trial.recipe || "", trial.reason || "");
    }
    entry.search = parts.join("\n").toLowerCase();
    return entry.search;
  }

  const asks = (about, place) => about.questions[place].join("\n").toLowerCase();

  // --- the list ----------------------------------------------------------------------------
  function show() {
    const stage = data.stages[Number(stageBox.value)];
    words = (searchBox.value.toLowerCase().match(/"[^"]+"|[^\s"]+/g) || [])
      .map((word) => word.replaceAll('"', ""));
    const wasOpen = new Set([...list.children].filter((box) => box.open).map((box) => box.dataset.at));
    const found = stage.contexts.filter((entry) => holds(textOf(entry)));
    list.replaceChildren(...found.map((entry) => {
      const box = contextBox(stage, entry);
      if (wasOpen.has(box.dataset.at)) box.open = true;
      return box;
    }));
    const what = data.few_shot ? "task" : "context";
    count.textContent = words.length
      ? `${found.length} of ${plural(stage.contexts.length, what)} found`
      : plural(found.length, what);
    if (!found.length) list.append(make("p", "note", "Nothing here has all of these words."));
  }

  const solves = (edit) => edit.trials.some((trial) => trial.answers && trial.answers.solved.every(Boolean));

  function contextBox(stage, entry) {
    const about = data.contexts[entry.at];
    const rewards = entry.edits.map((edit) => edit.reward).filter((value) => value !== null);
    const facts = [];
    if (rewards.length) {
      facts.push(`${named(stage.unit)} ${number(rewards[0], stage.unit)}` +
        (rewards.length > 1 ? ` to ${number(rewards[rewards.length - 1], stage.unit)}` : ""));
    }
    if (entry.edits.length > 1) facts.push(`${entry.edits.length} self-edits`);
    if (data.few_shot && entry.edits.length) {
      facts.push(`solved by ${entry.edits.filter(solves).length} of ${entry.edits.length}`);
    }
    const summary = make("summary", "", make("strong", "", marked(about.title)),
      make("span", "facts-line", [about.title.endsWith(about.id) ? "" : about.id, ...facts]
        .filter(Boolean).join(" · ")));
    const box = lazy("", summary, (inside) => fillContext(inside, stage, entry, about));
    box.dataset.at = String(entry.at);
    return box;
  }

  function fillContext(inside, stage, entry, about) {
    if (data.few_shot) {
      if (about.demonstrations) inside.append(demonstrations(about));
    } else if (about.text) {
      const passage = make("details", "", make("summary", "", "Passage"),
        make("div", "text", marked(about.text)));
      inside.append(passage);
    }
    if (entry.base && (data.few_shot || !entry.edits.length)) {
      inside.append(make("h3", "", data.few_shot ? "Unadapted: in context" : "Answers"));
      if (data.few_shot) inside.append(attempts(about, entry.base));
      else inside.append(...questions(about, entry.base, []));
    }
    entry.edits.forEach((edit, place) => {
      const box = editBox(stage, entry, about, edit);
      if (place === 0 && entry.edits.length === 1) box.open = true;
      inside.append(box);
    });
  }

  function editBox(stage, entry, about, edit) {
    const facts = [];
    if (!data.few_shot) {
      const answers = edit.trials.flatMap((trial) => trial.answers || []);
      const graded = answers.filter((answer) => typeof answer[2] === "boolean");
      const right = graded.filter((answer) => answer[2]).length;
      if (graded.length) facts.push(`${right} of ${graded.length} answers right`);
    } else {
      if (edit.trials.length) facts.push(solves(edit) ? "solved" : "not solved");
    }
    if (edit.trials.length > 1) facts.push(`${edit.trials.length} replicates`);
    if (!edit.trials.length) facts.push("not tried");
    const title = edit.text === null ? "Adapted" : `Self-edit ${edit.number + 1}`;
    const summary = make("summary", "", make("strong", "", title),
      edit.kept ? make("span", "kept", "kept") : null,
      make("span", "facts-line",
        [`${named(stage.unit)} ${number(edit.reward, stage.unit)}`, ...facts].join(" · ")));
    return lazy("edit", summary, (inside) => fillEdit(inside, entry, about, edit));
  }

  function fillEdit(inside, entry, about, edit) {
    if (edit.text !== null) {
      if (edit.cut) inside.append(make("p", "note", "Cut off at the limit of new tokens."));
      inside.append(make("div", "text", marked(data.few_shot ? recipe(edit.text) : edit.text)));
    }
    if (edit.sequences) {
      const rows = edit.sequences.map((at) => make("li", "text", marked(about.sequences[at])));
      inside.append(make("details", "", make("summary", "",
        `The ${plural(rows.length, "training sequence")} that it became`), make("ol", "", ...rows)));
    }
    for (const trial of edit.trials) {
      const facts = edit.trials.length > 1 ? [`replicate ${trial.replicate + 1}`] : [];
      if (trial.steps) facts.push(plural(trial.steps, "step"));
      if (trial.examples) facts.push(plural(trial.examples, "training example"));
      const [first, last] = trial.losses;
      if (typeof first === "number" && typeof last === "number") {
        facts.push(`loss ${first.toFixed(2)} to ${last.toFixed(2)}`);
      }
      if (trial.left_out) {
        facts.push(`${plural(trial.left_out[0], "sequence")} and ${plural(trial.left_out[1], "token")} left out`);
      }
      if (facts.length) inside.append(make("p", "note", facts.join(" · ")));
      if (trial.reason) inside.append(make("p", "verdict wrong", `No result: ${trial.reason}`));
      if (!data.few_shot) continue;
      if (edit.text === null && trial.recipe) {
        inside.append(make("div", "text", marked(recipe(trial.recipe))));
      }
      if (trial.answers) inside.append(attempts(about, trial.answers));
    }
    if (!data.few_shot) inside.append(...questions(about, entry.base, edit.trials));
  }

  /** Each question with the answers of the unadapted and of the adapted models. */
  function questions(about, base, trials) {
    const places = new Set([...(base || []).map((answer) => answer[0]),
      ...trials.flatMap((trial) => (trial.answers || []).map((answer) => answer[0]))]);
    const all = [...places].sort((a, b) => a - b);
    // Words that no question has were found elsewhere in the context.
    const asked = words.filter((word) => all.some((place) => asks(about, place).includes(word)));
    const some = asked.length ? all.filter((place) => holds(asks(about, place), asked)) : [];
    const shown = some.length ? some : all;
    const boxes = shown.map((place) => {
      const [text, gold] = about.questions[place];
      const box = make("div", "question", make("p", "", marked(text)));
      if (gold !== null) box.append(make("p", "gold", "Gold answer: ", marked(gold)));
      const of = (answers) => (answers || []).find((answer) => answer[0] === place);
      if (of(base)) box.append(answerLine("unadapted", of(base)));
      trials.forEach((trial) => {
        const who = trials.length > 1 ? `adapted ${trial.replicate + 1}` : "adapted";
        if (of(trial.answers)) box.append(answerLine(who, of(trial.answers)));
      });
      return box;
    });
    if (shown.length < all.length) {
      boxes.unshift(make("p", "note", `${shown.length} of ${all.length} questions have these words.`));
    }
    return boxes;
  }

  function answerLine(who, [, text, correct, nats, why]) {
    const likely = make("span", "nats",
      nats === null ? "–" : `${number(nats, "gold_log_likelihood")} nats`);
    if (text === null) {  // nothing but its likelihood was asked for
      likely.classList.add("alone");
      return make("div", "answer", make("span", "who", who), likely);
    }
    const [name, sign] = correct === null ? ["", "? ungraded"] : correct ? ["right", "✓ right"] : ["wrong", "✗ wrong"];
    const verdict = make("span", `verdict ${name}`, sign);
    if (why) verdict.title = why;
    const empty = text.trim() === "";
    return make("div", "answer", make("span", "who", who), verdict,
      make("span", "said", empty ? make("em", "", "(empty)") : text.trim().replace(/\s*\n\s*/g, " ↵ ")),
      likely);
  }

  // --- grids -------------------------------------------------------------------------------
  function recipe(text) {
    try {
      const { data_generation: families, training } = JSON.parse(text);
      const on = Object.entries(families).filter(([, used]) => used)
        .map(([name]) => name.replace(/^use_|_augmentations$/g, ""));
      return [`augmentations: ${on.join(", ") || "none"}`,
        ...Object.entries(training).map(([name, value]) => `${name}: ${value}`)].join("\n");
    } catch { return text; }
  }

  function gridFigure(label, text, name) {
    const rows = text.split("/"), height = rows.length, width = rows[0].length;
    const size = Math.max(7, Math.min(26, Math.floor(200 / Math.max(width, height))));
    const picture = document.createElementNS(SVG, "svg");
    const set = (element, values) => {
      for (const [key, value] of Object.entries(values)) element.setAttribute(key, value);
      return element;
    };
    set(picture, { width: width * size + 1, height: height * size + 1, role: "img",
      viewBox: `0 0 ${width * size + 1} ${height * size + 1}`,
      "aria-label": `${label}, ${height} by ${width}: rows ${rows.join(", ")}` });
    rows.forEach((row, y) => [...row].forEach((cell, x) => {
      picture.append(set(document.createElementNS(SVG, "rect"), { x: x * size + 0.5,
        y: y * size + 0.5, width: size, height: size, fill: COLOURS[Number(cell)], stroke: "#666" }));
    }));
    return make("figure", "", make("figcaption", name || "", `${label} (${height}×${width})`), picture);
  }

  function demonstrations(about) {
    const box = make("div", "pairs");
    about.demonstrations.forEach(([given, output], place) => {
      box.append(make("div", "", make("h3", "", `Demonstration ${place + 1}`),
        make("div", "grids", gridFigure("input", given), gridFigure("output", output))));
    });
    return box;
  }

  function attempts(about, answers) {
    const box = make("div", "");
    answers.attempts.forEach((tries, place) => {
      const test = about.tests ? about.tests[place] : null;
      const grids = make("div", "grids");
      if (test) grids.append(gridFigure("input", test[0]));
      tries.forEach((grid, k) => {
        const right = test && test[1] === grid;
        const verdict = test && test[1] !== null ? (right ? ": right" : ": wrong") : "";
        grids.append(gridFigure(`attempt ${k + 1}${verdict}`, grid,
          verdict && `verdict ${right ? "right" : "wrong"}`));
      });
      if (!tries.length) grids.append(make("p", "verdict wrong", "no readable attempt"));
      if (test && test[1] !== null) grids.append(gridFigure("truth", test[1]));
      box.append(make("p", "", make("strong", "", `Test ${place + 1}`),
        make("span", "facts-line", ` ${answers.solved[place] ? "solved" : "not solved"} · truth ` +
          `${number(answers.likelihoods[place], "gold_log_likelihood")} nats`)), grids);
    });
    return box;
  }

  // --- keys --------------------------------------------------------------------------------
  function move(event) {
    const at = event.target;
    if (event.altKey || event.ctrlKey || event.metaKey || at.tagName !== "SUMMARY") return;
    const every = [...list.querySelectorAll("summary")].filter((one) => one.checkVisibility
      ? one.checkVisibility() : one.offsetParent !== null);
    const place = every.indexOf(at), box = at.parentElement;
    const above = box.parentElement.closest("details");
    const next = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: every.length - 1 }[event.key];
    if (next !== undefined) {
      event.preventDefault();
      if (next < 0) searchBox.focus();
      else if (every[next]) every[next].focus();
    } else if (event.key === "ArrowRight") {
      event.preventDefault();
      box.open = true;
    } else if (event.key === "ArrowLeft") {
      event.preventDefault();
      if (box.open) box.open = false;
      else if (above && list.contains(above)) above.querySelector("summary").focus();
    }
  }

  list.addEventListener("keydown", move);
  searchBox.addEventListener("keydown", (event) => {
    const first = list.querySelector("summary");
    if (event.key === "ArrowDown" && first) { event.preventDefault(); first.focus(); }
    if (event.key === "Escape") { searchBox.value = ""; show(); }
  });
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      searchBox.focus();
    }
  });
  let timer;
  searchBox.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(show, 120); });
  stageBox.addEventListener("change", show);
  show();
})();
