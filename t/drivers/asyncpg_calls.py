# asyncpg: the server infers the types, and each parameter must have the Python type of its own; the SQLSTATE is sqlstate
import asyncio
import asyncpg

import value

loop = asyncio.new_event_loop()
conn = loop.run_until_complete(asyncpg.connect())


async def ask(mode, sql, params):
    if mode == "block":
        async with conn.transaction():
            return await conn.fetch(sql, *params)
    return await conn.fetch(sql, *params)


def call(mode, sql, params):
    return [tuple(row) for row in loop.run_until_complete(ask(mode, sql, params))]


value.serve("asyncpg " + asyncpg.__version__, value.native, call, lambda e: getattr(e, "sqlstate", None))
