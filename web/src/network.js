/** The worker that runs the network, from the page's side. */
import { load } from "./files.js";
import { PageError } from "./page_error.js";
import NetworkWorker from "./network.worker.js?worker&inline";

// A function whose result is v128.const: valid only with SIMD.
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
];

function check() {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(Uint8Array.from(SIMD))) {
    throw new PageError(
      "This browser has no WebAssembly SIMD, which the network needs: use a current Firefox, Chrome or Safari.",
    );
  }
  if (!window.Worker || !window.DecompressionStream) {
    throw new PageError("This browser is too old for the network: use a current Firefox, Chrome or Safari.");
  }
}

export class Network {
  /** Load runtime and graphs; `listener` gets the messages of network.worker.js about recordings. */
  static async open(facts, listener) {
    check();
    const worker = new NetworkWorker();
    const ready = new Promise((resolve, reject) => {
      worker.onerror = () => reject(new PageError("This browser does not run the network's worker."));
      worker.onmessage = ({ data }) => {
        if (data.kind === "ready") resolve();
        else reject(new PageError(`The network can't be loaded: ${data.message}`));
      };
    });
    worker.postMessage({ kind: "load", facts });
    const give = async (key) => worker.postMessage({ kind: "part", key, text: await load(key) });
    await Promise.all([ready, ...["runtime", "encoder", "decoder"].map(give)]);
    worker.onmessage = ({ data }) => listener(data);
    return new Network(worker);
  }

  constructor(worker) {
    this.worker = worker;
  }

  /** Begin with a clip; `rows` are its codes if it is coded already. */
  start(clip, rows = null) {
    const { id, numChannels, numLevels, numSamples } = clip;
    const rates = clip.rates.map(({ levels }) => levels);
    const coded = rows && { rows, numSamples };
    this.worker.postMessage({ kind: "start", id, numChannels, numLevels, rates, ...coded });
  }

  push(clip, samples) {
    this.worker.postMessage({ kind: "audio", id: clip.id, samples });
  }

  end(clip) {
    this.worker.postMessage({ kind: "end", id: clip.id });
  }
}
