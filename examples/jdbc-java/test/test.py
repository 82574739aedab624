"""Messages that are delivered again and again, shuffled, to two consumers that are killed, over connections that are cut before and after
the commit, or fall silent. Each is booked once, and all its acknowledgements have one answer. One control books some twice, one loses some."""
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import psycopg

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', '..', 'lib'))
from faults import PostgresProxy, report  # noqa: E402

MESSAGES = 120
KILLS = 4
AGAIN = 10  # seconds in which no consumer says anything: what is open is delivered again
LIMIT = 150  # seconds of that: catches only a hang
JARS = ':'.join(f'/usr/share/java/{name}.jar' for name in ('HikariCP', 'postgresql', 'slf4j-api', 'slf4j-nop'))
JAVA = ['java', '-Xmx128m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-XX:-UsePerfData', '-cp']
rnd = random.Random(3)
started = []


class Broker:
    """Delivers to two consumers, and delivers again what nobody acknowledged."""

    def __init__(self, command, environment, every):
        self.command, self.environment = command, environment
        self.open = {line.split()[0]: line for line in every}
        self.answers, self.delivered, self.kills, self.differ, self.rejected = {}, 0, 0, 0, {}
        self.lock, self.heard = threading.Lock(), 0
        self.consumers = [self.start(), self.start()]

    def start(self):
        consumer = subprocess.Popen(self.command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    stderr=None if os.environ.get('EXAMPLES_VERBOSE') else subprocess.DEVNULL, text=True, bufsize=1)
        started.append(consumer)
        consumer.reader = threading.Thread(target=self.listen, args=(consumer,), daemon=True)
        consumer.reader.start()
        return consumer

    def listen(self, consumer):
        for line in consumer.stdout:
            self.heard = time.monotonic()
            verdict, *rest = line.rstrip('\n').split(' ', 2)
            if not line.endswith('\n') or verdict not in ('ack', 'reject'):
                continue  # nack: it comes again
            with self.lock:
                if verdict == 'reject':
                    self.rejected[rest[0]] = rest[1]
                elif self.answers.setdefault(rest[0], rest[1]) != rest[1]:
                    self.differ += 1
                self.open.pop(rest[0], None)

    def deliver(self, consumer):
        """What is not acknowledged, in any order."""
        with self.lock:
            lines = list(self.open.values())
        rnd.shuffle(lines)
        try:
            for line in lines:
                consumer.stdin.write(line + '\n')
                self.delivered += 1
        except OSError:
            pass  # it is dead, and they come again

    def deliver_all(self, every):
        """Until each is acknowledged. Kills a consumer now and then, and starts those that are dead."""
        with self.lock:
            self.open.update((line.split()[0], line) for line in every)
        for consumer in self.consumers:
            self.deliver(consumer)
        self.heard = due = time.monotonic()
        while self.open:
            if time.monotonic() > self.heard + LIMIT:
                sys.exit(f'the run hangs: nobody acknowledges {len(self.open)}, such as {sorted(self.open)[:5]}')
            done = len(every) - len(self.open)
            if self.kills < KILLS and done > (self.kills + 1) * len(every) / (KILLS + 2):
                self.consumers[self.kills % 2].kill()
                self.consumers[self.kills % 2].wait(LIMIT)
                self.kills += 1
            for n, consumer in enumerate(self.consumers):
                if consumer.poll() is not None:
                    self.consumers[n] = self.start()
                    self.deliver(self.consumers[n])
            if time.monotonic() > max(due, self.heard + AGAIN):
                due = time.monotonic() + AGAIN
                for consumer in self.consumers:
                    self.deliver(consumer)
            time.sleep(0.02)

    def end(self):
        """The consumers work off what they have."""
        self.heard = time.monotonic()
        for consumer in self.consumers:
            consumer.stdin.close()
        for consumer in self.consumers:
            while consumer.poll() is None:
                if time.monotonic() > self.heard + LIMIT:
                    sys.exit('a consumer does not end')
                time.sleep(0.02)
            assert consumer.returncode == 0, f'a consumer ends well, not with {consumer.returncode}'
            consumer.reader.join(10)


def run(name, classes, program, db):
    start = time.monotonic()
    db.execute('TRUNCATE entry, noted; UPDATE account SET balance = 0')
    proxy = PostgresProxy(rnd, before_commit=0.04, after_commit=0.04, statement=0.002, answer=0.002, silence=0.006)
    user, database = os.environ['PGUSER'], os.environ['PGDATABASE']
    url = f'jdbc:postgresql://127.0.0.1:{proxy.port}/{database}?user={user}&sslmode=disable&gssEncMode=disable'
    good = [f'{name}-{n} ann {1 + n % 9}' for n in range(MESSAGES)]
    bad = [f'{name}-bad-{n} {account} {amount}' for n, (account, amount) in enumerate((('ann', 0), ('nobody', 1), ('ann', 'x')))]
    broker = Broker([*JAVA, f'{JARS}:{classes}', *program], {**os.environ, 'JDBC_URL': url}, good + bad)
    broker.deliver_all(good + bad)
    broker.deliver_all(good)  # all of them once more
    broker.end()
    proxy.close()

    one = lambda query: db.execute(query).fetchone()[0]
    booked, keys = one('SELECT count(*) FROM entry'), one('SELECT count(DISTINCT message) FROM entry')
    assert one('SELECT balance FROM account') == one('SELECT coalesce(sum(amount), 0) FROM entry'), 'the balance is what the entries say'
    counts = {
        'messages': MESSAGES, 'delivered': broker.delivered, 'kills': broker.kills, 'connections cut': sum(proxy.cuts.values()),
        'of them after the commit': proxy.cuts['after_commit'], 'silent': proxy.cuts['silence'], 'booked': booked, 'booked twice': booked - keys,
        'lost': MESSAGES - keys, 'different answers': broker.differ, 'rejected': len(broker.rejected),
    }
    report(name, {**counts, 'seconds': round(time.monotonic() - start)})
    assert proxy.prepared > MESSAGES, 'statements are prepared in the server'
    assert broker.kills == KILLS and proxy.cuts['before_commit'] > 0 and proxy.cuts['after_commit'] > 0, 'the faults happened'
    return counts


def main():
    classes = tempfile.mkdtemp(prefix='jdbc')
    try:
        sources = [os.path.join(HERE, '..', 'Consumer.java'), os.path.join(HERE, 'Control.java')]
        subprocess.run(['javac', '-J-XX:-UsePerfData', '-cp', JARS, '-d', classes, *sources], check=True)
        with psycopg.connect('', autocommit=True) as db:
            db.execute("CREATE TABLE noted (message text PRIMARY KEY); INSERT INTO account VALUES ('ann', 0)")
            idem = run('idem', classes, ['Consumer'], db)
            assert [idem[what] for what in ('booked', 'booked twice', 'lost', 'different answers', 'rejected')] == [MESSAGES, 0, 0, 0, 3], 'once'
            after = run('after', classes, ['Control', 'after'], db)
            before = run('before', classes, ['Control', 'before'], db)
        assert after['booked twice'] > 0 and before['lost'] > 0, 'the controls show what is at stake'
    finally:
        for consumer in started:
            consumer.kill()
            consumer.wait(10)
        shutil.rmtree(classes, ignore_errors=True)


signal.signal(signal.SIGALRM, lambda *_: sys.exit('the test hangs'))
signal.signal(signal.SIGTERM, lambda *_: sys.exit('ended'))
signal.alarm(850)
main()
