"""What a person sees while the stack works: one line for each fact, with the seconds since the start."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Timed lines on standard output; safe to use from several threads."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._begun = time.monotonic()
        self._quiet = quiet
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Print one line with the seconds since this object was made."""
        if self._quiet:
            return
        with self._lock:
            sys.stdout.write(f"{time.monotonic() - self._begun:7.1f} s  {text}\n")
            sys.stdout.flush()

    @contextmanager
    def step(self, text: str, *, every: float = 15.0, announce: bool = False) -> Iterator[None]:
        """Say when the work inside is done, and every so many seconds that it still goes on."""
        begun = time.monotonic()
        if announce:
            self.say(f"{text} …")
        done = threading.Event()

        def tick() -> None:
            while not done.wait(every):
                self.say(f"{text} … {time.monotonic() - begun:.0f} s so far")

        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        try:
            yield
        finally:
            done.set()
            ticker.join()
        self.say(f"{text}: done in {time.monotonic() - begun:.1f} s")
