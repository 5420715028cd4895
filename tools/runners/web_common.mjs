// web_common.mjs - what the runners of the web share: refusals, arrays in .npy files, facts about files and this machine.
import crypto from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';

export class Refused extends Error { // kind: unsupported, missing, error, memory
  constructor(kind, message) { super(message); this.kind = kind; }
}

const UNSUPPORTED = /not support|unsupported|not implemented|unimplemented|cannot resolve operator|could not find an implementation|unrecognized|no op registered|no available backend|unknown op/i;

export function refusalOf(problem) {
  if (problem instanceof Refused) return problem;
  const text = String(problem?.message ?? problem).replace(/\x1b\[[0-9;]*m/g, '').replace(/\s+/g, ' ').slice(0, 600);
  if (/out of memory|allocation failed|bad_alloc/i.test(text)) return new Refused('memory', text);
  return new Refused(UNSUPPORTED.test(text) ? 'unsupported' : 'error', text);
}

export const TYPES = {
  '<f4': { name: 'float32', size: 4, array: Float32Array },
  '|u1': { name: 'uint8', size: 1, array: Uint8Array },
  '|i1': { name: 'int8', size: 1, array: Int8Array },
  '<i8': { name: 'int64', size: 8, array: BigInt64Array },
  '<i4': { name: 'int32', size: 4, array: Int32Array },
};

// A .npy file of version 1 to 3, C order, little endian: {type, shape, at, fd, rowBytes}; rows are read when asked for.
export function openNpy(file, rows) {
  const fd = fs.openSync(file, 'r');
  const head = Buffer.alloc(12);
  fs.readSync(fd, head, 0, 12, 0);
  if (head.toString('latin1', 0, 6) !== '\x93NUMPY') throw new Refused('error', `${file}: not a .npy file`);
  const wide = head[6] > 1;
  const length = wide ? head.readUInt32LE(8) : head.readUInt16LE(8);
  const text = Buffer.alloc(length);
  fs.readSync(fd, text, 0, length, wide ? 12 : 10);
  const header = text.toString('latin1');
  const type = TYPES[/'descr': *'([^']*)'/.exec(header)?.[1]];
  const shape = /'shape': *\(([^)]*)\)/.exec(header)?.[1].split(',').map((s) => s.trim()).filter(Boolean).map(Number);
  if (!type || !shape?.length || !/'fortran_order': *False/.test(header)) throw new Refused('error', `${file}: an array of a kind that is not read here`);
  if (shape[0] < rows) throw new Refused('error', `${file}: ${shape[0]} rows, ${rows} are asked for`);
  return { fd, type, shape, at: (wide ? 12 : 10) + length, rowBytes: shape.slice(1).reduce((a, b) => a * b, 1) * type.size };
}

// Rows begin .. begin + count as bytes; the row `last` again where there are no more.
export function readRows(npy, begin, count, last) {
  const to = Buffer.alloc(count * npy.rowBytes);
  for (let i = 0; i < count; i++) {
    const row = Math.min(begin + i, last);
    fs.readSync(npy.fd, to, i * npy.rowBytes, npy.rowBytes, npy.at + row * npy.rowBytes);
  }
  return to;
}

export function writeNpy(file, type, shape, bytes) {
  const descr = Object.keys(TYPES).find((key) => TYPES[key].name === type);
  let header = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape.join(', ')}${shape.length === 1 ? ',' : ''}), }`;
  header += ' '.repeat(63 - ((10 + header.length) % 64)) + '\n';
  const head = Buffer.alloc(10);
  head.write('\x93NUMPY\x01\x00', 'latin1');
  head.writeUInt16LE(header.length, 8);
  fs.writeFileSync(file, Buffer.concat([head, Buffer.from(header, 'latin1'), bytes]));
}

export function fileHash(...files) {
  const hash = crypto.createHash('sha256');
  for (const file of files) hash.update(fs.readFileSync(file));
  return hash.digest('hex').slice(0, 16);
}

export function cpuName() {
  return os.cpus()[0]?.model.trim() || os.arch();
}

// Largest resident set of a process, MiB; null where the system does not say.
export function peakMb(pid = 'self') {
  try {
    return Number(/VmHWM:\s*(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'latin1'))[1]) / 1024;
  } catch {
    return null;
  }
}
