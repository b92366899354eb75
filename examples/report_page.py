"""A program with something of everything in its report; `make browser` opens it."""

import asyncio
import multiprocessing
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor


async def embed(text: str) -> None:
    """Stand for a request that never comes back."""
    await asyncio.sleep(3600)


async def main() -> None:
    """Start more and more, and forget it."""
    kept, pools, memory = [], [], []
    for batch in range(24):
        kept += [asyncio.create_task(embed("x")) for _ in range(batch % 5)]
        if batch % 3 == 0:
            pools.append(ThreadPoolExecutor(1))
        if batch < 12:
            memory.append(b"x" * 4_000_000)
        else:
            memory.pop()
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    for number in range(2):
        context.Process(target=time.sleep, args=(6,), name=f"embed-{number}").start()
    server = subprocess.Popen(["sleep", "12"])
    threading.Thread(target=time.sleep, args=(1,)).start()
    asyncio.run(main())
