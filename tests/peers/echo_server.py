"""The server of client_checks by Python's websockets: /usr/bin/python3 echo_server.py. Says on which port; ends with its input."""
import asyncio
import sys

import websockets


async def parts(socket):
    yield "three "
    await socket.ping("between")
    yield "parts "
    yield "here"


async def answer(socket, message):
    if message == "fragments":
        await socket.send(parts(socket))
    elif message == "close":
        await socket.close(4002, "as you asked")
    elif message == "drop":
        socket.transport.abort()
    elif message == "protocol":
        await socket.send(socket.subprotocol or "none")
    else:
        await socket.send(message)


async def echo(socket, path=None):
    try:
        async for message in socket:
            await answer(socket, message)
    except websockets.ConnectionClosed:
        pass


async def main():
    async with websockets.serve(echo, "127.0.0.1", 0, subprotocols=["chat"], max_size=4 << 20, compression=None) as server:
        print(f"ws://localhost:{server.sockets[0].getsockname()[1]}/", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
