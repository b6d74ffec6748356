/**
 * Plays several tracks of one recording in step, and hears the microphone; runs in the audio thread.
 *
 * Exactly one track is heard. Another takes over in a crossfade of equal gain: the gains add up to one in every sample,
 * so equal tracks pass unchanged. No sample is left out or repeated, since all tracks share the position. This file is
 * handed to the browser as text: it imports nothing.
 */
const PAGE = 2 ** 15; // samples; a tape grows without copying what it has
const FADE_SECONDS = 0.008;
const REPORT_BLOCKS = 2;

/** Samples of one channel of a track. */
class Tape {
  pages = [];
  length = 0;

  append(samples) {
    for (let done = 0; done < samples.length;) {
      const place = this.length % PAGE;
      if (place === 0) this.pages.push(new Float32Array(PAGE));
      const part = samples.subarray(done, done + PAGE - place);
      this.pages.at(-1).set(part, place);
      this.length += part.length;
      done += part.length;
    }
  }

  at(index) {
    return this.pages[Math.floor(index / PAGE)][index % PAGE];
  }
}

/** Tracks [R][C] of tapes and the gains of the tracks. */
class Mixer {
  isPlaying = false;
  position = 0;
  numSamples = Infinity;
  numStalls = 0;
  #isStalled = false;

  constructor(numTracks, numChannels, fadeSamples) {
    this.tracks = Array.from({ length: numTracks }, () => Array.from({ length: numChannels }, () => new Tape()));
    this.current = 0;
    this.step = 1 / fadeSamples;
    this.from = new Float64Array(numTracks);
    this.to = new Float64Array(numTracks);
    this.progress = 1;
  }

  /** Samples that all tracks have. */
  get available() {
    return Math.min(...this.tracks.map(([tape]) => tape.length));
  }

  append(track, samples) {
    samples.forEach((block, channel) => this.tracks[track][channel]?.append(block));
  }

  select(track) {
    this.current = track;
    if (this.isPlaying) this.#fadeTo(track);
  }

  play() {
    if (this.position >= this.numSamples) this.position = 0;
    this.isPlaying = true;
    this.#fadeTo(this.current);
  }

  pause() {
    this.isPlaying = false;
    this.#fadeTo(null);
  }

  /** Go on at another sample; while playing, the sound fades in there. */
  seek(position) {
    this.position = Math.max(0, Math.min(position, this.numSamples));
    this.from.fill(0);
    this.to.fill(0);
    this.progress = 1;
    if (this.isPlaying) this.#fadeTo(this.current);
  }

  #fadeTo(track) {
    for (let index = 0; index < this.to.length; index += 1) {
      this.from[index] = this.#gain(index);
      this.to[index] = index === track ? 1 : 0;
    }
    this.progress = 0;
  }

  #gain(index) {
    return this.from[index] + (this.to[index] - this.from[index]) * this.progress;
  }

  /** Fill the outputs [C][n] with the next samples: silence where nothing plays, or nothing is there yet. */
  render(outputs) {
    const { available } = this;
    const numSamples = outputs[0].length;
    for (let index = 0; index < numSamples; index += 1) {
      const isFading = this.progress < 1;
      if (!this.isPlaying && !isFading) return;
      if (this.position >= Math.min(available, this.numSamples)) return this.#wait();
      this.#isStalled = false;
      if (isFading) this.progress = Math.min(1, this.progress + this.step);
      for (let track = 0; track < this.tracks.length; track += 1) this.#mix(outputs, index, track);
      this.position += 1;
    }
  }

  #mix(outputs, index, track) {
    const gain = this.#gain(track);
    if (gain === 0) return;
    const tapes = this.tracks[track];
    for (let channel = 0; channel < outputs.length; channel += 1) {
      outputs[channel][index] += gain * tapes[channel % tapes.length].at(this.position);
    }
  }

  /** The recording is over, or its next samples are late. */
  #wait() {
    if (this.position >= this.numSamples) {
      this.isPlaying = false;
      this.progress = 1;
      this.from.fill(0);
      this.to.fill(0);
    } else if (!this.#isStalled) {
      this.#isStalled = true;
      this.numStalls += 1;
    }
  }
}

/** The mixer as a node: commands and samples come as messages, its state and those of the microphone go back. */
class Deck extends AudioWorkletProcessor {
  #mixer = null;
  #hop = 0; // samples of the microphone that are sent at a time; 0: it is off
  #heard = new Float32Array();
  #numHeard = 0;
  #numBlocks = 0;
  #hasSounded = false;

  constructor() {
    super();
    this.port.onmessage = ({ data }) => this.#obey(data);
  }

  #obey({ kind, ...data }) {
    const mixer = this.#mixer;
    if (kind === "load") this.#mixer = new Mixer(data.numTracks, data.numChannels, FADE_SECONDS * sampleRate);
    else if (kind === "record") this.#record(data.hop);
    else if (mixer === null) return;
    else if (kind === "append") mixer.append(data.track, data.samples);
    else if (kind === "complete") mixer.numSamples = data.numSamples;
    else if (kind === "follow") mixer.seek(mixer.available - data.margin);
    else mixer[kind](data.value);
  }

  #record(hop) {
    if (this.#numHeard) this.port.postMessage({ kind: "heard", samples: this.#heard.slice(0, this.#numHeard) });
    this.#numHeard = 0;
    this.#hop = hop;
    this.#heard = new Float32Array(hop);
    if (!hop) this.port.postMessage({ kind: "recorded" });
  }

  #hear(samples) {
    for (let done = 0; done < samples.length;) {
      const part = samples.subarray(done, done + this.#hop - this.#numHeard);
      this.#heard.set(part, this.#numHeard);
      this.#numHeard += part.length;
      done += part.length;
      if (this.#numHeard < this.#hop) return;
      this.port.postMessage({ kind: "heard", samples: this.#heard.slice() });
      this.#numHeard = 0;
    }
  }

  process([input], [output]) {
    if (this.#hop && input.length) this.#hear(input[0]);
    const mixer = this.#mixer;
    if (mixer === null) return true;
    mixer.render(output);
    this.#numBlocks += 1;
    if (this.#numBlocks % REPORT_BLOCKS === 0) {
      const { position, isPlaying, numStalls } = mixer;
      this.port.postMessage({ kind: "state", position, isPlaying, numStalls });
    }
    if (!this.#hasSounded && output[0].some((sample) => sample !== 0)) {
      this.#hasSounded = true;
      this.port.postMessage({ kind: "sounded" });
    }
    return true;
  }
}

registerProcessor("deck", Deck);
