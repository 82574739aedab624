// What the tests of the examples share: chances that repeat, proxies that cut connections, processes that are killed, and
// a table of what was counted. No dependencies.
import { spawn } from 'node:child_process';
import net from 'node:net';

/** Numbers from 0 to 1 that depend on the seed alone (mulberry32). */
export function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** The array in another order. */
export function shuffled(array, rnd) {
  const copy = [...array];
  for (let i = copy.length - 1; i > 0; i--) {
    const j = Math.floor(rnd() * (i + 1));
    [copy[i], copy[j]] = [copy[j], copy[i]];
  }
  return copy;
}

/** Calls work(item) for each item, `width` at a time. */
export async function inParallel(items, width, work) {
  const queue = items.values();
  await Promise.all(Array.from({ length: width }, async () => {
    for (const item of queue) await work(item);
  }));
}

async function listen(server) {
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return server.address().port;
}

// Calls got(type, body, raw) for each message of the server protocol; the first of a client has no type.
function messages(socket, startup, got) {
  let buffer = Buffer.alloc(0);
  socket.on('data', (chunk) => {
    buffer = Buffer.concat([buffer, chunk]);
    for (;;) {
      const head = startup ? 0 : 1;
      if (buffer.length < head + 4) return;
      const length = head + buffer.readInt32BE(head);
      if (buffer.length < length) return;
      const raw = buffer.subarray(0, length);
      const body = raw.subarray(head + 4);
      buffer = buffer.subarray(length);
      if (startup && [80877103, 80877104].includes(body.readInt32BE(0))) {
        socket.write('N'); // no encryption
        continue;
      }
      const type = startup ? '' : String.fromCharCode(raw[0]);
      startup = false;
      if (got(type, body, raw) === false) return;
    }
  });
}

/**
 * A proxy before the server of PGHOST and PGPORT that cuts connections, with these chances: beforeCommit: a COMMIT is not
 * passed on; afterCommit: it is, and its answer is not; statement: any other statement is not passed on; answer: it was
 * executed, and its answer is not passed on. Counts what it cut in `cuts`. Without chances (calm()) it only passes on.
 */
export async function postgresProxy(rnd, chances) {
  let chance = chances;
  const target = `${process.env.PGHOST}/.s.PGSQL.${process.env.PGPORT}`;
  const cuts = { beforeCommit: 0, afterCommit: 0, statement: 0, answer: 0 };
  const open = new Set();
  const server = net.createServer((client) => {
    const database = net.connect(target);
    const end = () => {
      client.destroy();
      database.destroy();
      open.delete(end);
    };
    const cut = (what) => {
      const first = chance[what] > 0 && cuts[what] === 0 && what.endsWith('Commit'); // one of each for certain: a test needs both
      if (rnd() >= (chance[what] ?? 0) && !first) return false;
      cuts[what]++;
      end();
      return true;
    };
    const commits = new Set(); // prepared statements that are a COMMIT
    open.add(end);
    client.setNoDelay(true);
    for (const socket of [client, database]) socket.on('error', end).on('close', end);
    messages(client, true, (type, body, raw) => {
      let what = null;
      const text = body.toString('latin1');
      if (type === 'Q') what = /^\s*(COMMIT|END)\b/i.test(text) ? 'beforeCommit' : 'statement';
      if (type === 'P') {
        const [name, statement] = text.split('\0');
        commits.delete(name);
        if (/^\s*(COMMIT|END)\b/i.test(statement)) commits.add(name);
      }
      if (type === 'B') what = commits.has(text.split('\0')[1]) ? 'beforeCommit' : 'statement';
      if (what && cut(what)) return false;
      database.write(raw);
    });
    messages(database, false, (type, body, raw) => {
      if (type === 'C' && cut(body.toString('latin1').startsWith('COMMIT') ? 'afterCommit' : 'answer')) return false;
      client.write(raw);
    });
  });
  return {
    port: await listen(server),
    cuts,
    calm: () => { chance = {}; },
    close: () => {
      server.close();
      for (const end of open) end();
    },
  };
}

/** A proxy before a service that cuts connections, with these chances: request: it is not passed on; answer: it is lost. */
export async function serviceProxy(rnd, chances, port) {
  const cuts = { request: 0, answer: 0 };
  const open = new Set();
  const server = net.createServer((client) => {
    const service = net.connect(port(), '127.0.0.1');
    const end = () => {
      client.destroy();
      service.destroy();
      open.delete(end);
    };
    const pass = (from, to, what) => from.on('data', (chunk) => {
      if (rnd() < chances[what]) {
        cuts[what]++;
        end();
      } else to.write(chunk);
    });
    open.add(end);
    for (const socket of [client, service]) socket.on('error', end).on('close', end);
    pass(client, service, 'request');
    pass(service, client, 'answer');
  });
  return {
    port: await listen(server),
    cuts,
    close: () => {
      server.close();
      for (const end of open) end();
    },
  };
}

const children = new Set();
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

/** A program that prints "listening PORT" (or whatever `ready` finds) when it is ready, can be killed, and started again. */
export class Program {
  constructor(command, env, ready = /listening (\d+)/) {
    Object.assign(this, { command, env, ready, kills: 0 });
  }

  /** Like a supervisor it starts a program again that ends before it is ready: its first statement may have been cut. */
  async start(tries = 5) {
    while (tries-- > 1) {
      try {
        return await this.startOnce();
      } catch (error) {
        if (process.env.EXAMPLES_VERBOSE) console.error(error.message);
        await sleep(100);
      }
    }
    return this.startOnce();
  }

  async startOnce() {
    this.child = spawn(this.command[0], this.command.slice(1), {
      env: { ...process.env, ...this.env },
      stdio: ['ignore', 'pipe', process.env.EXAMPLES_VERBOSE ? 'inherit' : 'pipe'],
    });
    const child = this.child;
    children.add(child);
    child.once('exit', () => children.delete(child));
    let output = '';
    this.gone = new Promise((done) => child.once('exit', done));
    await new Promise((done, fail) => {
      child.stderr?.on('data', (data) => { output = (output + data).slice(-4000); });
      child.stdout.on('data', (data) => {
        output += data;
        const found = this.ready.exec(output);
        if (found) {
          this.port = Number(found[1]);
          done();
          output = '';
        }
      });
      child.once('exit', () => fail(new Error(`${this.command.join(' ')} ended: ${output}`)));
      child.once('error', fail);
    });
    return this;
  }

  async kill() {
    this.kills++;
    this.child.kill('SIGKILL');
    await this.gone;
  }

  async restart() {
    await this.kill();
    await this.start();
  }
}

/** What came of a run, as one line: the name, and each count with its name. */
export function report(name, counts) {
  const parts = Object.entries(counts).map(([what, n]) => `${what} ${n}`);
  console.log(`${name.padEnd(8)} ${parts.join(', ')}`);
}

/** A UUID of version 7, of the time `at`: its time can be read, so idem can refuse one that is too old. */
export function uuidv7(rnd, at = Date.now()) {
  const hex = (n) => Array.from({ length: n }, () => Math.floor(rnd() * 16).toString(16)).join('');
  const time = at.toString(16).padStart(12, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex(3)}-8${hex(3)}-${hex(12)}`;
}

/** Ends the test with status 1 if it did not come to an end in so many seconds: a hang. */
export function watchdog(seconds = 850) {
  setTimeout(() => {
    console.log(`the test hangs: no end after ${seconds} s`);
    process.exit(1);
  }, seconds * 1000).unref();
}
