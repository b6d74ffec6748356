/** Builds the page that `codec-export --web` writes: classic scripts, since a page from disk can't load modules. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { defineConfig } from "vite";

const RUNTIME = "ort-wasm-simd-threaded.wasm";
const PACKAGE = new URL("node_modules/onnxruntime-web/", import.meta.url);

/** Keeps the 14 MB of WebAssembly out of the bundle: the page hands them to ONNX Runtime itself. */
const withoutWasm = () => ({
  name: "without-wasm",
  transform: {
    filter: { id: /ort\.wasm\.bundle\.min\.mjs$/ },
    handler: (code) => code.replaceAll(`new URL("${RUNTIME}",import.meta.url)`, `"${RUNTIME}"`),
  },
});

/** Writes which runtime the bundle needs, so that `codec-export` can check what it is given. */
const nameRuntime = () => ({
  name: "name-runtime",
  generateBundle() {
    const { version } = JSON.parse(readFileSync(new URL("package.json", PACKAGE), "utf-8"));
    const sha256 = createHash("sha256")
      .update(readFileSync(new URL(`dist/${RUNTIME}`, PACKAGE)))
      .digest("hex");
    const source = `${JSON.stringify({ version, file: RUNTIME, sha256 }, null, 2)}\n`;
    this.emitFile({ type: "asset", fileName: "runtime.json", source });
  },
});

export default defineConfig({
  plugins: [nameRuntime()],
  worker: { format: "iife", plugins: () => [withoutWasm()] },
  build: {
    target: "es2022",
    outDir: "../codec/web/bundle",
    emptyOutDir: true,
    reportCompressedSize: false,
    lib: { entry: "src/page.js", formats: ["iife"], name: "codecPage", fileName: () => "page.js", cssFileName: "page" },
  },
});
