"use strict";
/** The pictures of a clip: a strip for the original and one for each decode, on one axis of time. */
{
  const { make } = report.dom;
  const { pictures } = report;
  const MAX_COLUMNS = 700;

  /** A canvas with the cursor of playback over it. */
  function view(kind, label) {
    const canvas = make("canvas", { role: "img", "aria-label": label });
    return {
      canvas,
      element: make("div", { class: `view ${kind}` }, canvas, make("i", { class: "cursor", "aria-hidden": "true" })),
    };
  }

  function who(signal, index, bytes) {
    const url = URL.createObjectURL(new Blob([bytes], { type: "audio/flac" }));
    const audio = make("audio", { controls: true, src: url, preload: "auto", "aria-label": `Play ${signal.name}` });
    const pick = make(
      "button",
      { type: "button", class: "pick", "aria-pressed": "false", "aria-label": `Listen to ${signal.name}` },
      String(index),
    );
    const name = index ? report.table.system(signal) : make("span", { class: "system" }, "Original");
    return { audio, pick, element: make("div", { class: "who" }, make("div", { class: "label" }, pick, name), audio) };
  }

  /** What the colours mean, in the place where the original has no difference. */
  function legend() {
    const scale = (kind, from, to, title) =>
      make(
        "div",
        { class: `legendscale ${kind}` },
        make("span", {}, title),
        make("i", { "aria-hidden": "true" }),
        make("small", {}, from),
        make("small", {}, to),
      );
    return make(
      "div",
      { class: "scales" },
      scale("magma", `−${pictures.RANGE_DB} dB`, "0 dB", "Level, below the loudest of the original"),
      scale(
        "diverging",
        `−${pictures.DIFFERENCE_DB} dB, too quiet`,
        `+${pictures.DIFFERENCE_DB} dB, too loud`,
        "Difference, decode less original",
      ),
      make("p", {}, "Codes: a row for each level, a colour for each codeword; its number has no order."),
    );
  }

  function strip(signal, index, bytes) {
    const head = who(signal, index, bytes);
    const wave = view("wave", `Waveform of ${signal.name}`);
    const spectrum = view("spectrum", `Spectrogram of ${signal.name}, 0 to ${signal.rate / 2000} kHz`);
    const nyquist = make("small", { class: "hertz", "aria-hidden": "true" }, `${signal.rate / 2000} kHz`);
    spectrum.element.append(nyquist);
    const codes = signal.codes ? view("codes", `Codes of ${signal.name}`) : null;
    const difference = index ? view("difference", `Level of ${signal.name} less the original`) : null;
    const right = index
      ? [codes ? codes.element : make("div", { class: "view none" }, "no codes"), difference.element]
      : [legend()];
    const element = make(
      "div",
      { class: "strip", role: "group", "aria-label": signal.name },
      head.element,
      make("div", { class: "views" }, wave.element, spectrum.element),
      make("div", { class: "views" }, right),
    );
    return { ...head, signal, element, wave, spectrum, codes, difference };
  }

  /** Ticks of time below the pictures. */
  function axis(timeline) {
    const element = make("div", { class: "time", "aria-hidden": "true" });
    const fill = () => {
      const ticks = report.scale(timeline.start, timeline.end, 0, 100).ticks(6);
      element.replaceChildren(
        ...ticks.map((tick) =>
          make("span", { style: `left: ${100 * timeline.place(tick)}%` }, `${report.scale.text(tick)} s`),
        ),
      );
    };
    timeline.watch(fill);
    fill();
    return element;
  }

  class Strips {
    #frame = null;
    #top = null;

    /** `signals`: [{name, codec, setting, rate, channels, codes, codeFacts}], the original first; `audio`: their bytes. */
    constructor(signals, audio, seconds) {
      this.timeline = new report.Timeline(seconds);
      this.strips = signals.map((signal, index) => strip(signal, index, audio[index]));
      this.players = new report.Players(this.strips.map(({ audio: player }) => player));
      const axes = make("div", { class: "strip axes" }, make("div"), axis(this.timeline), axis(this.timeline));
      this.element = make(
        "div",
        {
          class: "strips",
          tabindex: "0",
          role: "group",
          "aria-label": "Pictures: plus and minus zoom, arrows move, digits switch, space plays",
        },
        this.strips.map(({ element }) => element),
        axes,
      );
      this.strips.forEach(({ pick }, index) => pick.addEventListener("click", () => this.players.select(index)));
      for (const element of this.element.querySelectorAll(".view:not(.none)"))
        this.timeline.attach(element, (time) => this.players.seek(time));
      this.timeline.watch(() => this.redraw());
      this.players.watch(() => this.#showPosition());
      this.observer = new ResizeObserver(() => this.redraw());
      this.observer.observe(this.element);
      this.#showPosition();
    }

    /** Draw all pictures in the next frame of the screen, once for all changes until then. */
    redraw() {
      this.#frame ??= requestAnimationFrame(() => {
        this.#frame = null;
        if (this.element.isConnected) this.#draw();
      });
    }

    release() {
      this.observer.disconnect();
      for (const { audio } of this.strips) {
        audio.pause();
        URL.revokeObjectURL(audio.src);
      }
    }

    #spectrum({ channels, rate }) {
      const columns = Math.min(MAX_COLUMNS, Math.max(1, this.strips[0].spectrum.canvas.clientWidth));
      return report.spectrum(channels, rate, this.timeline.start, this.timeline.end, columns);
    }

    #draw() {
      const original = this.#spectrum(this.strips[0].signal);
      this.#top ??= original.db.reduce((most, level) => Math.max(most, level), -60); // of the whole clip: the first view
      for (const { signal, wave, spectrum, codes, difference } of this.strips) {
        const own = difference ? this.#spectrum(signal) : original;
        pictures.wave(wave.canvas, signal.channels, signal.rate, this.timeline);
        pictures.spectrogram(spectrum.canvas, own, this.#top);
        if (difference) pictures.difference(difference.canvas, own, original, this.#top);
        if (codes) pictures.codes(codes.canvas, signal.codes, signal.codeFacts, this.timeline.seconds, this.timeline);
      }
      this.#showPosition();
    }

    #showPosition() {
      const place = this.timeline.place(this.players.position);
      for (const cursor of this.element.querySelectorAll(".cursor")) {
        cursor.hidden = place < 0 || place > 1;
        cursor.style.left = `${100 * place}%`;
      }
      this.strips.forEach(({ element, pick }, index) => {
        const isCurrent = index === this.players.current;
        element.classList.toggle("current", isCurrent);
        pick.setAttribute("aria-pressed", String(isCurrent));
      });
    }
  }

  report.Strips = Strips;
}
