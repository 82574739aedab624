// What a client sees, as a table; and a load whose connections are cut, whose service is killed and whose requests are sent by
// two clients at once: each payment is made once, and all who ask get the same bytes. The control makes some twice.
//
//   node test.mjs [COMMAND…]     COMMAND is the service (node server.mjs); examples/http-python is tested by this file, too
import assert from 'node:assert/strict';
import path from 'node:path';
import pg from 'pg';
import { inParallel, postgresProxy, Program, random, report, serviceProxy, sleep, uuidv7, watchdog } from '../../lib/faults.mjs';

const PAYMENTS = 100;
const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
const command = process.argv.length > 2 ? process.argv.slice(2) : ['node', path.join(here, '../server.mjs')];
const rnd = random(23);
const db = new pg.Client();

const post = (port, key, body, headers = {}) => fetch(`http://127.0.0.1:${port}/payments`, {
  method: 'POST',
  headers: { 'Content-Type': 'application/json', ...(key && { 'Idempotency-Key': key }), ...headers },
  body: typeof body === 'string' ? body : JSON.stringify(body),
});

// What matters of an answer.
async function seen(response) {
  const { status, headers } = response;
  return {
    status, body: await response.text(), location: headers.get('location'), type: headers.get('content-type'),
    replayed: headers.get('idempotent-replayed'), retry: headers.get('retry-after'),
  };
}

const count = async (query, values) => Number((await db.query(query, values)).rows[0].count);

// One line for each thing that a client may do: what, key, body, status, replayed; and what to do before and after.
async function table(port) {
  const [k1, k2, k3, k4] = Array.from({ length: 4 }, () => uuidv7(rnd));
  const pay = { account: 'ann', amount: 5, note: 'tea \u2603 "\\' };
  const cases = [
    ['no key', null, pay, 400],
    ['the first', k1, pay, 201, 'false'],
    ['again', k1, pay, 201, 'true'],
    ['again, other order of names', k1, `{"note": ${JSON.stringify(pay.note)}, "amount": 5.0, "account": "ann"}`, 201, 'true'],
    ['another request', k1, { ...pay, amount: 6 }, 422],
    ['another customer', k1, pay, 422, null, { headers: { Authorization: 'Bearer eve' } }],
    ['not enough', k2, { account: 'bob', amount: 1000 }, 402, 'false'],
    ['still not enough', k2, { account: 'bob', amount: 1000 }, 402, 'true', { before: "UPDATE account SET balance = 1000 WHERE name = 'bob'" }],
    ['it fails', k3, pay, 500, null, { before: 'ALTER TABLE payment RENAME TO away', after: 'ALTER TABLE away RENAME TO payment' }],
    ['and the key is free again', k3, pay, 201, 'false'],
    ['too late', uuidv7(rnd, Date.now() - 25 * 3600 * 1000), pay, 410],
    ['a key without a time', 'key-1', pay, 400],
  ];
  let first;
  for (const [what, key, body, status, replayed = null, { before, after, headers } = {}] of cases) {
    if (before) await db.query(before);
    const answer = await seen(await post(port, key, body, headers));
    if (after) await db.query(after);
    assert.equal(answer.status, status, `${what}: ${answer.body}`);
    assert.equal(answer.replayed, replayed, what);
    if (what === 'the first') first = answer;
    if (what.startsWith('again')) assert.deepEqual({ ...answer, replayed: 'false' }, first, `${what}: byte for byte`);
  }
  assert.match(first.location, /^\/payments\/\d+$/);

  // in progress: the first waits for the account's row, which is ours
  await db.query("BEGIN; SELECT FROM account WHERE name = 'ann' FOR UPDATE");
  const slow = post(port, k4, pay);
  while (await count('SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))') === 0) await sleep(20);
  const busy = await seen(await post(port, k4, pay));
  assert.deepEqual([busy.status, busy.retry], [409, '1'], 'in progress');
  await db.query('COMMIT');
  const [one, two] = [await seen(await slow), await seen(await post(port, k4, pay))];
  assert.deepEqual([one.status, one.replayed, two.status, two.replayed], [201, 'false', 201, 'true']);
  assert.equal(two.body, one.body);
  assert.equal(await count('SELECT count(*) FROM payment'), 3);
  return cases.length + 2;
}

// Sends until there is an answer that is one: all who ask must get the same.
async function insist(port, key, body, tries) {
  for (;;) {
    tries.sent++;
    try {
      const answer = await seen(await post(port, key, body));
      if (answer.status === 409) tries.busy++;
      else if (answer.status < 500) return answer;
    } catch { /* the connection was cut: done or not, nobody knows */ }
    await sleep(5 + 20 * rnd());
  }
}

async function load(name, what) {
  const database = await postgresProxy(rnd, { beforeCommit: 0.1, afterCommit: 0.1, statement: 0.01, answer: 0.01 });
  const service = new Program(what, { PGHOST: '127.0.0.1', PGPORT: String(database.port), PGSSLMODE: 'disable', PGGSSENCMODE: 'disable' });
  await service.start();
  const web = await serviceProxy(rnd, { request: 0.05, answer: 0.15 }, () => service.port);
  const tries = { sent: 0, busy: 0 };
  let differ = 0, settled = 0, killing = Promise.resolve();
  await db.query("TRUNCATE payment; UPDATE account SET balance = 100000");
  await inParallel(Array.from({ length: PAYMENTS }, (_, n) => n), 8, async (n) => {
    const key = uuidv7(rnd);
    const body = { account: n % 2 ? 'ann' : 'bob', amount: 1, note: key };
    const clients = rnd() < 0.4 ? 2 : 1;
    const answers = await Promise.all(Array.from({ length: clients }, () => insist(web.port, key, body, tries)));
    if (clients === 2 && answers[0].body !== answers[1].body) differ++;
    if (++settled % 40 === 0) killing = service.restart();
  });
  await killing;
  await service.kill();
  web.close();
  database.close();
  const [rows, keys] = [await count('SELECT count(*) FROM payment'), await count('SELECT count(DISTINCT note) FROM payment')];
  const balance = await count('SELECT sum(balance) AS count FROM account');
  const cut = Object.values({ ...database.cuts, ...web.cuts }).reduce((a, b) => a + b);
  const counts = {
    'payments': PAYMENTS, 'sent': tries.sent, 'connections cut': cut, 'of them after the commit': database.cuts.afterCommit,
    'kills': service.kills - 1, 'answered 409': tries.busy, 'done': rows, 'done twice': rows - keys, 'lost': PAYMENTS - keys, 'different answers': differ,
  };
  report(name, counts);
  assert.equal(200000 - balance, rows, 'the money is where the payments say');
  assert.ok(database.cuts.afterCommit > 0 && database.cuts.beforeCommit > 0, 'the proxy did cut');
  return counts;
}

watchdog();
await db.connect();
await db.query("INSERT INTO account VALUES ('ann', 1000), ('bob', 10)");

const calm = await new Program(command, {}).start();
console.log(`table    ${await table(calm.port)} answers as expected`);
await calm.kill();

const idem = await load('idem', command);
const control = await load('control', ['node', path.join(here, 'control.mjs')]);
assert.deepEqual([idem['done twice'], idem.lost, idem['different answers']], [0, 0, 0]);
assert.ok(control['done twice'] > 0, 'the control shows what is at stake');
await db.end();
