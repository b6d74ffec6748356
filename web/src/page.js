/** The page: what visitors do, the network that answers, and the player that is heard. */
import "./page.css";
import { countFrames, decodeFile, encodeFile } from "./bitstream.js";
import { Clip, rowsOf } from "./clip.js";
import { EntropyCoder } from "./entropy_coder.js";
import { load, put } from "./files.js";
import { dom } from "./look.js";
import { Network } from "./network.js";
import { PageError } from "./page_error.js";
import { Player } from "./player.js";
import { decodeAudio, MAX_SECONDS, openMicrophone } from "./sources.js";
import { unpack } from "./unpack.js";
import { View } from "./view.js";

export { put };

const { find } = dom;
const root = document.documentElement;

class Page {
  #sizes = new Map();

  constructor(facts) {
    this.facts = facts;
    this.rates = facts.rates.map(({ bitrate, levels }) => ({
      label: `${Number((bitrate / 1000).toFixed(2))} kbit/s`,
      levels,
    }));
    this.player = new Player(facts, {
      changed: () => this.view?.update(),
      heard: (samples) => this.#hear(samples),
      recorded: () => this.#finishRecording(),
      sounded: () => (root.dataset.sounded ??= performance.now()),
    });
    this.player.rate = Math.floor(this.rates.length / 2);
    this.view = new View(this.player, { sizeOf: (clip, rate) => this.#sizeOf(clip, rate) });
    this.network = Network.open(facts, (message) => this.#receive(message));
    this.network.catch(() => {}); // whoever awaits it reports the error
    this.coder =
      facts.entropy &&
      load("entropy")
        .then(unpack)
        .then((bytes) => new EntropyCoder(bytes, facts.entropy));
  }

  #open(clip) {
    this.player.stopRecording();
    this.player.pause();
    this.#sizes.clear();
    this.player.open(clip);
    this.view.show(clip);
  }

  /** Encode and decode samples [C][T]. */
  async openAudio(samples, name) {
    const clip = new Clip({ name, numChannels: samples.length, rates: this.rates, numSamples: samples[0].length });
    this.#open(clip);
    this.player.append(0, samples);
    const network = await this.network;
    if (this.player.clip !== clip) return;
    network.start(clip);
    network.push(clip, samples);
    network.end(clip);
  }

  /** Decode a `.codec` file, as it is and cut to fewer levels. */
  async openCodes(bytes, name) {
    const { facts } = this;
    const { header, codes } = decodeFile(bytes, facts.model_identity, await this.coder);
    if (header.numSamples / header.sampleRate > MAX_SECONDS) {
      throw new PageError(`${name} is longer than ${MAX_SECONDS / 60} minutes: codec-decode takes any length.`);
    }
    const { numLevels, numChannels } = header;
    const cuts = this.rates.map(({ levels }) => levels).filter((levels) => levels < numLevels);
    const rates = [...cuts, numLevels].map((levels) => ({ label: `${levels} levels`, levels }));
    const numSamples = Math.ceil((header.numSamples * header.modelRate) / header.sampleRate);
    const clip = new Clip({ name, numChannels, rates, original: false, numSamples });
    const rows = rowsOf(
      codes,
      numLevels,
      rates.map(({ levels }) => levels),
    );
    this.player.rate = rates.length - 1;
    this.#open(clip);
    const network = await this.network;
    if (this.player.clip === clip) network.start(clip, rows);
  }

  async openFile(file) {
    const bytes = await file.arrayBuffer();
    const isCodes = file.name.toLowerCase().endsWith(".codec");
    if (isCodes) await this.openCodes(new Uint8Array(bytes), file.name);
    else await this.openAudio(await decodeAudio(bytes, file.name, this.facts.sample_rate), file.name);
  }

  async openDemo() {
    this.demo ??= load("demo").then(unpack);
    const bytes = await this.demo;
    await this.openAudio(await decodeAudio(bytes.slice().buffer, "The demo", this.facts.sample_rate), "Demo");
  }

  /** Record the microphone, or stop that. */
  async record() {
    const { player } = this;
    if (player.isRecording) return player.stopRecording();
    if (this.isAsking) return undefined; // the browser asks the visitor
    this.isAsking = true;
    try {
      const [network, stream] = [await this.network, await openMicrophone()];
      this.recording = new Clip({ name: "Recording", numChannels: 1, rates: this.rates });
      this.#open(this.recording);
      network.start(this.recording);
      await player.record(stream);
    } finally {
      this.isAsking = false;
    }
    return undefined;
  }

  /** The microphone gave samples; they are late if another clip is open by now. */
  async #hear(samples) {
    const { player, recording } = this;
    if (player.clip !== recording) return;
    player.append(0, [samples]);
    (await this.network).push(recording, [samples]);
    if (player.duration >= MAX_SECONDS) player.stopRecording();
  }

  async #finishRecording() {
    const { player, recording } = this;
    if (player.clip !== recording) return;
    player.complete(recording.tracks[0].tapes[0].length);
    if (recording.numSamples === 0) report(new PageError("Nothing was recorded."));
    else (await this.network).end(recording);
  }

