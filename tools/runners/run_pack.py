#!/usr/bin/env python3
"""run_pack.py - runs a packed deployment matrix on the machine that it was copied to (`distill matrix pack` writes it there as run.py).

Python's standard library alone. Every file is held against manifest.json first. Then every row's runner (the protocol of protocol.py)
gets every model in a form that it reads, each in a fresh process with a time limit. What comes back goes into one file, result.json,
for `distill matrix merge RUN_DIR result.json` at home, which judges it: nothing here is a verdict but the last column of the table.

The file begins with its signature: HMAC-SHA-256 over the file with the signature as zeros, by the manifest's key. It shows damage,
edits afterwards and results of another pack. It does not protect against whoever has this folder, since the key lies in it.
"""
import argparse
import array
import ast
import base64
import hashlib
import hmac
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
FORMAT, SCHEMA, PROTOCOL = "distill matrix result", 1, 1
OUTPUT_LIMIT = 1 << 28  # bytes of one output
LOG_LIMIT = 20000       # characters of a runner's log that go home


def die(message):
    print("error: " + message, file=sys.stderr)
    sys.exit(65)


def inside(path):
    """The path of a file of the pack; anything that leaves the folder is refused."""
    full = os.path.normpath(os.path.join(HERE, *path.split("/")))
    if os.path.isabs(path) or "\\" in path or not full.startswith(HERE + os.sep):
        die(f"manifest.json: '{path}' lies outside of this folder")
    return full


