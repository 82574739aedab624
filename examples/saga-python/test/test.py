"""1,000 orders over a network that loses requests and answers, delivers twice and late, with drivers that crash between two steps,
connections to the databases that are cut before and after the commit, and orders that two drivers drive at once. At the end the money
and the stock of every order are where its status says, and the sums balance. In the control they are not."""
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, '..'), HERE, os.path.join(HERE, '..', '..', 'lib')]
import control  # noqa: E402
import saga  # noqa: E402
import services  # noqa: E402
from faults import PostgresProxy, report  # noqa: E402

ORDERS = 1000
MONEY, TEA = 1000000, 100000
local = threading.local()
proxy = None  # of the run


class Crash(Exception):
    """The driver is gone."""


def connection():
    """The connection of this thread, through the proxy; a new one after a cut."""
    if not hasattr(local, 'db') or local.db.closed:
        local.db = psycopg.connect(f'host=127.0.0.1 port={proxy.port} connect_timeout=10', autocommit=True)
    return local.db


def is_cut(error):
    """Was the connection lost, so that nobody knows whether it was done?"""
    return isinstance(error, psycopg.OperationalError) and error.sqlstate is None


class Network:
    """Between the order service and the two others."""

    def __init__(self, stock, payment, seed):
        self.services = {'stock': stock, 'payment': payment}
        self.rnd = random.Random(seed)
        self.counts = {'requests lost': 0, 'answers lost': 0, 'late': 0, 'twice': 0, 'crashes': 0}
        self.later = ThreadPoolExecutor(12)

    def call(self, service, verb, *args):
        function = getattr(self.services[service], verb)
        chance = self.rnd.random()
        if chance < 0.05:
            self.counts['crashes'] += 1
            raise Crash
        if chance < 0.15:
            self.counts['requests lost'] += 1
            raise TimeoutError
        if chance < 0.30:
            self.counts['answers lost'] += 1
            self.deliver(function, args, 0)
            raise TimeoutError
        if chance < 0.42:  # it is under way, and comes when nobody waits any more
            self.counts['late'] += 1
            self.later.submit(self.deliver, function, args, self.rnd.random() * 0.2)
            raise TimeoutError
        if chance < 0.50:
            self.counts['twice'] += 1
            self.later.submit(self.deliver, function, args, 0)
        try:
            return function(connection(), *args)
        except psycopg.OperationalError as error:
            raise TimeoutError if is_cut(error) else error  # the service lost its database: it has no answer

    @staticmethod
    def deliver(function, args, delay):
        time.sleep(delay)
        try:
            function(connection(), *args)
        except psycopg.Error:
            pass  # a late message that is refused: nobody listens


def drive(network, order):
    """Whoever drives: restarted after each crash, tries again after each timeout."""
    while True:
        try:
            return saga.drive(connection(), network.call, order)
        except (Crash, TimeoutError):
            pass
        except psycopg.OperationalError as error:
            if not is_cut(error):
                raise


def run(name, stock, payment, db, left):
    global proxy
    proxy = PostgresProxy(random.Random(7), before_commit=0.05, after_commit=0.05, statement=0.01, answer=0.01)
    db.execute('TRUNCATE ledger, orders; UPDATE account SET balance = %s' % MONEY)
    network = Network(stock, payment, 7)
    rnd = random.Random(7)
    orders = []
    for n in range(ORDERS):
        orders.append(f'{name}-{n}')
        db.execute('INSERT INTO orders VALUES (%s, %s, %s, %s)', (orders[-1], 'ann', rnd.randint(1, 5), rnd.randint(1, 100)))
    before = left()
    with ThreadPoolExecutor(6) as drivers:
        twice = [order for order in orders if rnd.random() < 0.3]
        driven = [drivers.submit(drive, network, order) for order in sorted(orders + twice)]
    for error in {repr(one.exception()) for one in driven if one.exception()}:
        print(f'a driver ended with {error}')
    network.later.shutdown(wait=True)
    proxy.close()

    one = lambda query: db.execute(query).fetchone()[0]
    done = one("SELECT count(*) FROM orders WHERE status = 'done'")
    assert done + one("SELECT count(*) FROM orders WHERE status = 'cancelled'") == ORDERS, 'every order has ended'
    wrong = one("""SELECT count(*) FROM orders AS o WHERE (SELECT coalesce(sum(amount), 0) FROM ledger WHERE order_id = o.id)
        <> CASE o.status WHEN 'done' THEN o.price ELSE 0 END""")
    sold = one("SELECT coalesce(sum(quantity), 0) FROM orders WHERE status = 'done'")
    owed = one("SELECT coalesce(sum(price), 0) FROM orders WHERE status = 'done'")
    assert MONEY - one('SELECT balance FROM account') == one('SELECT coalesce(sum(amount), 0) FROM ledger'), 'the ledger is right'
    counts = {
        'orders': ORDERS, 'driven by two': len(twice), **network.counts, 'connections cut': sum(proxy.cuts.values()),
        'of them after the commit': proxy.cuts['after_commit'], 'done': done, 'cancelled': ORDERS - done, 'orders with wrong money': wrong,
        'money that is wrong': MONEY - one('SELECT balance FROM account') - owed, 'tea that is wrong': int(before - left() - sold),
    }
    report(name, counts)
    assert proxy.cuts['before_commit'] > 0 and proxy.cuts['after_commit'] > 0, 'the proxy did cut'
    return [counts[what] for what in ('orders with wrong money', 'money that is wrong', 'tea that is wrong')]


def main():
    with psycopg.connect('', autocommit=True) as db:
        db.execute("INSERT INTO account VALUES ('ann', %s)" % MONEY)
        db.execute(f'CREATE TABLE shelf AS SELECT {TEA} AS quantity')
        db.execute('CREATE TABLE reservation (order_id text NOT NULL, quantity integer NOT NULL, status text NOT NULL)')
        idem = run('idem', services.Stock(), services.Payment(), db, lambda: db.execute("SELECT idem_stock_available('tea')").fetchone()[0])
        usual = run('control', control.Stock(), control.Payment(), db, lambda: db.execute('SELECT quantity FROM shelf').fetchone()[0])
    assert idem == [0, 0, 0], idem
    assert usual[0] > 0 and usual[2] != 0, 'the control shows what is at stake'


signal.signal(signal.SIGALRM, lambda *_: (print('the test hangs', flush=True), os._exit(1)))
signal.alarm(850)
main()
