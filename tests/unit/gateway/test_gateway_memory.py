"""What is loaded at the start is not looked through again."""

import gc
import os
import subprocess
import sys

from gateway import memory


def test_what_is_loaded_stays_and_what_comes_later_is_still_collected() -> None:
    code = """
import gc, weakref
from gateway import memory
class Node: pass
memory.settle()
later = Node(); later.me = later; gone = weakref.ref(later)
del later
gc.collect()
print(gc.get_freeze_count() > 1000, gone() is None, gc.get_threshold()[0])
"""
    there = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=there, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", str(memory.YOUNG)]
    assert gc.get_freeze_count() == 0, "this process has not settled"
