"use strict";
/** Clips, each in a script of its own, which is loaded when the clip is wanted. */
{
  const waiting = new Map();
  const loaded = new Map();

  report.clips = {
    /** Load a clip by number: a promise of {facts, audio: [bytes of the original, then of each decode], codes}. */
    load(number) {
      if (!loaded.has(number)) loaded.set(number, request(number));
      return loaded.get(number);
    },

    /** Forget the bytes of a clip; it is loaded again when it is wanted again. */
    forget: (number) => loaded.delete(number),

    /** Called by the script of a clip. */
    arrive(facts, payload) {
      const { toBytes, toCodes } = report.bytes;
      waiting.get(facts.number)?.({
        facts,
        audio: payload.audio.map(toBytes),
        codes: payload.codes.map((text) => text && toCodes(text)),
      });
    },
  };

  function request(number) {
    return new Promise((resolve, reject) => {
      const name = `clips/${String(number).padStart(3, "0")}.js`;
      const script = report.dom.make("script", { src: name });
      waiting.set(number, resolve);
      script.addEventListener("error", () => {
        loaded.delete(number);
        reject(new Error(`${name} is missing: keep the folder of the report together`));
      });
      script.addEventListener("load", () => script.remove());
      document.head.append(script);
    });
  }
}
