"use strict";
/** A trial with a hidden reference and an anchor (after ITU-R BS.1534-3): each sound gets a score from 0 to 100. */
{
  const { make } = report.dom;
  const WORDS = ["bad", "poor", "fair", "good", "excellent"];
  const word = (score) => WORDS[Math.min(4, Math.floor(score / 20))];

  report.mushra = {
    title: "How good is each sound, compared with the reference?",
    help: "One of the sounds equals the reference: it deserves 100. Space plays and pauses, 0 is the reference, digits choose a sound, the arrows move its score, Enter goes on.",

    signals: ({ original, anchor, decodes }, trial) => {
      const roles = { reference: () => original, anchor, system: ({ decode }) => decodes[decode] };
      return [original, ...trial.stimuli.map((stimulus) => roles[stimulus.role](stimulus))];
    },

    /** The controls of a trial; `hear(index)` switches, `changed()` tells of another answer. */
    create(trial, draft, hear, changed) {
      const scores = draft?.scores ?? trial.stimuli.map(() => null);
      const heard = new Set(draft ? trial.stimuli.map((_, index) => index) : []);
      const choose = (index) => {
        if (index) heard.add(index - 1);
        hear(index);
        rows[index - 1]?.slider.focus({ preventScroll: true });
        buttons.forEach((button, other) => button.setAttribute("aria-pressed", String(other === index)));
        changed();
      };
      const reference = make(
        "button",
        { type: "button", class: "stimulus", "aria-pressed": "true", onclick: () => choose(0) },
        make("kbd", {}, "0"),
        " Reference",
      );
      const rows = trial.stimuli.map((_, index) => row(index, scores, () => choose(index + 1), changed));
      const buttons = [reference, ...rows.map(({ button }) => button)];
      const scale = make(
        "div",
        { class: "words", "aria-hidden": "true" },
        make("span"),
        make(
          "div",
          {},
          WORDS.map((text) => make("span", {}, text)),
        ),
        make("span"),
      );
      return {
        element: make(
          "div",
          { class: "mushra" },
          reference,
          scale,
          rows.map(({ element }) => element),
        ),
        answer: () => ({ scores: [...scores] }),
        missing() {
          if (heard.size < trial.stimuli.length) return "Listen to every sound first.";
          return scores.includes(null) ? "Give every sound a score." : null;
        },
        key(key) {
          const index = key === "r" ? 0 : Number(key);
          if (!(key === "r" || /^\d$/.test(key)) || index > trial.stimuli.length) return false;
          choose(index);
          return true;
        },
      };
    },
  };

  function row(index, scores, choose, changed) {
    const value = make("output", {});
    const slider = make("input", {
      type: "range",
      min: "0",
      max: "100",
      step: "1",
      value: String(scores[index] ?? 50),
      "aria-label": `Score of sound ${index + 1}`,
      class: scores[index] === null ? "unset" : null,
    });
    const show = () => {
      value.textContent = scores[index] === null ? "–" : String(scores[index]);
      slider.setAttribute(
        "aria-valuetext",
        scores[index] === null ? "no score yet" : `${scores[index]}, ${word(scores[index])}`,
      );
      slider.classList.toggle("unset", scores[index] === null);
    };
    slider.addEventListener("input", () => {
      scores[index] = Number(slider.value);
      show();
      changed();
    });
    const button = make(
      "button",
      {
        type: "button",
        class: "stimulus",
        "aria-pressed": "false",
        "aria-label": `Listen to sound ${index + 1}`,
        onclick: choose,
      },
      make("kbd", {}, String(index + 1)),
    );
    show();
    return { button, slider, element: make("div", { class: "rating" }, button, slider, value) };
  }
}
