/** The page's side of the player: it exists from the first use on, since browsers want a click before any sound. */
import { PageError } from "./page_error.js";
import source from "./deck.worklet.js?raw";

export class Deck {
  /** `listener` gets the messages of deck.worklet.js. */
  static async open(sampleRate, listener) {
    if (!window.AudioContext || !window.AudioWorkletNode) {
      throw new PageError("This browser plays no sound from an AudioWorklet: use a current Firefox, Chrome or Safari.");
    }
    const context = new AudioContext({ sampleRate, latencyHint: "interactive" });
    // Chrome refuses a Blob here to pages from disk.
    await context.audioWorklet.addModule(`data:text/javascript,${encodeURIComponent(source)}`);
    return new Deck(context, listener);
  }

  constructor(context, listener) {
    this.context = context;
    this.node = new AudioWorkletNode(context, "deck", { outputChannelCount: [2] });
    this.node.port.onmessage = ({ data }) => listener(data);
    this.node.connect(context.destination);
  }

  /** Seconds from the node to the loudspeaker, as the browser estimates them. */
  get outputLatency() {
    return this.context.outputLatency || this.context.baseLatency || 0;
  }

  send(kind, data = {}) {
    this.node.port.postMessage({ kind, ...data });
  }

  /** A recording with all that its tracks have so far. */
  load(clip, track) {
    this.send("load", { numTracks: clip.tracks.length, numChannels: clip.numChannels });
    clip.tracks.forEach(({ tapes }, index) =>
      this.send("append", { track: index, samples: tapes.map((tape) => tape.all) }),
    );
    if (clip.numSamples !== null) this.send("complete", { numSamples: clip.numSamples });
    this.send("select", { value: track });
  }

  async play() {
    await this.context.resume();
    this.send("play");
  }
}
