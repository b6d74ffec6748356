"use strict";
/** A trial in which X equals A or B, and the listener says which. */
{
  const { make } = report.dom;
  const NAMES = ["A", "B", "X"];

  report.abx = {
    title: "Is X the same as A, or as B?",
    help: "Space plays and pauses, A, B and X choose a sound, 1 says that X is A, 2 that X is B, Enter goes on.",

    signals({ original, decodes }, trial) {
      const sounds = { original, decode: decodes[trial.decode] };
      const other = { original: "decode", decode: "original" };
      return [sounds[trial.a], sounds[other[trial.a]], sounds[trial.x]];
    },

    /** As in `mushra.js`. */
    create(trial, draft, hear, changed) {
      let choice = draft?.choice ?? null;
      const heard = new Set(draft ? [0, 1, 2] : [0]);
      const choose = (index) => {
        heard.add(index);
        hear(index);
        buttons.forEach((button, other) => button.setAttribute("aria-pressed", String(other === index)));
        changed();
      };
      const decide = (letter) => {
        choice = letter;
        for (const button of answers) button.setAttribute("aria-pressed", String(button.dataset.choice === choice));
        changed();
      };
      const buttons = NAMES.map((name, index) =>
        make(
          "button",
          { type: "button", class: "stimulus", "aria-pressed": String(index === 0), onclick: () => choose(index) },
          make("kbd", {}, name),
        ),
      );
      const answers = ["a", "b"].map((letter, index) =>
        make(
          "button",
          {
            type: "button",
            class: "decision",
            "data-choice": letter,
            "aria-pressed": String(choice === letter),
            onclick: () => decide(letter),
          },
          make("kbd", {}, String(index + 1)),
          ` X is ${letter.toUpperCase()}`,
        ),
      );
      return {
        element: make(
          "div",
          { class: "abx" },
          make("div", { class: "sounds", role: "group", "aria-label": "Sounds" }, buttons),
          make("div", { class: "decisions", role: "group", "aria-label": "Answer" }, answers),
        ),
        answer: () => ({ choice }),
        missing() {
          if (heard.size < NAMES.length) return "Listen to A, B and X first.";
          return choice === null ? "Say what X is." : null;
        },
        key(key) {
          const index = NAMES.indexOf(key.toUpperCase());
          if (index >= 0) choose(index);
          if (key === "1" || key === "2") decide(key === "1" ? "a" : "b");
          return index >= 0 || key === "1" || key === "2";
        },
      };
    },
  };
}
