"""A listener keeps its connection open when the client is done.

Like: https://github.com/sanic-org/sanic/issues/2474
"""

import asyncio
import socket


async def listen(reader, heard):
    while await reader.readline():
        heard.set()


async def main(server):
    reader, writer = await asyncio.open_connection(*server.getsockname())
    peer, _ = server.accept()
    heard = asyncio.Event()
    listening = asyncio.create_task(listen(reader, heard))  # leak: outlived_scope asyncio.task
    peer.sendall(b"hello\n")
    await heard.wait()
    print("heard", listening.done())
    return peer


with socket.create_server(("127.0.0.1", 0)) as server, asyncio.run(main(server)):
    print("end")
