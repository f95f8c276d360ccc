"""Fuzz one target with atheris: ``python -m tests.fuzz url -max_total_time=300``.

The target's seeds, and what was found interesting since, are in ``.fuzz/NAME``. An input that breaks the invariant, or
takes the processor longer than ``TIMEOUT`` seconds, is left as ``.fuzz/NAME-last``. No name: lists the targets.
"""

from __future__ import annotations

import faulthandler
import hashlib
import importlib
import signal
import sys
import traceback
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = Path(".fuzz")
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))
TIMEOUT = 20
INSTRUMENTED = ["trio_ws", "h11", "h2", "hpack", "hyperframe"]


def main() -> None:
    """Hand over to atheris, which does not return."""
    if len(sys.argv) < 2:
        print("\n".join(TARGETS))
        return
    import atheris  # type: ignore[import-untyped]

    name = sys.argv[1]
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = importlib.import_module(f"tests.fuzz.fuzz_{name}")
    corpus = FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.SEEDS:
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    last = FOLDER / f"{name}-last"

    def test_one_input(data: bytes) -> None:
        last.write_bytes(data)
        signal.setitimer(signal.ITIMER_VIRTUAL, TIMEOUT)
        try:
            target.TestOneInput(data)
        except BaseException:
            traceback.print_exc()  # with all that is in a group
            raise
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    # libFuzzer's own time-out goes by the clock on the wall, which a busy machine makes too short. This one counts the
    # time of the processor, tells where, and then does what the signal does by itself.
    faulthandler.register(signal.SIGVTALRM, chain=True)
    options = ["-max_len=4096", "-timeout=600", "-rss_limit_mb=1024", f"-artifact_prefix={FOLDER}/{name}-"]
    atheris.Setup([sys.argv[0], str(corpus), *options, *sys.argv[2:]], test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
