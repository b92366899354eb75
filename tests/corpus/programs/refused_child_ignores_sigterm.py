"""A worker ignores SIGTERM, so it has to be killed.

Like: https://github.com/NVIDIA/nvidia-resiliency-ext/pull/270
Options: --grace 0.5
Signal: SIGTERM after ready
"""

import multiprocessing
import signal
import time


def work(started):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    started.set()
    while True:
        time.sleep(0.1)


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    started = context.Event()
    process = context.Process(target=work, args=(started,))
    process.start()  # leak: refused_cleanup process
    started.wait()
    print("ready", flush=True)
    while True:
        time.sleep(0.1)
