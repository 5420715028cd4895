"""A child that answers lines with lines of JSON, and what the kernel says of its memory."""
import json
import os
import select
import subprocess
import time


class Gone(Exception):
    """It ended, was too slow or answered nonsense; the text is its last message."""


class Process:
    def __init__(self, words, env, cwd, log):
        self.log = open(log, "w+")
        self.began = time.monotonic()
        self.child = subprocess.Popen(words, cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        self.pending = b""

    def last_words(self):
        self.log.seek(0)
        return (self.log.read().strip().splitlines() or ["it ended without a message"])[-1]

    def answer(self, timeout):
        end, fd = time.monotonic() + timeout, self.child.stdout.fileno()
        while b"\n" not in self.pending:
            if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
                raise Gone(f"no answer within {timeout:.0f} s")
            got = os.read(fd, 1 << 16)
            if not got:
                raise Gone(self.last_words())
            self.pending += got
        line, self.pending = self.pending.split(b"\n", 1)
        try:
            return json.loads(line)
        except ValueError:
            raise Gone(f"answered {line[:80]!r}") from None

    def ask(self, line, timeout=300):
        try:
            self.child.stdin.write(f"{line}\n".encode())
            self.child.stdin.flush()
        except OSError:
            raise Gone(self.last_words()) from None
        return self.answer(timeout)

    def age(self):
        return time.monotonic() - self.began

    def peak_mb(self):
        """Largest resident size so far, MB of 10^6 bytes."""
        with open(f"/proc/{self.child.pid}/status") as f:
            return next(int(row.split()[1]) * 1024 / 1e6 for row in f if row.startswith("VmHWM"))

    def close(self):
        try:
            self.child.stdin.close()
        except OSError:
            pass
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child.stdout.close()
        self.log.close()
