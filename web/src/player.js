/** What is heard: a clip, one of its tracks, and the position in it. */
import { Deck } from "./deck.js";
import { PageError } from "./page_error.js";

const MARGIN_SECONDS = 0.02; // between what is played live and what is there

export class Player {
  #deck = null;
  #source = null;
  clip = null;
  track = 0;
  rate = 0;
  position = 0;
  isPlaying = false;
  isRecording = false;
  numStalls = 0;

  /** `listener` has changed(), heard(samples), recorded() and sounded(). */
  constructor(facts, listener) {
    Object.assign(this, { facts, listener });
  }

  get sampleRate() {
    return this.facts.sample_rate;
  }

  /** Seconds of the clip so far. */
  get duration() {
    const { tracks, numSamples } = this.clip;
    return (numSamples ?? tracks[0].tapes[0].length) / this.sampleRate;
  }

  /** Seconds from the microphone to the loudspeaker; null if the microphone is not heard live. */
  get liveLatency() {
    if (!this.isRecording || !this.isPlaying) return null;
    const late = (this.clip.tracks[0].tapes[0].length - this.position) / this.sampleRate;
    return late + this.#deck.outputLatency;
  }

  open(clip) {
    this.clip = clip;
    this.rate = Math.min(this.rate, clip.rates.length - 1);
    this.track = clip.trackOf(this.rate);
    this.position = 0;
    this.isPlaying = false;
    this.#deck?.load(clip, this.track);
    this.listener.changed();
  }

  append(track, samples) {
    this.clip.append(track, samples);
    this.#deck?.send("append", { track, samples });
    this.listener.changed();
  }

  /** The clip has this many samples in the end. */
  complete(numSamples) {
    this.clip.numSamples = numSamples;
    this.#deck?.send("complete", { numSamples });
  }

  select(track) {
    if (track < 0 || track >= this.clip.tracks.length) return;
    this.track = track;
    const rate = track - Number(this.clip.hasOriginal);
    if (rate >= 0) this.rate = rate;
    this.#deck?.send("select", { value: track });
    this.listener.changed();
  }

  seek(seconds) {
    this.position = Math.round(Math.max(0, Math.min(seconds, this.duration)) * this.sampleRate);
    this.#deck?.send("seek", { value: this.position });
    this.listener.changed();
  }

  async play() {
    const deck = await this.#open();
    await deck.play();
  }

  pause() {
    this.#deck?.send("pause");
  }

  /** Go on with what the microphone gave last. */
  async follow() {
    const deck = await this.#open();
    deck.send("follow", { margin: Math.round(MARGIN_SECONDS * this.sampleRate) });
    await deck.play();
  }

  /** Record a stream of the microphone into the clip; `heard` gets each hop, `recorded` follows the last one. */
  async record(stream) {
    const deck = await this.#open();
    await deck.context.resume();
    this.stream = stream;
    try {
      this.#source = deck.context.createMediaStreamSource(stream);
    } catch {
      for (const track of stream.getTracks()) track.stop();
      throw new PageError(
        `This browser can't hear the microphone at ${this.sampleRate} Hz: use Chrome, Edge or Safari.`,
      );
    }
    this.#source.connect(deck.node);
    deck.send("record", { hop: this.facts.hop_length });
    this.isRecording = true;
    this.listener.changed();
  }

  stopRecording() {
    if (!this.isRecording) return;
    this.isRecording = false;
    this.#deck.send("record", { hop: 0 });
    this.#source.disconnect();
    for (const track of this.stream.getTracks()) track.stop();
    this.listener.changed();
  }

  /** The deck, with the clip as far as it has come. */
  async #open() {
    this.opening ??= Deck.open(this.sampleRate, (message) => this.#receive(message));
    const deck = await this.opening;
    if (this.#deck === null) {
      this.#deck = deck;
      deck.load(this.clip, this.track);
      deck.send("seek", { value: this.position });
    }
    return deck;
  }

  #receive({ kind, ...data }) {
    if (kind === "heard") this.listener.heard(data.samples);
    else if (kind !== "state") this.listener[kind]();
    else if (data.position !== this.position || data.isPlaying !== this.isPlaying) {
      Object.assign(this, data);
      this.listener.changed();
    }
  }
}
