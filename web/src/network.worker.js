/**
 * Runs the network beside the page, which stays responsive.
 *
 * From the page   load      facts of the model
 *                 part      text of a file: runtime, encoder, decoder
 *                 start     a new recording; `rows` if it is coded already; work on the one before ends
 *                 audio     its next samples [C][n]
 *                 end       no more follow
 * To the page     ready
 *                 block     rows of codes, samples [C][n] of each rate, seconds that both took
 *                 done      all blocks were sent
 *                 failed    a message
 */
import { Coder } from "./coder.js";
import { Graph, setUp } from "./graph.js";
import { Queue } from "./queue.js";
import { unpack } from "./unpack.js";

const FIRST_FRAMES = 10; // short blocks first: sound starts sooner
const MAX_FRAMES = 100;

let network = null;
let job = null;

/** The files, each as soon as the page has it: one is unpacked while the next one is read. */
class Parts {
  #resolvers = {};
  #promises = {};

  constructor(...keys) {
    for (const key of keys) this.#promises[key] = new Promise((resolve) => (this.#resolvers[key] = resolve));
  }

  give(key, text) {
    this.#resolvers[key](unpack(text));
  }

  take(key) {
    return this.#promises[key];
  }
}

const parts = new Parts("runtime", "encoder", "decoder");

async function load({ facts }) {
  setUp(await parts.take("runtime"));
  network = {
    encoder: await Graph.load(await parts.take("encoder"), facts.encoder),
    decoder: await Graph.load(await parts.take("decoder"), facts.decoder),
    hop: facts.hop_length,
    delay: facts.delay,
  };
  postMessage({ kind: "ready" });
}

function start({ id, numChannels, numLevels, rates, rows, numSamples }) {
  const coder = new Coder({ ...network, numChannels, numLevels, rates });
  job = {
    id,
    coder,
    numChannels,
    queue: new Queue(numChannels),
    numSamples: numSamples ?? null,
    sent: 0,
    numFrames: 0,
  };
  if (rows) work(job, codedBlocks(coder, rows, numChannels));
  else job.wake = () => job.working ?? work(job, encodedBlocks(job));
}

/** Blocks of rows that are there already. */
async function* codedBlocks(coder, rows, numChannels) {
  const row = coder.width * numChannels;
  let frames = FIRST_FRAMES;
  for (let first = 0; first < rows.length; first += frames * row) {
    if (first) frames = Math.min(MAX_FRAMES, 2 * frames);
    yield { rows: rows.subarray(first, first + frames * row), encodeSeconds: 0 };
  }
}

/** Blocks of what is in the queue of a recording. */
async function* encodedBlocks(job) {
  const { queue, coder } = job;
  for (;;) {
    const most = Math.min(MAX_FRAMES, Math.max(FIRST_FRAMES, job.numFrames));
    const frames = Math.min(Math.floor(queue.length / coder.hop), most);
    if (frames === 0) return;
    const began = performance.now();
    const rows = await coder.encode(queue.take(frames * coder.hop));
    job.numFrames += frames;
    yield { rows, encodeSeconds: (performance.now() - began) / 1000 };
  }
}

/** Decode blocks and send them to the page, until another recording starts. */
async function work(mine, blocks) {
  mine.working = true;
  try {
    for await (const { rows, encodeSeconds } of blocks) {
      const began = performance.now();
      const tracks = await mine.coder.decode(rows);
      const decodeSeconds = (performance.now() - began) / 1000;
      if (mine !== job) return;
      send(mine, rows, tracks, { encodeSeconds, decodeSeconds });
      await new Promise((resume) => setTimeout(resume)); // messages of the page come first
      if (mine !== job) return;
    }
  } catch (error) {
    postMessage({ kind: "failed", id: mine.id, message: String(error?.message ?? error) });
    return;
  }
  mine.working = null;
  if (mine.numSamples !== null) postMessage({ kind: "done", id: mine.id });
}

/** No track gets longer than the recording, whose last frame is padded. */
function send(mine, rows, tracks, seconds) {
  const left = mine.numSamples === null ? Infinity : mine.numSamples - mine.sent;
  const samples = tracks.map((channels) => channels.map((block) => block.slice(0, left)));
  mine.sent += samples[0][0].length;
  postMessage({ kind: "block", id: mine.id, rows: rows.slice(), samples, ...seconds });
}

const handlers = {
  load,
  part: ({ key, text }) => parts.give(key, text),
  start,
  audio({ id, samples }) {
    if (id !== job?.id) return;
    job.queue.append(samples);
    job.wake();
  },
  end({ id }) {
    if (id !== job?.id) return;
    const { queue, coder } = job;
    job.numSamples = queue.total;
    const numFrames = Math.ceil((queue.total + network.delay) / coder.hop);
    const missing = numFrames * coder.hop - queue.total;
    queue.append(Array.from({ length: job.numChannels }, () => new Float32Array(missing)));
    job.wake();
  },
};

self.addEventListener("message", async ({ data }) => {
  try {
    await handlers[data.kind](data);
  } catch (error) {
    postMessage({ kind: "failed", id: data.id, message: String(error?.message ?? error) });
  }
});
