import * as ort from "onnxruntime-web/wasm";
import fs from "node:fs"; import zlib from "node:zlib";
const dir=process.argv[2]||"/tmp/page"; const BL=Number(process.argv[3]||50);
const cpu=()=>{const c=process.cpuUsage(); return (c.user+c.system)/1e6};
let t=cpu(); const lap=(n)=>{const x=cpu(); console.log(n,(x-t).toFixed(3)); t=x};
globalThis.codecPage={put(k,v){globalThis[k]=v}};
for(const k of ["facts","encoder","decoder","runtime"]) (0,eval)(fs.readFileSync(`${dir}/${k}.js`,"utf8"));
lap("read");
const b={}; for(const k of ["encoder","decoder","runtime"]) b[k]=zlib.gunzipSync(Buffer.from(globalThis[k],"base64"));
lap("unpack");
ort.env.wasm.wasmBinary=b.runtime; ort.env.wasm.numThreads=1; ort.env.logLevel="error";
const opt={executionProviders:["wasm"]};
if(process.argv[4]) Object.assign(opt, JSON.parse(process.argv[4]));
const enc=await ort.InferenceSession.create(b.encoder,opt); lap("wasm+enc");
const dec=await ort.InferenceSession.create(b.decoder,opt); lap("dec");
const st=(f)=>Object.fromEntries(f.states.map(s=>[s.name,new ort.Tensor("float32",new Float32Array(s.shape[0]*s.shape[1]),[1,...s.shape])]));
async function run(sess,f,inp,states){const o=await sess.run({[f.input]:inp,...states}); for(const s of f.states) states[s.name]=o["next."+s.name]; return o[sess.outputNames[0]]}
const N=BL*320; let es=st(facts.encoder), ds=st(facts.decoder);
for(let r=0;r<3;r++){ 
 const reps=Math.max(1,Math.round(200/BL));
 let codes; for(let i=0;i<reps;i++){const a=Float32Array.from({length:N},(_,k)=>0.1*Math.sin(k*0.05)+0.05*Math.random()); codes=await run(enc,facts.encoder,new ort.Tensor("float32",a,[1,1,N]),es);}
 const x=cpu(); console.log("enc RTF",(reps*BL*0.02/(x-t)).toFixed(1)); t=x;
 const c=new BigInt64Array(8*BL).map((_,i)=>codes.data[i]); let o;
 for(let i=0;i<reps;i++) o=await run(dec,facts.decoder,new ort.Tensor("int64",c,[1,8,BL]),ds);
 const y=cpu(); console.log("dec RTF",(reps*BL*0.02/(y-t)).toFixed(1)); t=y;
}
