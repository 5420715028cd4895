// web_onnx.mjs - gives an ONNX file a fixed batch: the WebGL backend takes no symbolic dimension.
import { Refused } from './web_common.mjs';

// Fields of a protobuf message: {number, wire, from, to, body} with bytes [from, to) and, for wire type 2, the body within.
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0n, shift = 0n;
    for (;;) {
      if (at >= bytes.length || shift > 63n) throw new Refused('error', 'the model is no ONNX file');
      const b = bytes[at++];
      value |= BigInt(b & 127) << shift;
      if (b < 128) return value;
      shift += 7n;
    }
  };
  while (at < bytes.length) {
    const from = at, tag = Number(varint()), wire = tag & 7;
    let body = null;
    if (wire === 0) varint();
    else if (wire === 1) at += 8;
    else if (wire === 5) at += 4;
    else if (wire === 2) {
      const length = Number(varint());
      body = bytes.subarray(at, at + length);
      at += length;
    } else throw new Refused('error', 'the model is no ONNX file');
    if (at > bytes.length) throw new Refused('error', 'the model is no ONNX file');
    yield { number: tag >> 3, wire, raw: bytes.subarray(from, at), body };
  }
}

function encoded(value) {
  const out = [];
  for (let v = value; ; v = Math.floor(v / 128)) {
    if (v < 128) return Buffer.from([...out, v]);
    out.push((v % 128) | 128);
  }
}

const message = (number, body) => Buffer.concat([encoded(number * 8 + 2), encoded(body.length), body]);

// Rebuilds a message with its sub-messages `number` changed; change(body, index) gives the new body.
function rebuilt(bytes, numbers, change) {
  let index = 0;
  return Buffer.concat([...fields(bytes)].map((f) => (f.body && numbers.includes(f.number) ? message(f.number, change(f.body, index++)) : f.raw)));
}

export function withBatch(model, batch) {
  const dim = (body) => ([...fields(body)].some((f) => f.number === 1) ? body : Buffer.concat([Buffer.from([8]), encoded(batch)])); // dim_value
  const shape = (body) => rebuilt(body, [1], (d, i) => (i === 0 ? dim(d) : d)); // TensorShapeProto.dim
  const tensor = (body) => rebuilt(body, [2], shape); // TypeProto.Tensor.shape
  const value = (body) => rebuilt(body, [2], (type) => rebuilt(type, [1], tensor)); // ValueInfoProto.type, TypeProto.tensor_type
  return rebuilt(model, [7], (graph) => rebuilt(graph, [11, 12], value)); // ModelProto.graph, its inputs and outputs
}
