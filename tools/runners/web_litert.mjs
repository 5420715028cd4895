// web_litert.mjs - LiteRT.js (wasm, XNNPACK) in node. Its loader is written for web workers: what it misses of these is put in place here.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import vm from 'node:vm';
import { Refused, cpuName, fileHash, openNpy, readRows, writeNpy } from './web_common.mjs';

export class LiteRtWeb {
  runtime = 'LiteRT.js wasm';
  forms = ['tflite'];
  isa = 'wasm';

  open(root) {
    this.folder = path.join(root, 'web', 'node_modules', '@litertjs', 'core');
    const listed = path.join(this.folder, 'package.json');
    if (!fs.existsSync(listed)) throw new Refused('missing', 'there is no @litertjs/core; to get it: tools/setup-runtimes web');
    const facts = JSON.parse(fs.readFileSync(listed, 'utf8'));
    this.version = facts.version;
    this.main = path.join(this.folder, facts.main);
    this.wasm = path.join(this.folder, 'wasm') + '/';
    this.build = `npm @litertjs/core ${facts.version}, node ${process.version}, sha256 ${fileHash(this.main, this.wasm + 'litert_wasm_internal.wasm')}`;
    this.device = cpuName();
  }

  async load(model) {
    globalThis.self = globalThis;
    globalThis.location = { href: pathToFileURL(this.wasm).href };
    globalThis.require = createRequire(this.wasm);
    globalThis.__filename = this.wasm + 'x.js';
    globalThis.__dirname = this.wasm.slice(0, -1);
    const local = (url) => String(url?.url || url).replace('file://', '');
    globalThis.importScripts = (url) => vm.runInThisContext(fs.readFileSync(local(url), 'utf8'), local(url));
    globalThis.fetch = async (url) => new Response(fs.readFileSync(local(url)), { headers: { 'content-type': 'application/wasm' } });
    const api = await import(pathToFileURL(this.main).href);
    await api.loadLiteRt(this.wasm);
    return { api, compiled: await api.loadAndCompile(new Uint8Array(fs.readFileSync(model)), { accelerator: 'wasm' }) };
  }

  async run(request) {
    if (request.inputs.length !== 1) throw new Refused('unsupported', 'this runner feeds models of one input only');
    if (!request.model.endsWith('.tflite')) throw new Refused('unsupported', 'LiteRT reads .tflite files');
    const npy = openNpy(request.inputs[0].file, request.samples);
    const start = performance.now();
    const { api, compiled } = await this.load(request.model);
    const loaded = performance.now();
    const dims = npy.shape.slice(1), spatial = dims.slice(1).reduce((a, b) => a * b, 1), channels = dims.length > 1 ? dims[0] : 1;
    const shape = dims.length > 1 ? [1, ...dims.slice(1), channels] : [1, ...dims];
    const row = (i) => {
      const x = new npy.type.array(new Uint8Array(readRows(npy, i, 1, request.samples - 1)).buffer);
      if (channels === 1) return x;
      const to = new npy.type.array(x.length); // [H, W, C] of [C, H, W]
      for (let c = 0; c < channels; c++) for (let p = 0; p < spatial; p++) to[p * channels + c] = x[c * spatial + p];
      return to;
    };
    const once = async (x) => {
      const given = new api.Tensor(x, shape);
      const outputs = await compiled.run(given);
      const y = new Float32Array(await outputs[0].data());
      outputs.forEach((t) => t.delete());
      given.delete();
      return y;
    };
    const rows = [];
    let seconds = 0;
    for (let i = 0; i < request.samples; i++) {
      const x = row(i), from = performance.now();
      rows.push(await once(x));
      seconds += (performance.now() - from) / 1e3;
    }
    const latency_ms = [];
    if (request.latency) {
      const plan = { warmup: 5, runs: 100, seconds: 1, ...request.latency }, x = row(0);
      for (let i = 0; i < plan.warmup; i++) await once(x);
      for (const began = performance.now(); latency_ms.length < plan.runs && (latency_ms.length < 5 || performance.now() - began < plan.seconds * 1e3);) {
        const from = performance.now();
        await once(x);
        latency_ms.push(performance.now() - from);
      }
    }
    const out = [request.samples, rows[0].length];
    writeNpy(request.output, 'float32', out, Buffer.concat(rows.map((r) => Buffer.from(r.buffer))));
    return { type: 'float32', shape: out, load_ms: loaded - start, run_s: seconds, latency_ms, notes: ['one sample at a time, one thread, in node', 'input given as NHWC'] };
  }
}
