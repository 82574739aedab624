# psycopg2: parameters are put into the statement by the client; the SQLSTATE is pgcode
import json

import psycopg2
import psycopg2.extras

import value

psycopg2.extras.register_uuid()
conn = psycopg2.connect("")


def native(kind, text):
    if kind in ("request", "answer"):
        return psycopg2.extras.Json(json.loads(text))
    return value.native(kind, text)


def call(mode, sql, params):
    conn.autocommit = mode != "block"
    try:
        with conn.cursor() as cur:
            cur.execute(value.percent(sql), params)
            return cur.fetchall() if cur.description else []
    finally:
        conn.rollback()


value.serve("psycopg2 " + psycopg2.__version__.split()[0], native, call, lambda e: getattr(e, "pgcode", None))
