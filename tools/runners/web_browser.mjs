// web_browser.mjs - ONNX Runtime Web in headless Chromium, driven by playwright-core; everything it loads comes from one server on 127.0.0.1.
//
// Graphics are SwiftShader's, Chromium's own software renderer: the results are those of the WebGL and WebGPU code, the times are not.
// Chromium runs with a fresh profile that is removed, resolves no name and asks no service. A runner that stays for another request (web.mjs)
// keeps browser, page and the pipelines that the engine has compiled, unless something went wrong in that page.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { withBatch } from './web_onnx.mjs';
import { Refused, cpuName, fileHash, openNpy, peakMb, readRows, refusalOf, writeNpy } from './web_common.mjs';

const FLAGS = ['--headless=new', '--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--disable-dev-shm-usage', '--disable-gpu-shader-disk-cache', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'];
const SOFTWARE_GPU = ['--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan',
  '--enable-dawn-features=disable_workgroup_init']; // SwiftShader takes 1 to 4 s to compile the zeroing of the memory that a workgroup shares: engines write it first
const MIME = { '.mjs': 'text/javascript', '.wasm': 'application/wasm' };
// pages of one origin that embeds nothing foreign get SharedArrayBuffer and fine clocks
const WARNINGS_MAX = 20; // of a page's console, for the log of a cell
const GPU_BATCH = 64; // software GPUs are the slower for each sample beyond it
const HEADERS = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp', 'Cache-Control': 'no-store' };

function findChromium() {
  const named = process.env.DISTILL_CHROMIUM;
  const names = named ? [named] : ['chromium', 'chromium-browser', 'google-chrome'].flatMap((n) => (process.env.PATH || '/usr/bin').split(':').map((d) => path.join(d, n)));
  const found = names.find((n) => fs.existsSync(n));
  if (!found) throw new Refused('missing', 'there is no Chromium (DISTILL_CHROMIUM names one); to get it: tools/setup-runtimes chromium');
  return found;
}

export class OnnxRuntimeWeb {
  forms = ['onnx'];
  stays = true; // for another request

  constructor(facts) {
    this.facts = facts;
    this.runtime = `ONNX Runtime Web ${facts.jsep ? 'WebGPU (JSEP)' : { wasm: facts.threads ? 'wasm, threads' : 'wasm', webgl: 'WebGL', webgpu: 'WebGPU' }[facts.ep]}`;
    this.isa = facts.gpu ? `${facts.ep} (software)` : 'wasm';
  }

  open(root) {
    const modules = path.join(root, 'web', 'node_modules');
    this.dist = path.join(modules, 'onnxruntime-web', 'dist');
    for (const name of ['onnxruntime-web', 'playwright-core']) {
      if (!fs.existsSync(path.join(modules, name, 'package.json'))) throw new Refused('missing', `there is no ${name}; to get it: tools/setup-runtimes web`);
    }
    this.chromium = findChromium();
    this.playwright = createRequire(path.join(root, 'web') + '/')('playwright-core');
    this.version = JSON.parse(fs.readFileSync(path.join(this.dist, '..', 'package.json'), 'utf8')).version;
    const browser = execFileSync(this.chromium, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
    this.build = `npm onnxruntime-web ${this.version}, ${browser}, sha256 ${fileHash(path.join(this.dist, this.facts.bundle), path.join(this.dist, this.facts.wasm))}`;
    this.device = this.facts.gpu ? `SwiftShader (software GPU) on ${cpuName()}` : cpuName();
  }

  // Serves the page, the engine's files, the model and rows of the inputs; takes what comes back. this.cell: what is asked.
  async serve() {
    const server = http.createServer((q, r) => {
      const url = new URL(q.url, 'http://127.0.0.1'), { request, arrays, taken } = this.cell;
      const send = (type, body) => { r.writeHead(200, { ...HEADERS, 'content-type': type }); r.end(body); };
      if (q.method === 'POST') {
        const parts = [];
        q.on('data', (d) => parts.push(d));
        q.on('end', () => { taken.push(Buffer.concat(parts)); send('text/plain', ''); });
      } else if (url.pathname === '/') send('text/html', '<!doctype html><title>runner</title><link rel=icon href=data:,>');
      else if (url.pathname === '/model') send('application/octet-stream', this.facts.ep === 'webgl' ? withBatch(fs.readFileSync(request.model), 1) : fs.readFileSync(request.model));
      else if (url.pathname.startsWith('/input/')) {
        const rows = readRows(arrays[Number(url.pathname.slice(7))], Number(url.searchParams.get('begin')), Number(url.searchParams.get('count')), request.samples - 1);
        send('application/octet-stream', rows);
      } else {
        const file = path.join(this.dist, path.basename(url.pathname));
        if (url.pathname.startsWith('/ort/') && fs.existsSync(file)) send(MIME[path.extname(file)] || 'application/octet-stream', fs.readFileSync(file));
        else { r.writeHead(404, HEADERS); r.end(); }
      }
    });
    if (!os.networkInterfaces().lo && process.platform === 'linux') {
      try { execFileSync('ip', ['link', 'set', 'lo', 'up'], { stdio: 'ignore' }); } catch { /* the next step says what is wrong */ }
    }
    await new Promise((done, failed) => server.once('error', failed).listen(0, '127.0.0.1', done));
    return server;
  }

  // A browser with one page, that of an earlier cell where there is one.
  async start() {
    if (this.page) return;
    this.server = await this.serve();
    this.profile = fs.mkdtempSync(path.join(os.tmpdir(), 'runner-'));
    this.context = await this.playwright.chromium.launchPersistentContext(this.profile, { executablePath: this.chromium, headless: true,
      ignoreDefaultArgs: ['--headless', '--headless=old'], args: [...FLAGS, ...(this.facts.gpu ? SOFTWARE_GPU : [])] });
    const page = this.context.pages()[0] || await this.context.newPage();
    page.setDefaultTimeout(0);
    const worth = this.facts.ep === 'webgpu' ? /\[[WEF]:onnxruntime|error/i : /^(?!.*\[[VI]:onnxruntime)/s; // the rest is chatter
    page.on('console', (m) => this.hear(m.text(), worth.test(m.text())));
    page.on('pageerror', (e) => this.hear(`page error: ${e}`, true));
    await page.goto(`http://127.0.0.1:${this.server.address().port}/`);
    this.page = page;
  }

  hear(text, worth) {
    const invalid = /WebGPU validation error/.test(text);
    this.cell.log.push(text);
    this.cell.invalid += invalid;
    this.cell.first ??= invalid ? text.replace(/\s+/g, ' ').slice(0, 160) : null;
    if (worth && this.cell.warned++ < WARNINGS_MAX) console.error(text.slice(0, 500));
    else if (worth && this.cell.warned === WARNINGS_MAX + 1) console.error('[more of these]');
  }

  async close() {
    const { context, server, profile } = this;
    this.page = this.context = this.server = this.profile = null;
    await context?.close().catch(() => {});
    server?.closeAllConnections();
    server?.close();
    if (profile) fs.rmSync(profile, { recursive: true, force: true, maxRetries: 3 });
  }

  // A page where something failed or was not valid is not used again; a model that was refused leaves it as it was.
  async run(request) {
    let sound = false;
    try {
      const result = await this.inBrowser(request);
      sound = this.cell.invalid === 0;
      return result;
    } catch (problem) {
      sound = problem instanceof Refused && problem.kind === 'unsupported';
      throw problem;
    } finally {
      if (!request.more || !sound) await this.close();
    }
  }

  async inBrowser(request) {
    const arrays = request.inputs.map((i) => openNpy(i.file, request.samples)), warm = Boolean(this.page);
    this.cell = { request, arrays, taken: [], log: [], warned: 0, invalid: 0, first: null };
    try {
      await this.start();
      const plan = { ...this.facts, samples: request.samples, batch: this.facts.ep === 'webgl' ? 1 : this.facts.gpu ? Math.min(request.batch, GPU_BATCH) : request.batch,
        threads: this.facts.threads ? request.threads : 1, level: request.options?.level || 'all', output: request.output_name ?? null, latency: request.latency ?? null, more: Boolean(request.more),
        inputs: request.inputs.map((i, k) => ({ name: i.name, type: arrays[k].type.name, shape: arrays[k].shape })) };
      const result = await this.page.evaluate(inPage, plan);
      if (result.failed) throw refusalOf(result.failed);
      if (result.device) this.device = `${result.device}${this.facts.gpu ? ' (software GPU)' : ''}`;
      const shape = [request.samples, ...result.shape.slice(1)];
      writeNpy(request.output, result.type, shape, Buffer.concat(this.cell.taken));
      return { type: result.type, shape, load_ms: result.load_ms, run_s: result.run_s, latency_ms: result.latency_ms, peak_mb: await this.peak(this.context, this.profile),
        providers: placements(this.cell.log, this.facts.ep), notes: [`in headless Chromium, ${plan.threads} thread${plan.threads > 1 ? 's' : ''}`,
          `peak memory is that of the renderer and GPU processes${warm ? ', earlier files of this row included' : ''}`,
          ...(this.facts.ep === 'webgl' ? ['the file with a batch of 1: WebGL takes no symbolic dimension'] : []),
          ...(this.cell.invalid ? [`${this.cell.invalid} WebGPU validation errors that the engine did not report, the first: ${this.cell.first}`] : []), ...result.notes] };
    } finally {
      for (const a of arrays) fs.closeSync(a.fd);
    }
  }

  async peak(context, profile) {
    try {
      const cdp = await context.browser()?.newBrowserCDPSession() ?? await context.newCDPSession(context.pages()[0]);
      const { processInfo } = await cdp.send('SystemInfo.getProcessInfo');
      return processInfo.filter((p) => ['renderer', 'GPU'].includes(p.type)).reduce((sum, p) => sum + (peakMb(p.id) || 0), 0);
    } catch {
      return ofProfile(profile);
    }
  }
}

// The same from /proc: children of the browser with this profile.
function ofProfile(profile) {
  let sum = 0;
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const command = fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1');
      if (/--type=(renderer|gpu-process)/.test(command) && command.includes(profile)) sum += peakMb(pid) || 0;
    } catch { /* it ended */ }
  }
  return sum || null;
}

function placements(log, ep) {
  const nodes = new Map();
  for (const line of log) {
    const found = /placed on \[([^\]]+)\]\. Number of nodes: (\d+)/.exec(line);
    if (found) nodes.set(found[1], Number(found[2]));
  }
  return nodes.size ? [...nodes].map(([name, n]) => ({ name, nodes: n })) : [{ name: ep, nodes: 0 }];
}

// Runs in the page: no name from outside.
async function inPage(plan) {
  const ARRAYS = { float32: Float32Array, uint8: Uint8Array, int8: Int8Array, int64: BigInt64Array, int32: Int32Array };
  try {
    const ort = await import(`/ort/${plan.bundle}`);
    ort.env.wasm.wasmPaths = '/ort/';
    ort.env.wasm.numThreads = plan.threads;
    const model = await (await fetch('/model')).arrayBuffer(), notes = [];
    const options = { executionProviders: [plan.ep], graphOptimizationLevel: { none: 'disabled', basic: 'basic', extended: 'extended' }[plan.level] || 'all' };
    if (plan.ep === 'webgpu') ort.env.logLevel = 'verbose'; // tells which nodes run where; starting twice would take seconds
    const begun = performance.now();
    const session = await ort.InferenceSession.create(model.slice(0), { ...options, logSeverityLevel: plan.ep === 'webgpu' ? 0 : 2, logVerbosityLevel: 0 });
    const load_ms = performance.now() - begun;
    await globalThis.earlier?.release();
    globalThis.earlier = null;
    const wanted = plan.output ?? session.outputNames[0];
    let dims = null;
    try { dims = session.inputMetadata?.[0]?.shape; } catch { /* the WebGL backend does not tell */ }
    const fixed = dims && typeof dims[0] === 'number' ? dims[0] : null;
    let device = null;
    if (plan.gpu && plan.ep === 'webgpu') {
      const adapter = await navigator.gpu?.requestAdapter();
      device = adapter ? [adapter.info.vendor, adapter.info.architecture, adapter.info.description].filter(Boolean).join(' ') : null;
    } else if (plan.gpu) {
      const gl = document.createElement('canvas').getContext('webgl2'), facts = gl?.getExtension('WEBGL_debug_renderer_info');
      device = gl?.getParameter(facts ? facts.UNMASKED_RENDERER_WEBGL : gl.RENDERER) ?? null;
    }
    const feeds = async (begin, count) => {
      const given = {};
      for (let k = 0; k < plan.inputs.length; k++) {
        const { name, type, shape } = plan.inputs[k];
        const bytes = await (await fetch(`/input/${k}?begin=${begin}&count=${count}`)).arrayBuffer();
        given[session.inputNames.includes(name) || plan.inputs.length > 1 ? name : session.inputNames[0]] = new ort.Tensor(type, new ARRAYS[type](bytes), [count, ...shape.slice(1)]);
      }
      return given;
    };
    const once = async (given) => {
      const y = (await session.run(given, [wanted], { logSeverityLevel: 2, logVerbosityLevel: 0 }))[wanted], data = await y.getData();
      return { type: y.type, shape: y.dims, data };
    };
    let run_s = 0, last = null;
    for (let begin = 0; begin < plan.samples; begin += fixed ?? plan.batch) {
      const used = Math.min(fixed ?? plan.batch, plan.samples - begin), given = await feeds(begin, fixed ?? used), from = performance.now();
      last = await once(given);
      run_s += (performance.now() - from) / 1e3;
      const row = last.data.length / last.shape[0];
      await fetch('/output', { method: 'POST', body: last.data.slice(0, used * row) });
    }
    const latency_ms = [];
    if (plan.latency) {
      const l = { batch: 1, warmup: 5, runs: 100, seconds: 1, ...plan.latency }, given = await feeds(0, fixed ?? l.batch);
      for (let i = 0; i < l.warmup; i++) await once(given);
      for (const began = performance.now(); latency_ms.length < l.runs && (latency_ms.length < 5 || performance.now() - began < l.seconds * 1e3);) {
        const from = performance.now();
        await once(given);
        latency_ms.push(performance.now() - from);
      }
    }
    if (plan.more) globalThis.earlier = session; // without a session the engine forgets its compiled pipelines
    else await session.release();
    if (plan.ep === 'wasm') try { // once more, to be told which nodes run where
      ort.env.logLevel = 'verbose';
      const told = await ort.InferenceSession.create(model.slice(0), { ...options, logSeverityLevel: 0, logVerbosityLevel: 0 });
      await told.release();
    } catch (problem) { notes.push(`nodes not counted: ${String(problem.message).slice(0, 100)}`); }
    return { type: last.type, shape: [...last.shape], load_ms, run_s, latency_ms, device, notes };
  } catch (problem) {
    return { failed: String(problem?.message ?? problem).slice(0, 800) };
  }
}
