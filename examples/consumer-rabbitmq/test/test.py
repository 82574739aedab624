"""Messages that are published twice, to two consumers that are killed, over connections that are cut: that to the broker when a batch is
acknowledged after its commit, those to the database before and after the COMMIT and in mid-batch; some messages are poison. Every good
message is booked once, every poison message is set aside once. The control books some twice."""
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import pika
import psycopg

MESSAGES = 400
POISON = 20
KILLS = 4
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', '..', 'lib'))
from faults import PostgresProxy, report  # noqa: E402

rnd = random.Random(4)
started = []


def free_ports(number):
    """Ports that are free, and different: all are held before one is given up."""
    ones = [socket.socket() for _ in range(number)]
    for one in ones:
        one.bind(('127.0.0.1', 0))
    ports = [one.getsockname()[1] for one in ones]
    for one in ones:
        one.close()
    return ports


def can_connect(port):
    with socket.socket() as one:
        return one.connect_ex(('127.0.0.1', port)) == 0


def end_broker():
    for process in reversed(started):
        if process is started[0]:
            process.kill()
        else:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has ended, and all that it started
        process.wait()
    started.clear()


def start_broker(directory, tries=3):
    """A RabbitMQ of our own, on ports of its own; returns its port."""
    server = [os.path.join(root, 'rabbitmq-server') for root, _, files in os.walk('/usr/lib/rabbitmq/lib') if 'rabbitmq-server' in files]
    port, epmd, distribution = free_ports(3)
    path = lambda name: os.path.join(directory, name)
    for name, text in (('plugins', '[].'), ('rabbitmq.conf', '')):
        with open(path(name), 'w', encoding='ascii') as out:
            out.write(text)
    settings = {
        'HOME': directory, 'ERL_EPMD_PORT': str(epmd), 'RABBITMQ_NODENAME': 'idem@localhost', 'RABBITMQ_NODE_PORT': str(port),
        'RABBITMQ_NODE_IP_ADDRESS': '127.0.0.1', 'RABBITMQ_DIST_PORT': str(distribution), 'RABBITMQ_MNESIA_BASE': path('mnesia'),
        'RABBITMQ_LOG_BASE': path('log'), 'RABBITMQ_ENABLED_PLUGINS_FILE': path('plugins'), 'RABBITMQ_CONF_ENV_FILE': path('none'),
        'RABBITMQ_CONFIG_FILE': path('rabbitmq'), 'RABBITMQ_ADVANCED_CONFIG_FILE': path('advanced'), 'RABBITMQ_GENERATED_CONFIG_DIR': path('config'),
    }
    environment = {**{name: value for name, value in os.environ.items() if not name.startswith('RABBITMQ_')}, **settings}
    with open(path('output'), 'w', encoding='utf-8') as output:
        # a name service of ours, or the broker starts one that outlives it
        started.append(subprocess.Popen(['epmd', '-port', str(epmd), '-address', '127.0.0.1'], stdout=output, stderr=output))
        while not can_connect(epmd) and started[0].poll() is None:
            time.sleep(0.05)
        started.append(subprocess.Popen([server[0]], env=environment, stdout=output, stderr=output, start_new_session=True))
    while True:
        try:
            pika.BlockingConnection(pika.URLParameters(f'amqp://127.0.0.1:{port}')).close()
            return port
        except (pika.exceptions.AMQPError, OSError):
            if any(process.poll() is not None for process in started):  # somebody else may have taken a port meanwhile
                end_broker()
                if tries == 1:
                    with open(path('output'), encoding='utf-8') as output:
                        sys.exit(f'the broker ended: {output.read()}')
                shutil.rmtree(path('mnesia'), ignore_errors=True)
                return start_broker(directory, tries - 1)
            time.sleep(0.2)


class AckCutter:
    """A proxy before the broker: cuts the connection when an acknowledgement passes, with this chance, instead of passing it on."""

    def __init__(self, target, chance):
        self.target, self.chance, self.cut = target, chance, 0
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            broker = socket.create_connection(('127.0.0.1', self.target))
            threading.Thread(target=self.forth, args=(client, broker), daemon=True).start()
            threading.Thread(target=self.back, args=(broker, client), daemon=True).start()

    def forth(self, client, broker):
        buffer, head = b'', 8  # the protocol's header, then frames: type, channel, size, payload, end
        try:
            while data := client.recv(65536):
                buffer += data
                while len(buffer) >= max(head, 7):
                    size = head or 8 + struct.unpack('!L', buffer[3:7])[0]
                    if len(buffer) < size:
                        break
                    frame, buffer = buffer[:size], buffer[size:]
                    is_ack = not head and frame[0] == 1 and struct.unpack('!HH', frame[7:11]) == (60, 80)
                    head = 0
                    if is_ack and (self.cut == 0 or rnd.random() < self.chance):  # the first for certain
                        self.cut += 1
                        return
                    broker.sendall(frame)
        except OSError:
            pass
        finally:
            for one in (client, broker):
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    @staticmethod
    def back(broker, client):
        try:
            while data := broker.recv(65536):
                client.sendall(data)
        except OSError:
            pass
        client.close()