def file_hash(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def read_manifest():
    try:
        with open(os.path.join(HERE, "manifest.json"), "rb") as f:
            data = f.read()
        manifest = json.loads(data)
    except (OSError, ValueError) as problem:
        die(f"manifest.json: {problem}")
    if manifest.get("format") != "distill matrix pack" or manifest.get("schema") != SCHEMA or manifest.get("protocol") != PROTOCOL:
        die("manifest.json is of another version than run.py; unpack the archive again")
    for entry in manifest["files"]:
        path = inside(entry["path"])
        if not os.path.isfile(path) or os.path.getsize(path) != entry["bytes"] or file_hash(path) != entry["sha256"]:
            die(f"{entry['path']} is not the file that was packed; unpack the archive again")
    return manifest, hashlib.sha256(data).hexdigest()


# ---- the machine ----


def cpu_name():
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
            for line in f:
                if line.startswith(("model name", "Model name", "Hardware")):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    if sys.platform == "darwin":
        try:
            return subprocess.run(["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True).stdout.strip()
        except OSError:
            pass
    return os.environ.get("PROCESSOR_IDENTIFIER") or platform.processor() or platform.machine() or "unknown processor"


def memory_bytes():
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0


def describe_host(name):
    return {"name": name or platform.node() or "unknown", "system": f"{platform.system()} {platform.release()}".strip(),
            "machine": platform.machine(), "cpu": cpu_name(), "cores": os.cpu_count() or 0, "memory": memory_bytes(),
            "python": platform.python_version()}


# ---- one question to one runner ----


def command_of(row):
    found = []
    for word in row["command"]:
        if word == "{python}":
            found.append(sys.executable or os.path.realpath("/proc/self/exe"))
        elif word == "{node}":
            found.append(shutil.which("node") or "node")
        elif word.startswith("{pack}/"):
            found.append(inside(word[len("{pack}/"):]))
        else:
            found.append(word)
    return found


def ask(row, request, seconds):
    """-> the runner's answer, or what stands for it; its log"""
    if not row["command"]:
        return {"ok": False, "kind": "missing", "message": "no runner for it in this pack; --collect takes outputs of other programs"}, ""
    env = dict(os.environ, **row.get("env", {}))
    env.setdefault("OMP_WAIT_POLICY", "passive")
    with tempfile.TemporaryFile() as log:
        try:
            child = subprocess.run(command_of(row), input=(json.dumps(request) + "\n").encode(), stdout=subprocess.PIPE, stderr=log, env=env,
                                   timeout=seconds, cwd=HERE)
        except OSError as problem:
            return {"ok": False, "kind": "missing", "message": f"{problem}; {row.get('how') or ''}"}, ""
        except subprocess.TimeoutExpired:
            return {"ok": False, "kind": "timeout", "message": f"no answer in {seconds:g} s"}, tail(log)
        text = tail(log)
    try:
        answer = json.loads(child.stdout)
        if not isinstance(answer, dict) or answer.get("protocol") != PROTOCOL or not isinstance(answer.get("ok"), bool):
            raise ValueError
    except ValueError:
        said = f"ended with {child.returncode}" if child.returncode else "answered with something else than the protocol"
        return {"ok": False, "kind": "crash", "message": said}, text
    return answer, text


def tail(log):
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - LOG_LIMIT))
    return log.read().decode("utf-8", "replace").replace("\0", "?")


# ---- outputs ----

NPY_TYPES = {"<f4": ("float32", "f"), "|i1": ("int8", "b"), "|u1": ("uint8", "B")}


def read_npy(path):
    """-> type, shape, the elements' bytes. Little endian, C order."""
    with open(path, "rb") as f:
        head = f.read(10)
        if head[:6] != b"\x93NUMPY" or head[6] not in (1, 2):
            raise ValueError("no npy file")
        size = int.from_bytes(head[8:10], "little") if head[6] == 1 else int.from_bytes(head[8:10] + f.read(2), "little")
        facts = ast.literal_eval(f.read(size).decode("latin1"))
        if facts["fortran_order"] or facts["descr"] not in NPY_TYPES:
            raise ValueError(f"outputs of type {facts['descr']}")
        data = f.read(OUTPUT_LIMIT + 1)
    if len(data) > OUTPUT_LIMIT:
        raise ValueError("an output of more than 256 MiB")
    return NPY_TYPES[facts["descr"]][0], list(facts["shape"]), data


def largest_difference(found, expected):
    (kind, shape, data), (kind2, shape2, data2) = found, expected
    if kind != kind2 or shape != shape2:
        return None
    codes = {name: code for name, code in NPY_TYPES.values()}
    a, b = array.array(codes[kind], data), array.array(codes[kind], data2)
    if sys.byteorder == "big":
        a.byteswap(), b.byteswap()
    return max((abs(x - y) if x == x else float("inf") for x, y in zip(a, b)), default=0)


# ---- cells ----


def run_cell(manifest, row, column, files, options, work):
    form = next((f for f in row["forms"] if f in files), None)
    cell = {"runtime": row["runtime"], "variant": column["variant"]}
    if not form:
        cell["answer"] = {"ok": False, "kind": "unsupported", "message": f"no file in a form that it reads ({', '.join(row['forms'])})"}
        return cell, "unsupported"
    model, source, output = inside(files[form]), inside(column["input"]["path"]), os.path.join(work, "y.npy")
    if os.path.exists(output):
        os.remove(output)
    samples = min(column["samples"], row.get("samples") or column["samples"])
    request = {"protocol": PROTOCOL, "model": model, "inputs": [{"name": column["input"]["name"], "file": source}], "output": output,
               "output_name": column.get("output_name"), "samples": samples, "batch": manifest.get("batch", 64), "threads": options.threads,
               "options": row.get("options", {}), "latency": manifest.get("latency")}
    began = time.time()
    answer, log = ask(row, request, options.seconds or row.get("seconds", 300))
    cell.update(form=form, model_sha256=file_hash(model), input_sha256=file_hash(source), samples=samples,
                seconds=round(time.time() - began, 3), when=int(began), answer=answer, log=log)
    if not answer["ok"]:
        return cell, f"{answer.get('kind')}: {answer.get('message')}"
    try:
        found = read_npy(output)
        expected = read_npy(inside(column["expected"]["path"]))
    except (OSError, ValueError, KeyError, SyntaxError) as problem:
        cell["answer"] = {"ok": False, "kind": "crash", "message": f"no output that can be read: {problem}"}
        return cell, "crash"
    cell["output"] = {"type": found[0], "shape": found[1], "sha256": hashlib.sha256(found[2]).hexdigest(),
                      "data": base64.b64encode(found[2]).decode("ascii")}
    if form == "tflite" and len(expected[1]) == 4:
        return cell, "ran; images lie as [N, H, W, C] there, home compares them"
    width = len(expected[2]) // max(1, expected[1][0]) if expected[1] else 0
    most = largest_difference(found, (expected[0], [samples] + expected[1][1:], expected[2][: samples * width]))
    return cell, "outputs of another type or shape" if most is None else f"ran; largest difference from home's outputs {most:g}"


def collect_cell(manifest, row, column, files, options, work):
    """As run_cell, of outputs that something else has made: DIR/RUNTIME/VARIANT.npy, and VARIANT.json with fields of a runner's answer."""
    stem = os.path.join(options.collect, row["runtime"], column["variant"])
    if not os.path.isfile(stem + ".npy"):
        return None, "no outputs"
    facts = {}
    if os.path.isfile(stem + ".json"):
        with open(stem + ".json", encoding="utf-8") as f:
            facts = json.load(f)
    form = facts.pop("form", next((f for f in row["forms"] if f in files), None))
    if form not in files:
        die(f"{stem}.json: '{form}' is no form of this variant")
    found = read_npy(stem + ".npy")
    answer = {"protocol": PROTOCOL, "ok": True, "runtime": row.get("title") or row["runtime"], "version": None, "build": None, "device": cpu_name(),
              "isa": None, "type": found[0], "shape": found[1], "providers": [], "load_ms": None, "run_s": None, "latency_ms": [],
              "peak_mb": None, "notes": ["outputs collected from files"], **facts}
    return {"runtime": row["runtime"], "variant": column["variant"], "form": form, "model_sha256": file_hash(inside(files[form])),
            "input_sha256": file_hash(inside(column["input"]["path"])), "samples": found[1][0] if found[1] else 0, "seconds": 0,
            "when": int(os.path.getmtime(stem + ".npy")), "answer": answer, "log": "",
            "output": {"type": found[0], "shape": found[1], "sha256": hashlib.sha256(found[2]).hexdigest(),
                       "data": base64.b64encode(found[2]).decode("ascii")}}, "collected"


def write_result(path, key, body):
    """The signature stands first, as zeros while it is computed."""
    text = json.dumps(body, allow_nan=False)
    zeros = '{"signature": "' + "0" * 64 + '", ' + text[1:] + "\n"
    signature = hmac.new(bytes.fromhex(key), zeros.encode(), hashlib.sha256).hexdigest()
    temporary = path + ".part"
    with open(temporary, "w", encoding="ascii", newline="\n") as f:
        f.write(zeros.replace("0" * 64, signature, 1))
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)


