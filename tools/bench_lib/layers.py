"""Single convolutions beside oneDNN."""
import sys


def run(s, say):
    sys.exit("bench: --layers is not in yet")
