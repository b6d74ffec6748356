"use strict";
/** The part of the clip that repeats, with the waveform of the reference and the place that is heard. */
{
  const { make } = report.dom;
  const SHORTEST = 0.3; // s

  report.looping = (mixer, channels, rate) => {
    const canvas = make("canvas", { "aria-hidden": "true" });
    const region = make("i", { class: "region", "aria-hidden": "true" });
    const cursor = make("i", { class: "cursor", "aria-hidden": "true" });
    const bound = (label) =>
      make("input", { type: "range", min: "0", max: String(mixer.seconds), step: "0.01", "aria-label": label });
    const [from, to] = [bound("Repeat from"), bound("Repeat to")];
    const text = make("output", {});
    const shortest = Math.min(SHORTEST, mixer.seconds);

    function repeat(start, end) {
      const first = Math.max(0, Math.min(start, mixer.seconds - shortest));
      mixer.repeat(first, Math.min(mixer.seconds, Math.max(end, first + shortest)));
      show();
    }

    function show() {
      const { start, end } = mixer.loop;
      from.value = String(start);
      to.value = String(end);
      region.style.left = `${(100 * start) / mixer.seconds}%`;
      region.style.width = `${(100 * (end - start)) / mixer.seconds}%`;
      text.textContent = `${report.format.fixed(start, 1)} to ${report.format.fixed(end, 1)} s`;
    }

    function follow() {
      if (!canvas.isConnected) return;
      cursor.style.left = `${(100 * mixer.position) / mixer.seconds}%`;
      requestAnimationFrame(follow);
    }

    from.addEventListener("change", () => repeat(Number(from.value), mixer.loop.end));
    to.addEventListener("change", () =>
      repeat(Math.min(mixer.loop.start, Number(to.value) - shortest), Number(to.value)),
    );
    const whole = make("button", { type: "button", onclick: () => repeat(0, mixer.seconds) }, "Whole clip");
    const view = make("div", { class: "loopview" }, canvas, region, cursor);
    const element = make(
      "div",
      { class: "loop", role: "group", "aria-label": "Part that repeats" },
      view,
      make("div", { class: "bounds" }, from, to),
      make("div", { class: "controls" }, make("span", {}, "Repeats ", text), whole),
    );
    const draw = () =>
      canvas.isConnected && report.pictures.wave(canvas, channels, rate, { start: 0, end: mixer.seconds });
    new ResizeObserver(draw).observe(view);
    show();
    return {
      element,
      follow,
      redraw: draw,
      /** Keys: [ and ] set the bounds at the place that is heard, backslash repeats the whole clip. */
      key(key) {
        const actions = {
          "[": () => repeat(mixer.position, mixer.loop.end),
          "]": () => repeat(mixer.loop.start, mixer.position),
          "\\": () => repeat(0, mixer.seconds),
        };
        actions[key]?.();
        return key in actions;
      },
    };
  };
}
