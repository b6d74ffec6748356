"use strict";
/** The part of a clip that is in view, shared by all its pictures, and the gestures that change it. */
{
  const SHORTEST = 0.02; // s
  const STEP = 1.5;
  const CLICK_PIXELS = 4;

  class Timeline {
    #watchers = [];

    constructor(seconds) {
      Object.assign(this, { seconds, start: 0, end: seconds });
    }

    watch(watcher) {
      this.#watchers.push(watcher);
    }

    /** Show `span` seconds from `start`, moved so that both lie within the clip. */
    show(start, span) {
      const length = Math.min(this.seconds, Math.max(Math.min(SHORTEST, this.seconds), span));
      this.start = Math.max(0, Math.min(this.seconds - length, start));
      this.end = this.start + length;
      for (const watcher of this.#watchers) watcher();
    }

    get span() {
      return this.end - this.start;
    }

    /** Magnify by `factor` around a time that keeps its place. */
    zoom(factor, around = this.start + this.span / 2) {
      const span = Math.min(this.seconds, Math.max(SHORTEST, this.span / factor));
      this.show(around - ((around - this.start) / this.span) * span, span);
    }

    /** Move by a share of what is in view. */
    pan(share) {
      this.show(this.start + share * this.span, this.span);
    }

    /** Place of a time as a share of the width; may lie outside 0 to 1. */
    place(time) {
      return (time - this.start) / this.span;
    }

    /** Keys of an element with the focus: + and - zoom, arrows pan, Home shows the whole clip. True if it was one. */
    key(key) {
      const actions = {
        "+": () => this.zoom(STEP),
        "=": () => this.zoom(STEP),
        "-": () => this.zoom(1 / STEP),
        ArrowLeft: () => this.pan(-0.2),
        ArrowRight: () => this.pan(0.2),
        Home: () => this.show(0, this.seconds),
      };
      actions[key]?.();
      return key in actions;
    }

    /** Drag to pan, pinch or turn the wheel with Ctrl to zoom, turn it sideways or with Shift to pan, click to seek. */
    attach(element, seek) {
      const pointers = new Map();
      let moved = 0;
      const share = (x) => {
        const box = element.getBoundingClientRect();
        return (x - box.left) / box.width;
      };
      const spread = () => {
        const [a, b] = [...pointers.values()];
        return Math.max(20, Math.abs(a - b));
      };
      element.addEventListener("wheel", (event) => this.#wheel(event, share), { passive: false });
      element.addEventListener("pointerdown", (event) => {
        pointers.set(event.pointerId, event.clientX);
        moved = 0;
        element.setPointerCapture(event.pointerId);
      });
      element.addEventListener("pointermove", (event) => {
        if (!pointers.has(event.pointerId)) return;
        const before = pointers.get(event.pointerId);
        const spreadBefore = pointers.size === 2 ? spread() : null;
        pointers.set(event.pointerId, event.clientX);
        moved += Math.abs(event.clientX - before);
        if (spreadBefore) this.zoom(spread() / spreadBefore, this.start + share(event.clientX) * this.span);
        else if (moved > CLICK_PIXELS) this.pan(-(event.clientX - before) / element.clientWidth);
      });
      element.addEventListener("pointerup", (event) => {
        if (pointers.delete(event.pointerId) && moved <= CLICK_PIXELS)
          seek(this.start + share(event.clientX) * this.span);
      });
      element.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
    }

    #wheel(event, share) {
      const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
      if (event.ctrlKey) this.zoom(1.002 ** -event.deltaY, this.start + share(event.clientX) * this.span);
      else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) this.pan(sideways / 800);
      else return; // the page scrolls
      event.preventDefault();
    }
  }

  report.Timeline = Timeline;
}
