import * as ort from "onnxruntime-web/wasm";
import fs from "node:fs"; import zlib from "node:zlib";
const cpu=()=>{const c=process.cpuUsage(); return (c.user+c.system)/1e6};
globalThis.codecPage={put(k,v){globalThis[k]=v}};
for(const k of ["facts","encoder","decoder","runtime"]) (0,eval)(fs.readFileSync(`/tmp/page/${k}.js`,"utf8"));
const b={}; for(const k of ["encoder","decoder","runtime"]) b[k]=zlib.gunzipSync(Buffer.from(globalThis[k],"base64"));
b.enc32=fs.readFileSync("/tmp/enc.onnx"); b.dec32=fs.readFileSync("/tmp/dec.onnx");
ort.env.wasm.wasmBinary=b.runtime; ort.env.wasm.numThreads=1; ort.env.logLevel="error";
let t=cpu(), w=performance.now(); const lap=(n)=>{const x=cpu(), y=performance.now(); console.log(n,"cpu",(x-t).toFixed(3),"wall",(y-w).toFixed(0)); t=x; w=y};
await ort.InferenceSession.create(Buffer.from("CAg="),{}).catch(()=>0); lap("wasm init");
for (const lv of ["all","basic","disabled"]) for(const k of ["encoder","enc32","decoder","dec32"]) { const s=await ort.InferenceSession.create(b[k],{executionProviders:["wasm"],graphOptimizationLevel:lv}); lap(lv+" "+k); await s.release(); t=cpu(); w=performance.now();}
