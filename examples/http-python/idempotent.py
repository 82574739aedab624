"""A route that runs once for each Idempotency-Key:

    @app.post('/payments')
    @idempotent(connect)
    def pay(db):
        ...
        return {'status': 201, 'headers': {...}, 'body': '...'}

The function does its work through `db`, in the transaction that holds the key: key, work and answer commit together or not at
all. An answer is recorded whatever its status; an exception undoes everything and leaves the key free.
"""
import functools
import json

import psycopg
from flask import Response, request

FAILED = (500, 'It failed, and nothing was done', {})
BUSY = (503, 'Try again with the same key', {'Retry-After': '1'})
PROBLEMS = {
    'ID409': (409, 'The first request with this key is still at work', {'Retry-After': '1'}),
    'ID410': (410, 'The key is too old: whether it was done is no longer known', {}),
    'ID422': (422, 'The key was used for another request', {}),
    '22023': (400, 'The key has not the form that this route wants', {}),
}


def problem(status, title, headers):
    return Response(json.dumps({'status': status, 'title': title}), status, headers, content_type='application/problem+json')


def idempotent(connect):
    def wrap(handler):
        @functools.wraps(handler)
        def route():
            source = f'{request.method} {request.url_rule}'
            key = request.headers.get('Idempotency-Key')
            if not key:
                return problem(400, 'Idempotency-Key is required', {})
            # the customer is part of what is compared: somebody else's key is answered with 422, not with their answer
            asked = json.dumps({'customer': request.headers.get('Authorization'), 'url': request.full_path,
                                'body': request.get_json(silent=True)})
            claiming = True
            try:
                with connect() as db:  # commits at the end; rolls back if there was an exception
                    claimed, = db.execute('SELECT idem_claim(%s, %s, %s::jsonb, wait => false)', (source, key, asked)).fetchone()
                    claiming = False
                    if claimed:
                        answer = handler(db)
                        db.execute('SELECT idem_respond(%s, %s, %s::json)', (source, key, json.dumps(answer)))
                    else:
                        answer, = db.execute('SELECT idem_response(%s, %s)', (source, key)).fetchone()
            except psycopg.Error as error:
                if error.sqlstate is None or error.sqlstate[:2] in ('08', '40', '57'):
                    return problem(*BUSY)  # committed or not, the same key will tell
                return problem(*(PROBLEMS.get(error.sqlstate, FAILED) if claiming else FAILED))
            if answer is None:
                return problem(410, 'The key was cancelled', {})
            return Response(answer['body'], answer['status'], {**answer['headers'], 'Idempotent-Replayed': str(not claimed).lower()})
        return route
    return wrap
