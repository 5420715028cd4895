"""Our side: `distill bench --serve` in the folder of a workload."""
import os

from bench_lib.process import Process


def environment():
    return {k: v for k, v in os.environ.items() if not k.startswith("DISTILL_")}


def serve(distill, folder, threads, log, *settings, job="job.ini"):
    """`settings`: SECTION.KEY=VALUE words on top of the job."""
    words = [distill, "bench", "--serve", "--quiet", "--student", job, "--threads", str(threads)]
    for each in settings:
        words += ["--set", each]
    return Process(words, environment(), folder, log)
