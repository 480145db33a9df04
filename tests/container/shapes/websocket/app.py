"""A websocket that answers each message."""

from aiohttp import WSMsgType, web


async def socket(request: web.Request) -> web.WebSocketResponse:
    response = web.WebSocketResponse()
    await response.prepare(request)
    async for message in response:
        if message.type is WSMsgType.TEXT:
            await response.send_str(f"{message.data}, too")
    return response


application = web.Application()
application.router.add_get("/ws", socket)
