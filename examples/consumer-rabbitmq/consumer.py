"""Consumes messages of RabbitMQ in batches, each message once: python3 consumer.py

A batch is one transaction: the keys, the work and what is set aside commit together, and then the batch is acknowledged. If the consumer
dies in between, the messages come again and their keys are known. PGHOST, … say where the database is, AMQP where the broker is.
"""
import hashlib
import json
import os

import pika
import psycopg

QUEUE = 'orders'
PREFETCH = 20
POISON = (psycopg.DataError, psycopg.IntegrityError, ValueError, KeyError, TypeError)


def handle(db, message, body):
    """The work of one message."""
    order = json.loads(body)
    db.execute('INSERT INTO entry VALUES (%s, %s, %s)', (message, order['account'], order['amount']))
    db.execute('UPDATE account SET balance = balance + %s WHERE name = %s', (order['amount'], order['account']))


def usable(message):
    return bool(message) and '\0' not in message


def set_aside(db, message, body, why):
    db.execute('INSERT INTO set_aside VALUES (%s, %s, %s) ON CONFLICT DO NOTHING', (message, body, why))


def work(db, batch):
    """Works on a batch of (message id, body); one that cannot be worked on is set aside and does not stop the others."""
    with db.transaction():
        for message, body in batch:
            if not usable(message):
                set_aside(db, f'without id: {hashlib.sha256(body).hexdigest()}', body, 'it has no message id')
        batch = [(message, body) for message, body in batch if usable(message)]
        keys = [message for message, _ in batch]
        claims = db.execute('SELECT claimed, status FROM idem_claim_batch(%s, %s::text[])', (QUEUE, keys)).fetchall()
        for (message, body), (claimed, status) in zip(batch, claims):
            if claimed:
                try:
                    with db.transaction():  # a savepoint: the key stays claimed, the work is undone
                        handle(db, message, body)
                except POISON as error:
                    set_aside(db, message, body, str(error))
            elif status in ('invalid', 'gone'):
                set_aside(db, message, body, f'the key is {status}')


def consume(work):
    """Takes what is there, up to PREFETCH messages, works on it, and acknowledges it."""
    db = psycopg.connect('', autocommit=True)  # work() opens the transactions
    channel = pika.BlockingConnection(pika.URLParameters(os.environ['AMQP'])).channel()
    channel.queue_declare(QUEUE, durable=True)
    channel.basic_qos(prefetch_count=PREFETCH)
    print('listening 0', flush=True)
    batch = []
    for method, properties, body in channel.consume(QUEUE, inactivity_timeout=0.1):
        if method is not None:
            batch.append((properties.message_id, body))
            last = method.delivery_tag
        if batch and (method is None or len(batch) == PREFETCH):
            work(db, batch)
            channel.basic_ack(last, multiple=True)
            batch = []


if __name__ == '__main__':
    consume(work)
