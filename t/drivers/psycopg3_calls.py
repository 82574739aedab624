# psycopg 3: str is untyped, int is typed; the SQLSTATE is sqlstate
import json

import psycopg
from psycopg.types.json import Json, Jsonb

import value

conn = psycopg.connect("")


def native(kind, text):
    if kind == "request":
        return Jsonb(json.loads(text))
    if kind == "answer":
        return Json(json.loads(text))
    return value.native(kind, text)


def call(mode, sql, params):
    conn.autocommit = mode != "block"
    try:
        cur = conn.execute(value.percent(sql), params)
        return cur.fetchall() if cur.description else []
    finally:
        conn.rollback()


value.serve("psycopg " + psycopg.__version__, native, call, lambda e: getattr(e, "sqlstate", None))
