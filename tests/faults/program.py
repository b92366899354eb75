"""Uses what is patched, each piece with something left over; prints what came out and ends with status 7."""

import asyncio
import gc
import multiprocessing
import sqlite3
import subprocess
import sys
import tempfile
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from multiprocessing.shared_memory import SharedMemory

kept = []


async def work(number):
    await asyncio.sleep(0)
    return number


async def fail():
    raise LookupError


class Session:
    def __init__(self):
        self.closed = asyncio.Event()
        asyncio.create_task(self.watch())

    async def watch(self):
        await self.closed.wait()


async def serve(reader, writer):
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()


async def main():
    tasks = [asyncio.create_task(work(number)) for number in range(3)]
    gc.collect()
    print(await asyncio.gather(*tasks), await asyncio.to_thread(str, 5))
    Session()
    await asyncio.sleep(0)
    gc.collect()
    failed = asyncio.create_task(fail())
    await asyncio.wait({failed})
    del failed
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"line\n")
    print(await reader.readline())
    writer.close()
    server.close()
    process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", "pass")
    print(await process.wait())
    kept.append(asyncio.create_task(asyncio.sleep(600)))


def child(number):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(print, "child", number, flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    context = multiprocessing.get_context("fork")
    sys.stdout.reconfigure(line_buffering=True)
    asyncio.run(main())
    with ThreadPoolExecutor(1) as pool:
        print(pool.submit(pow, 2, 3).result())
    thread = threading.Thread(target=print, args=["thread"])
    thread.start()
    thread.join()
    process = context.Process(target=child, args=(1,))
    process.start()
    process.join()
    print(process.exitcode)
    with ProcessPoolExecutor(1, mp_context=context) as processes:
        print(processes.submit(abs, -4).result())
    print(subprocess.run([sys.executable, "-S", "-c", "pass"], check=False).returncode)
    block = SharedMemory(create=True, size=64)
    block.close()
    block.unlink()
    numbers = ThreadPool(1)
    print(numbers.map(abs, [-1]))
    for _ in range(2):
        tempfile.TemporaryDirectory()
    with tempfile.NamedTemporaryFile() as file:
        print(file.write(b"xy"))
    database = sqlite3.connect(":memory:")
    database.execute("create table t (a)")
    print(database.execute("insert into t values (1)").rowcount)
    left = ThreadPoolExecutor(1)
    left.submit(int)
    sys.exit(7)