def uuid7():
    """A UUID of version 7, of now."""
    return str(uuid.UUID(int=int(time.time() * 1000) << 80 | 7 << 76 | rnd.getrandbits(12) << 64 | 2 << 62 | rnd.getrandbits(62)))


def messages():
    """(id, body): good ones, and three kinds of poison."""
    good = [(uuid7(), b'{"account": "ann", "amount": 1}') for _ in range(MESSAGES)]
    bad = [(b'{"account": "ann", "amount": 0}', True), (b'{"account": "nobody", "amount": 1}', True), (b'not JSON', True),
           (b'{"account": "ann", "amount": 1}', False)]
    return good, [(uuid7() if known else f'no-uuid-{n}', body) for n, (body, known) in enumerate(bad * (POISON // 4))]


def run(name, program, broker, db):
    db.execute("TRUNCATE entry, set_aside; UPDATE account SET balance = 0")
    channel = pika.BlockingConnection(pika.URLParameters(f'amqp://127.0.0.1:{broker}')).channel()
    channel.queue_declare('orders', durable=True)
    good, bad = messages()
    every = good + bad
    rnd.shuffle(every)

    proxy = AckCutter(broker, 0.2)
    database = PostgresProxy(rnd, before_commit=0.06, after_commit=0.06, statement=0.001, answer=0.001)
    environment = {**os.environ, **database.environment(), 'AMQP': f'amqp://127.0.0.1:{proxy.port}'}
    start = lambda: subprocess.Popen(['/usr/bin/python3', os.path.join(HERE, program)], env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.PIPE)
    consumers = [start(), start()]
    for consumer in consumers:
        consumer.stdout.readline()  # it is ready
    published = 0
    for first in range(0, len(every), 21):
        # a publisher that did not hear that its batch was confirmed publishes it again; 21 is odd, so the other consumer gets it
        for _ in range(rnd.choice((1, 2, 2))):
            for key, body in every[first:first + 21]:
                channel.basic_publish('', 'orders', body, pika.BasicProperties(message_id=key, delivery_mode=2))
                published += 1

    kills = 0
    count = lambda query: db.execute(query).fetchone()[0]
    quiet = 0
    while quiet < 3:  # empty, and nothing under way that could come back
        time.sleep(0.2)
        booked = count('SELECT count(*) FROM entry')
        if kills < KILLS and booked > (kills + 1) * MESSAGES / (KILLS + 2):
            consumers[kills % 2].send_signal(signal.SIGKILL)
            kills += 1
        for n, consumer in enumerate(consumers):
            if consumer.poll() is not None:
                consumers[n] = start()
        # sees what is ready; what is unacknowledged is seen by the second look, without consumers
        empty = channel.queue_declare('orders', durable=True, passive=True).method.message_count == 0
        if empty and booked + count('SELECT count(*) FROM set_aside') >= MESSAGES + POISON:
            quiet += 1
            proxy.chance = 0
            database.calm()
        else:
            quiet = 0
    for consumer in consumers:
        consumer.kill()
        consumer.wait()
    database.close()
    channel.queue_delete('orders')
    channel.connection.close()
    # by one snapshot: what a consumer had committed when it was killed may become visible a moment later
    booked, keys, balance = db.execute("SELECT (SELECT count(*) FROM entry), (SELECT count(DISTINCT message) FROM entry), balance FROM account WHERE name = 'ann'").fetchone()
    aside = count('SELECT count(*) FROM set_aside')
    expected = MESSAGES if name == 'idem' else MESSAGES + POISON // 4  # the control does not judge keys
    result = {'messages': MESSAGES, 'poison': POISON, 'published': published, 'kills': kills, 'cut between commit and acknowledgement': proxy.cut,
              'database cut': sum(database.cuts.values()), 'of them after the commit': database.cuts['after_commit'],
              'booked': booked, 'booked twice': booked - keys, 'not booked': expected - keys, 'set aside': aside}
    report(name, result)
    assert balance == booked, 'the balance is what the entries say'
    return result


def main():
    directory = tempfile.mkdtemp(prefix='rmq')
    try:
        broker = start_broker(directory)
        with psycopg.connect('', autocommit=True) as db:
            db.execute("INSERT INTO account VALUES ('ann', 0)")
            idem = run('idem', '../consumer.py', broker, db)
            for _ in range(4):  # it takes two deliveries of one message at the same moment, which chance may not bring
                control = run('control', 'control.py', broker, db)
                if control['booked twice'] > 0:
                    break
        assert (idem['booked'], idem['booked twice'], idem['set aside']) == (MESSAGES, 0, POISON), 'once'
        assert idem['cut between commit and acknowledgement'] > 0 and idem['database cut'] > 0, 'the proxies did cut'
        assert control['booked twice'] > 0, 'the control shows what is at stake'
    finally:
        end_broker()
        shutil.rmtree(directory, ignore_errors=True)


signal.signal(signal.SIGALRM, lambda *_: sys.exit('the test hangs'))
signal.signal(signal.SIGTERM, lambda *_: sys.exit('ended'))
signal.alarm(850)
main()
