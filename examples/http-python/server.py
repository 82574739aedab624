"""The service of http-node, in Python: Flask and psycopg 3. PGHOST, PGPORT, … say where the database is, PORT where to listen."""
import json
import os

import psycopg
from flask import Flask, request
from werkzeug.serving import make_server

from idempotent import idempotent

app = Flask(__name__)


def connect():
    return psycopg.connect('')  # a service with many clients takes it from psycopg_pool


@app.post('/payments')
@idempotent(connect)
def pay(db):
    body = request.get_json()
    headers = {'Content-Type': 'application/json; charset=utf-8'}
    enough, = db.execute("SELECT idem_deduct('account', 'balance', %s::integer, VARIADIC ARRAY[%s])",
                         (body['amount'], body['account'])).fetchone()
    if not enough:
        return {'status': 402, 'headers': headers, 'body': json.dumps({'error': 'not enough'})}
    number, paid_at = db.execute('INSERT INTO payment (account, amount, note) VALUES (%s, %s, %s) RETURNING id, paid_at',
                                 (body['account'], body['amount'], body.get('note'))).fetchone()
    return {'status': 201, 'headers': {**headers, 'Location': f'/payments/{number}'},
            'body': json.dumps({'id': number, 'paid_at': paid_at.isoformat(), 'note': body.get('note')}) + '\n'}


if __name__ == '__main__':
    server = make_server('127.0.0.1', int(os.environ.get('PORT', 0)), app, threaded=True)
    print(f'listening {server.port}', flush=True)
    server.serve_forever()
