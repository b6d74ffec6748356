/** Half of the network in ONNX Runtime, and streams through it. */
import { env, InferenceSession, Tensor } from "onnxruntime-web/wasm";

/** Set up the runtime with the bytes of its WebAssembly: one thread, which needs no server that isolates the page. */
export function setUp(wasm) {
  env.wasm.wasmBinary = wasm;
  env.wasm.numThreads = 1;
  env.logLevel = "error";
}

export class Graph {
  /** `facts` names the input and the states of the graph. */
  static async load(bytes, facts) {
    const session = await InferenceSession.create(bytes, { executionProviders: ["wasm"], logSeverityLevel: 3 });
    return new Graph(session, facts);
  }

  constructor(session, { input, states }) {
    Object.assign(this, { session, input, states });
    this.result = session.outputNames[0];
  }
}

/** A signal that goes through a graph block by block: it keeps the states between two blocks. */
export class Stream {
  constructor(graph, batch = 1) {
    this.graph = graph;
    this.states = {};
    for (const { name, shape } of graph.states) {
      const dims = [batch, ...shape];
      this.states[name] = new Tensor("float32", new Float32Array(dims.reduce((size, dim) => size * dim)), dims);
    }
  }

  /** Data of the result for the next block of data of this type and shape. */
  async push(type, data, dims) {
    const { session, input, states, result } = this.graph;
    const outputs = await session.run({ [input]: new Tensor(type, data, dims), ...this.states });
    for (const { name } of states) this.states[name] = outputs[`next.${name}`];
    return outputs[result].data;
  }
}