  #receive({ kind, id, ...data }) {
    const { clip } = this.player;
    if (kind === "failed") return report(new PageError(`The network failed: ${data.message}`));
    if (id !== clip.id) return undefined;
    if (kind === "done") {
      clip.isDone = true;
      root.dataset.done = String(id);
      return this.view.update();
    }
    const isFirst = clip.numFrames === 0;
    clip.rows.append(data.rows);
    clip.encodeSeconds += data.encodeSeconds;
    clip.decodeSeconds += data.decodeSeconds;
    data.samples.forEach((samples, rate) => this.player.append(clip.trackOf(rate), samples));
    if (isFirst && this.player.isRecording && find("listen").checked) attempt(() => this.player.follow());
    return undefined;
  }

  /** Bytes of the `.codec` file of a clip at a rate. */
  async fileOf(clip, rate) {
    const { facts } = this;
    const header = {
      identity: facts.model_identity,
      modelRate: facts.sample_rate,
      sampleRate: facts.sample_rate,
      numChannels: clip.numChannels,
      numLevels: clip.rates[rate].levels,
      codebookSize: facts.codebook_size,
      hop: facts.hop_length,
      delay: facts.delay,
      numSamples: clip.numSamples,
    };
    if (countFrames(header) !== clip.numFrames) throw new PageError("The recording is not coded to its end.");
    return encodeFile(header, clip.codesOf(rate), await this.coder);
  }

  /** Size of that file (bytes); null until it is known. */
  #sizeOf(clip, rate) {
    if (!this.#sizes.has(rate)) {
      this.#sizes.set(rate, null);
      this.fileOf(clip, rate).then((bytes) => {
        if (clip !== this.player.clip) return;
        this.#sizes.set(rate, bytes.length);
        this.view.update();
      }, report);
    }
    return this.#sizes.get(rate);
  }

  async save() {
    const { clip, rate } = this.player;
    const url = URL.createObjectURL(new Blob([await this.fileOf(clip, rate)]));
    const stem = clip.name.replace(/\.[^.]*$/, "").toLowerCase();
    dom
      .make("a", {
        href: url,
        download: `${stem}.${clip.rates[rate].label.replace("/", "p").replaceAll(" ", "_")}.codec`,
      })
      .click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }
}

/** Show an error in one line; null clears it. */
function report(error) {
  const text = error instanceof PageError ? error.message : error && `Something went wrong: ${error.message ?? error}`;
  find("message").textContent = text ?? "";
  find("message").hidden = !text;
}

/** Do what a visitor asked for; what fails is said on the page. */
async function attempt(action) {
  report(null);
  try {
    await action();
  } catch (error) {
    report(error);
  }
}

function listenToControls(page) {
  const { player } = page;
  const toggle = () => (player.isPlaying ? player.pause() : attempt(() => player.play()));
  find("demo").addEventListener("click", () => attempt(() => page.openDemo()));
  find("choose").addEventListener("click", () => find("file").click());
  find("file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    if (file) attempt(() => page.openFile(file));
    target.value = "";
  });
  find("microphone").addEventListener("click", () => attempt(() => page.record()));
  find("listen").addEventListener("change", ({ target }) => {
    if (player.isRecording) attempt(() => (target.checked ? player.follow() : player.pause()));
  });
  find("play").addEventListener("click", toggle);
  find("position").addEventListener("input", ({ target }) => player.seek(Number(target.value)));
  find("save").addEventListener("click", () => attempt(() => page.save()));
  listenToKeys(player, toggle);
  listenToDrops(page);
}

function listenToKeys(player, toggle) {
  document.addEventListener("keydown", (event) => {
    if (!player.clip || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key >= "0" && event.key <= "9") player.select(Number(event.key));
    else if (event.key === " " && !event.target.matches("button, input, select, a")) {
      event.preventDefault();
      if (!player.isRecording) toggle();
    }
  });
}

function listenToDrops(page) {
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    root.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? root.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    root.classList.remove("dropping");
    const [file] = event.dataTransfer.files;
    if (file) attempt(() => page.openFile(file));
  });
}

async function open() {
  const page = new Page(await load("facts"));
  const { facts, rates } = page;
  Object.assign(exposed, { page });
  find("model").textContent = facts.name;
  find("rates").textContent = new Intl.ListFormat("en", { type: "disjunction" }).format(
    rates.map(({ label }) => label),
  );
  listenToControls(page);
  const ready = page.network.then(() => (root.dataset.ready = performance.now()));
  ready.catch(() => {}).finally(() => (find("status").hidden = true));
  await Promise.all([page.openDemo(), ready]);
}

/** The page's parts, for the console of the browser and for tests. */
export const exposed = {};

attempt(open);
