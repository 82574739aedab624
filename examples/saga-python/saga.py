"""The order service. An order goes on from where it stands, whoever drives it, also two at once, and after any crash.

`call` reaches a service over the network: it answers, or raises TimeoutError, and then nobody knows.
"""
import psycopg

TRIES = 3


def drive(db, call, order):
    """Drives the order until it is done or cancelled; returns which. After a TimeoutError drive it again."""
    while True:
        customer, quantity, price, status = db.execute(
            'SELECT customer, quantity, price, status FROM orders WHERE id = %s', (order,)).fetchone()
        if status == 'created':
            go = insist(call, 'stock', 'reserve', order, quantity)
            advance(db, order, 'reserved' if go else 'cancelling')
        elif status == 'reserved':
            go = insist(call, 'payment', 'charge', order, customer, price)
            advance(db, order, 'paid' if go else 'cancelling')
        elif status == 'paid':
            call('stock', 'confirm', order)
            advance(db, order, 'done')
        elif status == 'cancelling':
            call('stock', 'release', order)
            call('payment', 'refund', order, customer, price)
            advance(db, order, 'cancelled')
        else:
            return status


def insist(call, *what):
    """Tries a few times. No answer is a no: what may have been done all the same is undone later."""
    for _ in range(TRIES):
        try:
            return call(*what)
        except TimeoutError:
            pass
    return False


def advance(db, order, status):
    """Goes one step, unless another driver has decided otherwise: then that is what holds."""
    try:
        db.execute("SELECT idem_advance('saga', 'orders', 'status', %s, VARIADIC ARRAY[%s])", (status, order))
    except psycopg.Error as error:
        if error.sqlstate != 'ID460':
            raise
