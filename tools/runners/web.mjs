// web.mjs ENGINE - runs a model in an engine of the web, for the deployment matrix. One line of JSON in, one out: see protocol.py.
// A request with "more": true may be followed by another line; its browser is kept for that.
//
// ONNX Runtime Web runs in headless Chromium (web_browser.mjs), LiteRT.js in node (web_litert.mjs). tools/setup-runtimes web brings both.
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import { OnnxRuntimeWeb } from './web_browser.mjs';
import { LiteRtWeb } from './web_litert.mjs';
import { Refused, peakMb, refusalOf } from './web_common.mjs';

const ENGINES = {
  'ort-web-wasm': () => new OnnxRuntimeWeb({ ep: 'wasm', bundle: 'ort.wasm.min.mjs', wasm: 'ort-wasm-simd-threaded.wasm' }),
  'ort-web-wasm-mt': () => new OnnxRuntimeWeb({ ep: 'wasm', bundle: 'ort.wasm.min.mjs', wasm: 'ort-wasm-simd-threaded.wasm', threads: true }),
  'ort-web-webgl': () => new OnnxRuntimeWeb({ ep: 'webgl', bundle: 'ort.all.min.mjs', wasm: 'ort-wasm-simd-threaded.jsep.wasm', gpu: true }),
  'ort-web-webgpu': () => new OnnxRuntimeWeb({ ep: 'webgpu', bundle: 'ort.webgpu.min.mjs', wasm: 'ort-wasm-simd-threaded.asyncify.wasm', gpu: true }),
  'ort-web-jsep': () => new OnnxRuntimeWeb({ ep: 'webgpu', bundle: 'ort.all.min.mjs', wasm: 'ort-wasm-simd-threaded.jsep.wasm', gpu: true, jsep: true }),
  'litert-wasm': () => new LiteRtWeb(),
};

function checked(request) {
  const need = (ok, what) => { if (!ok) throw new Refused('error', `request: ${what}`); };
  need(request !== null && typeof request === 'object' && !Array.isArray(request), 'not a JSON object');
  need(request.protocol === 1, `protocol ${JSON.stringify(request.protocol)}; this runner speaks 1`);
  if (request.describe) return request;
  need(typeof request.model === 'string' && typeof request.output === 'string', "'model' or 'output' is not a path");
  need(Array.isArray(request.inputs) && request.inputs.length > 0, "'inputs' is not a list of inputs");
  for (const i of request.inputs) need(typeof i?.name === 'string' && typeof i?.file === 'string', 'an input without name or file');
  for (const key of ['samples', 'batch', 'threads']) need(Number.isInteger(request[key] ?? 1) && (request[key] ?? 1) > 0, `'${key}' is not a number above 0`);
  need(request.samples !== undefined, "'samples' is missing");
  need(fs.existsSync(request.model), `there is no model ${request.model}`);
  return { batch: 1, threads: 1, ...request };
}

let engine = null; // opened by the first request

async function answerTo(line, make, root) {
  let request;
  try { request = checked(JSON.parse(line)); } catch (problem) {
    throw problem instanceof Refused ? problem : new Refused('error', `request: ${problem.message}`);
  }
  if (!engine) {
    const opened = make();
    opened.open(root); // finds its files, or is missing
    engine = opened;
  }
  const facts = { protocol: 1, ok: true, runtime: engine.runtime, version: engine.version, build: engine.build, device: engine.device, isa: engine.isa };
  if (request.describe) return { ...facts, forms: engine.forms };
  const cell = await engine.run(request);
  return { ...facts, device: engine.device, providers: [], notes: [], peak_mb: peakMb(), ...cell };
}

// Is another request to come?
function goesOn(line) {
  try { return JSON.parse(line).more === true; } catch { return false; }
}

const here = path.dirname(fileURLToPath(import.meta.url));
const root = process.env.DISTILL_RUNTIMES || path.join(here, '..', '..', 'build', 'runtimes');
const make = ENGINES[process.argv[2]];
if (process.argv[2] === '--list') {
  process.stdout.write(Object.keys(ENGINES).join('\n') + '\n');
  process.exit(0);
}
if (!make || process.argv.length !== 3) {
  process.stderr.write(`usage: web.mjs ENGINE   (${Object.keys(ENGINES).join(' ')})\n`);
  process.exit(64);
}
for (const way of ['log', 'info', 'debug', 'dir']) console[way] = console.error; // standard output carries the answer alone
const write = process.stdout.write.bind(process.stdout);
process.stdout.write = process.stderr.write.bind(process.stderr);

async function answerLine(line) {
  let answer;
  try {
    answer = await answerTo(line, make, root);
  } catch (problem) {
    const refused = refusalOf(problem);
    if (refused !== problem) console.error(problem);
    answer = { protocol: 1, ok: false, kind: refused.kind, message: refused.message };
  }
  await new Promise((done) => write(JSON.stringify(answer) + '\n', done));
}

let asked = 0;
for await (const line of readline.createInterface({ input: process.stdin })) {
  asked++;
  await answerLine(line);
  if (!engine?.stays || !goesOn(line)) break;
}
if (asked === 0) await answerLine('');
await engine?.close?.();
process.exit(0);
