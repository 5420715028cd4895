"""What this machine is: processor, instruction sets, versions, and how many multiplications it really does."""
import glob
import os
import platform
import shutil
import subprocess

ISA = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "asimd", "sve")


def cpuinfo(key):
    try:
        with open("/proc/cpuinfo") as f:
            return next((row.split(":", 1)[1].strip() for row in f if row.split(":")[0].strip() == key), "")
    except OSError:
        return ""


def mimalloc():
    """Path of the library to preload, or None."""
    found = sorted(glob.glob("/usr/lib/*/libmimalloc.so.2*") + glob.glob("/usr/local/lib/libmimalloc.so.2*"))
    return found[0] if found else None


def version_of(words):
    try:
        return subprocess.run(words, capture_output=True, text=True).stdout.strip().splitlines()[0]
    except (OSError, IndexError):
        return "unknown"


def describe(distill):
    flags = (cpuinfo("flags") or cpuinfo("Features")).split()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"cpu": cpuinfo("model name") or platform.machine(), "isa": [f for f in ISA if f in flags],
            "cores": len(os.sched_getaffinity(0)), "memory_gb": round(memory / 1e9, 1), "system": platform.platform(),
            "distill": version_of([distill, "--version"]), "mimalloc": mimalloc(), "load_before": os.getloadavg()[0]}


def build_peak(folder, isa=None):
    """The program that measures multiplications (`isa` avx2: without AVX-512), or None without a compiler."""
    how = ["-mavx2", "-mfma"] if isa else ["-march=native"]
    compiler, program = shutil.which("cc"), os.path.join(folder, "peak")
    source = os.path.join(os.path.dirname(__file__), "peak.c")
    if not compiler:
        return None
    done = subprocess.run([compiler, "-O3", *how, "-o", program, source], stderr=subprocess.DEVNULL)
    return program if done.returncode == 0 else None


def peak(program):
    """GF/s of one core's float32 multiply-adds; None when it cannot be measured."""
    return float(subprocess.run([program], capture_output=True, text=True).stdout) if program else None
