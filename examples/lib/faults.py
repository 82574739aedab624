"""What the tests in Python share: a proxy before the database that cuts connections, and the line of what was counted."""
import os
import re
import socket
import threading

COMMIT = re.compile(rb'\s*(COMMIT|END)\b', re.IGNORECASE)
NO_ENCRYPTION_PLEASE = (80877103, 80877104)  # a client asks for TLS, or for GSS


def end(*sockets):
    """Ends connections; whoever reads from them or writes to them sees that."""
    for one in sockets:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def messages(source, startup):
    """(type, body, all of it) for each message of the server protocol; the first of a client has no type."""
    buffer = b''
    while data := source.recv(65536):
        buffer += data
        while True:
            head = 0 if startup else 1
            if len(buffer) < head + 4:
                break
            length = head + int.from_bytes(buffer[head:head + 4], 'big')
            if len(buffer) < length:
                break
            raw, buffer = buffer[:length], buffer[length:]
            body = raw[head + 4:]
            if startup and int.from_bytes(body[:4], 'big') in NO_ENCRYPTION_PLEASE:
                source.sendall(b'N')
                continue
            yield raw[:head], body, raw
            startup = False


class PostgresProxy:
    """A proxy before the server of PGHOST and PGPORT, on `port` of 127.0.0.1, that cuts connections, with these chances:

    before_commit: a COMMIT is not passed on; after_commit: it is, and its answer is not; statement: any other statement is not
    passed on; answer: it was executed, and its answer is not passed on; silence: as after_commit, but the client's connection
    stays open, and nothing comes any more. Counts in `cuts` what it cut, in `prepared` the uses of named prepared statements.
    """

    def __init__(self, rnd, **chances):
        self.rnd, self.chances = rnd, chances
        self.cuts = dict.fromkeys(('before_commit', 'after_commit', 'statement', 'answer', 'silence'), 0)
        self.prepared = 0
        self.target = f"{os.environ['PGHOST']}/.s.PGSQL.{os.environ['PGPORT']}"
        self.open = set()
        self.lock = threading.Lock()
        self.listener = socket.create_server(('127.0.0.1', 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def environment(self):
        """Leads a client of libpq here."""
        return {'PGHOST': '127.0.0.1', 'PGPORT': str(self.port), 'PGCONNECT_TIMEOUT': '10'}

    def calm(self):
        """From here on it only passes on."""
        self.chances = {}

    def close(self):
        end(self.listener)
        self.listener.close()
        with self.lock:
            end(*self.open)

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            database = socket.socket(socket.AF_UNIX)
            try:
                database.connect(self.target)
            except OSError:
                end(client)
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.open |= {client, database}
            threading.Thread(target=self.forth, args=(client, database), daemon=True).start()
            threading.Thread(target=self.back, args=(database, client), daemon=True).start()

    def strikes(self, what):
        with self.lock:
            chance = self.chances.get(what, 0)
            first = chance > 0 and self.cuts[what] == 0 and what in ('before_commit', 'after_commit')
            struck = self.rnd.random() < chance or first  # one of each for certain: a test needs both
            self.cuts[what] += struck
        return struck

    def forth(self, client, database):
        commits = set()  # prepared statements that are a COMMIT
        try:
            for kind, body, raw in messages(client, True):
                is_commit = None
                if kind == b'Q':
                    is_commit = bool(COMMIT.match(body))
                elif kind == b'P':
                    name, text = body.split(b'\0')[:2]
                    commits.discard(name)
                    if COMMIT.match(text):
                        commits.add(name)
                elif kind == b'B':
                    name = body.split(b'\0')[1]
                    is_commit = name in commits
                    self.prepared += name != b''
                if is_commit is not None and self.strikes('before_commit' if is_commit else 'statement'):
                    break
                database.sendall(raw)
        except OSError:
            pass
        end(client, database)
        with self.lock:
            self.open -= {client, database}
        client.close()
        database.close()

    def back(self, database, client):
        try:
            for kind, body, raw in messages(database, False):
                if kind == b'C':
                    is_commit = body.startswith(b'COMMIT')
                    if is_commit and self.strikes('silence'):
                        end(database)  # and the client waits
                        return
                    if self.strikes('after_commit' if is_commit else 'answer'):
                        break
                client.sendall(raw)
        except OSError:
            pass
        end(client, database)


def report(name, counts):
    """What came of a run, as one line: the name, and each count with its name."""
    print(f'{name:8}', ', '.join(f'{what} {number}' for what, number in counts.items()), flush=True)