def main():
    parser = argparse.ArgumentParser(description="Runs this packed matrix here and writes result.json.")
    parser.add_argument("--out", default=os.path.join(HERE, "result.json"), help="default: result.json beside run.py")
    parser.add_argument("--runtimes", help="only these rows, separated by commas")
    parser.add_argument("--variants", help="only these columns, separated by commas")
    parser.add_argument("--runtimes-dir", help="where tools/setup-runtimes put the runtimes; default: build/runtimes in this folder")
    parser.add_argument("--threads", type=int, help="threads of each runner; default: as at home")
    parser.add_argument("--seconds", type=float, help="time limit of a cell; default: each row's own")
    parser.add_argument("--name", help="this machine's name in the matrix; default: its host name")
    parser.add_argument("--collect", metavar="DIR", help="run nothing: take outputs from DIR/RUNTIME/VARIANT.npy (see README.txt)")
    parser.add_argument("--list", action="store_true", help="which rows are present here, and how to get the others")
    options = parser.parse_args()
    manifest, manifest_hash = read_manifest()
    options.threads = options.threads or manifest.get("threads", 1)
    if options.runtimes_dir:
        os.environ["DISTILL_RUNTIMES"] = os.path.abspath(options.runtimes_dir)
    else:
        os.environ.setdefault("DISTILL_RUNTIMES", os.path.join(HERE, "build", "runtimes"))
    wanted = lambda name, names: not names or name in names.split(",")
    rows = [r for r in manifest["rows"] if wanted(r["runtime"], options.runtimes)]
    columns = [c for c in manifest["columns"] if wanted(c["variant"], options.variants)]
    if not rows or not columns:
        die("nothing to run: no row or no column of that name")
    cells, began = [], int(time.time())
    with tempfile.TemporaryDirectory() as work:
        for row in rows:
            answer = {"ok": True} if options.collect else ask(row, {"protocol": PROTOCOL, "describe": True, "options": row.get("options", {})}, 120)[0]
            if options.list or not answer["ok"]:
                here = f"{answer.get('runtime')} {answer.get('version')}" if answer["ok"] else f"not here: {answer.get('message')}"
                print(f"{row['runtime']:18} {here}", flush=True)
            if options.list:
                continue
            for column in columns if answer["ok"] else []:
                make = collect_cell if options.collect else run_cell
                cell, said = make(manifest, row, column, {f["form"]: f["path"] for f in column["files"]}, options, work)
                if cell:
                    cells.append(cell)
                print(f"{row['runtime']:18} {column['variant']:22} {said}", flush=True)
    if options.list:
        return 0
    if not cells:
        die("no runtime of this pack is on this machine; `run.py --list` says how to get them")
    write_result(options.out, manifest["key"],
                 {"format": FORMAT, "schema": SCHEMA, "protocol": PROTOCOL, "pack": manifest["id"], "manifest_sha256": manifest_hash,
                  "version": manifest["version"], "target": manifest["target"], "host": describe_host(options.name), "began": began,
                  "ended": int(time.time()), "threads": options.threads, "cells": cells})
    print(f"{options.out}: {len(cells)} cells; at home: distill matrix merge RUN_DIR {os.path.basename(options.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
