"use strict";
/** Signals that run in step and loop; one of them is heard, and another takes over without a gap. */
{
  const FADE_SECONDS = 0.008;
  const ANCHOR_HZ = 3500;
  const TRANSITION_HZ = 500;
  const contexts = new Map();

  /** An audio context at the rate of the clips: the browser converts its sum to the rate of the device, in good quality. */
  function contextAt(rate) {
    if (!contexts.has(rate)) contexts.set(rate, new AudioContext({ sampleRate: rate }));
    return contexts.get(rate);
  }

  /** The low anchor of ITU-R BS.1534-3: a low-pass of 3.5 kHz (windowed sinc, Blackman window, no delay). */
  report.lowAnchor = (samples, rate) => {
    const half = Math.ceil((2.75 * rate) / TRANSITION_HZ);
    const cutoff = ANCHOR_HZ / rate;
    const taps = Float64Array.from({ length: 2 * half + 1 }, (_, index) => {
      const n = index - half;
      const phase = (Math.PI * index) / half;
      const window = 0.42 - 0.5 * Math.cos(phase) + 0.08 * Math.cos(2 * phase);
      return window * (n ? Math.sin(2 * Math.PI * cutoff * n) / (Math.PI * n) : 2 * cutoff);
    });
    return samples.map((_, at) => {
      let sum = 0;
      for (let n = -half; n <= half; n += 1) sum += taps[n + half] * (samples[at + n] ?? 0);
      return sum;
    });
  };

  class Mixer {
    #sources = [];
    #gains = [];
    #startedAt = 0;
    #from = 0;

    /** `signals`: [{channels, gain}], all as long as the first; `gain` is a factor. */
    constructor(signals, rate, volume) {
      this.context = contextAt(rate);
      this.seconds = signals[0].channels[0].length / rate;
      this.loop = { start: 0, end: this.seconds };
      this.current = 0;
      this.isPlaying = false;
      this.master = this.context.createGain();
      this.master.connect(this.context.destination);
      this.volume = volume;
      this.headroom = 1 / Math.max(1, ...signals.map(peak));
      this.buffers = signals.map(({ channels }) => {
        const buffer = this.context.createBuffer(channels.length, channels[0].length, rate);
        channels.forEach((samples, index) => buffer.copyToChannel(samples, index));
        return buffer;
      });
      this.factors = signals.map(({ gain }) => gain);
    }

    set volume(share) {
      this.master.gain.value = share;
    }

    /** Seconds from the start of the clip. */
    get position() {
      const { start, end } = this.loop;
      if (!this.isPlaying) return this.#from;
      const time = this.#from + Math.max(0, this.context.currentTime - this.#startedAt);
      return time < end ? time : start + ((time - start) % (end - start));
    }

    async play() {
      await this.context.resume();
      this.#stopSources();
      this.#startedAt = this.context.currentTime + 0.02;
      this.#gains = this.buffers.map((_, index) => this.#gain(index));
      this.#sources = this.buffers.map((buffer, index) => {
        const source = new AudioBufferSourceNode(this.context, {
          buffer,
          loop: true,
          loopStart: this.loop.start,
          loopEnd: this.loop.end,
        });
        source.connect(this.#gains[index]);
        source.start(this.#startedAt, this.#from);
        return source;
      });
      this.isPlaying = true;
    }

    pause() {
      this.#from = this.position;
      this.isPlaying = false;
      this.#stopSources();
    }

    toggle() {
      return this.isPlaying ? this.pause() : this.play();
    }

    /** Hear another signal from the same place on. */
    select(index) {
      this.current = index;
      const now = this.context.currentTime;
      this.#gains.forEach((node, other) => {
        node.gain.cancelScheduledValues(now);
        node.gain.setTargetAtTime(other === index ? this.#level(other) : 0, now, FADE_SECONDS / 3);
      });
    }

    /** Repeat the part from `start` to `end` (s), from its start on. */
    repeat(start, end) {
      this.loop = { start, end };
      this.#from = start;
      if (this.isPlaying) this.play();
    }

    release() {
      if (this.isPlaying) this.pause();
      this.master.disconnect();
    }

    #level(index) {
      return this.factors[index] * this.headroom;
    }

    #gain(index) {
      const node = this.context.createGain();
      node.gain.value = index === this.current ? this.#level(index) : 0;
      node.connect(this.master);
      return node;
    }

    #stopSources() {
      for (const source of this.#sources) source.stop();
      this.#sources = [];
      this.#gains = [];
    }
  }

  function peak({ channels, gain }) {
    const largest = (samples) => samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    return gain * Math.max(...channels.map(largest));
  }

  report.Mixer = Mixer;

  /** The signals of a clip for a mixer: {rate, original, anchor, decodes}, the decodes as loud as the original. */
  report.listeningSignals = async (number) => {
    const { facts, audio } = await report.clips.load(number);
    const rate = facts.sample_rate;
    const [original, ...decodes] = await Promise.all(
      audio.map(async (bytes) => report.bytes.channels(await report.bytes.decode(bytes, rate))),
    );
    return {
      rate,
      original: { channels: original, gain: 1 },
      anchor: () => ({ channels: original.map((samples) => report.lowAnchor(samples, rate)), gain: 1 }),
      decodes: decodes.map((channels, index) => ({ channels, gain: 10 ** (facts.decodes[index].gain_db / 20) })),
    };
  };
}
