"use strict";
/** The clips of the page: closed until they are wanted, loaded when they are open and near the view. */
{
  const { make, find, takesKeys } = report.dom;
  const { seconds, number, kilobits, fixed } = report.format;
  const { metrics, metricNames, rows, clips, conditions, shortNames } = report.evaluation;
  const NEAR = "400px";
  const cards = new Map();
  let active = null;

  const rowsOf = (clip) => rows.filter((row) => row.path === clip.name && row.condition === conditions[0]);

  /** Range of the chosen metric over the decodes of a clip. */
  function rangeText(clip) {
    const values = rowsOf(clip)
      .map((row) => row[report.chosen.metric])
      .filter(report.format.isNumber);
    if (!values.length) return "";
    return `${metrics[report.chosen.metric].label} ${number(Math.min(...values))} to ${number(Math.max(...values))}`;
  }

  function metricTable(clip) {
    const rates = {
      title: "kbit/s",
      numeric: true,
      value: (row) => row.bitrate ?? null,
      cell: (row) => kilobits(row.bitrate),
    };
    const scores = metricNames.map(report.table.score);
    const names = { title: "Codec", head: true, value: report.evaluation.system, cell: report.table.system };
    return report.table({ caption: "Metrics of this clip", columns: [names, rates, ...scores], rows: rowsOf(clip) })
      .element;
  }

  async function readSignals({ facts, audio, codes }) {
    const names = [
      { name: "the original" },
      ...facts.decodes.map((decode) => ({ ...decode, name: report.evaluation.system(decode) })),
    ];
    return Promise.all(
      names.map(async ({ name, codec, setting, codes: codeFacts }, index) => {
        const channels = report.bytes.channels(await report.bytes.decode(audio[index], facts.sample_rate));
        return {
          name,
          codec,
          setting,
          codeFacts,
          rate: facts.sample_rate,
          channels,
          codes: index ? codes[index - 1] : null,
        };
      }),
    );
  }

  class Card {
    #strips = null;
    #wanted = null;

    constructor(clip) {
      this.clip = clip;
      this.body = make("div", { class: "body" });
      this.range = make("span", { class: "range" });
      const title = [
        make("span", { class: "number" }, String(clip.number)),
        make("span", { class: "path" }, shortNames.get(clip.name)),
      ];
      const summary = make("summary", {}, title, make("span", { class: "length" }, seconds(clip.seconds)), this.range);
      this.element = make(
        "details",
        { class: "clip", id: `clip-${clip.number}`, ontoggle: () => this.#toggle() },
        summary,
        this.body,
      );
      for (const name of ["focusin", "pointerdown"]) this.element.addEventListener(name, () => (active = this));
      report.chosen.watch(() => (this.range.textContent = rangeText(clip)));
      this.near = new IntersectionObserver(([entry]) => entry.isIntersecting && this.#load(), { rootMargin: NEAR });
    }

    /** Open it, and listen to the decode of a row. */
    async open(row) {
      active = this;
      this.element.open = true;
      this.element.scrollIntoView({ block: "start" });
      await this.#load();
      const index = this.clip.decodes.findIndex(
        (decode) => decode.codec === row.codec && decode.setting === row.setting,
      );
      this.#strips?.players.select(index + 1);
      this.#strips?.element.focus({ preventScroll: true });
    }

    /** A key that was typed while this clip was the last in use; true if it means something here. */
    key(event) {
      if (!this.#strips) return false;
      const { players, timeline, element } = this.#strips;
      if (/^\d$/.test(event.key)) {
        players.select(Number(event.key));
        return true;
      }
      const isOnPictures = document.activeElement === element;
      if (isOnPictures && event.key === " ") {
        players.toggle();
        return true;
      }
      const isZoom = ["+", "=", "-"].includes(event.key);
      return (isOnPictures || isZoom) && timeline.key(event.key);
    }

    redraw() {
      this.#strips?.redraw();
    }

    #toggle() {
      if (this.element.open) this.near.observe(this.element);
      else this.#release();
    }

    #release() {
      this.near.disconnect();
      this.#strips?.release();
      this.#strips = this.#wanted = null;
      this.body.replaceChildren();
      report.clips.forget(this.clip.number);
    }

    #load() {
      this.near.disconnect();
      this.#wanted ??= this.#fill();
      return this.#wanted;
    }

    async #fill() {
      this.body.replaceChildren(make("p", { class: "empty", role: "status" }, "Loading…"));
      try {
        const loaded = await report.clips.load(this.clip.number);
        const signals = await readSignals(loaded);
        if (!this.element.open) return;
        this.#strips = new report.Strips(signals, loaded.audio, signals[0].channels[0].length / signals[0].rate);
        this.body.replaceChildren(this.#toolbar(), this.#strips.element, metricTable(this.clip));
      } catch (error) {
        this.body.replaceChildren(make("p", { class: "empty failed", role: "alert" }, error.message));
        this.#wanted = null;
      }
    }

    #toolbar() {
      const { timeline, players } = this.#strips;
      const button = (text, label, onclick) => make("button", { type: "button", "aria-label": label, onclick }, text);
      const span = make("output", { class: "span" });
      const show = () => (span.textContent = `${fixed(timeline.start, 2)} to ${fixed(timeline.end, 2)} s`);
      timeline.watch(show);
      show();
      const hint = "Digits switch at the same position. Click to seek, drag to move, Ctrl and wheel or pinch to zoom.";
      return make(
        "div",
        { class: "toolbar", role: "toolbar", "aria-label": "View and playback" },
        button("Play", "Play or pause", () => players.toggle()),
        button("+", "Zoom in", () => timeline.key("+")),
        button("−", "Zoom out", () => timeline.key("-")),
        button("Whole", "Show the whole clip", () => timeline.key("Home")),
        span,
        make("p", { class: "hint" }, hint),
      );
    }
  }

  report.openClip = (number, row) => cards.get(number).open(row);

  report.showClips = () => {
    find("clips").hidden = !clips.length;
    for (const clip of clips) cards.set(clip.number, new Card(clip));
    find("clips").append(...[...cards.values()].map((card) => card.element));
    if (clips.length) cards.get(clips[0].number).element.open = true;
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || takesKeys(event.target)) return;
      if (active?.key(event)) event.preventDefault();
    });
    document.addEventListener("themechange", () => cards.forEach((card) => card.redraw()));
  };
}
