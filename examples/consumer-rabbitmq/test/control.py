"""The control: look which messages of the batch are booked, book the others, and acknowledge the batch after the commit."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..'))
import consumer  # noqa: E402


def work(db, batch):
    with db.transaction():
        keys = [message for message, _ in batch]
        booked = {message for message, in db.execute('SELECT message FROM entry WHERE message = ANY(%s)', (keys,))}
        for message, body in batch:
            if message not in booked:
                booked.add(message)
                try:
                    with db.transaction():
                        consumer.handle(db, message, body)
                except consumer.POISON as error:
                    consumer.set_aside(db, message, body, str(error))


consumer.consume(work)
