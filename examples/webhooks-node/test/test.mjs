// Deliveries, each sent twice or three times, shuffled, over connections that are cut, to a receiver that is killed: at the end every order
// and every subscription is in its last state, and each order has brought its points once. In the control some are in an earlier
// state, and some may have brought points twice.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import path from 'node:path';
import pg from 'pg';
import { inParallel, postgresProxy, Program, random, report, serviceProxy, shuffled, sleep, watchdog } from '../../lib/faults.mjs';

const EACH = 20; // orders, and subscriptions
const here = path.dirname(new URL(import.meta.url).pathname);
const rnd = random(6);
const db = new pg.Client();
const count = async (query) => Number((await db.query(query)).rows[0].count);
const now = Math.floor(Date.now() / 1000);

async function deliver(port, { id, ...event }, { secret = 'secret', time = Math.floor(Date.now() / 1000) } = {}) {
  const body = JSON.stringify(event);
  const sign = createHmac('sha256', secret).update(`${time}.${body}`).digest('hex');
  const response = await fetch(`http://127.0.0.1:${port}/`, {
    method: 'POST', body, headers: { 'Delivery-Id': id, Signature: `t=${time},v1=${sign}` },
  });
  return response.status;
}

function events() {
  const list = [];
  const add = (type, object) => list.push({ id: `${now}-${list.length}`, type, object });
  for (let n = 1; n <= EACH; n++) {
    for (const status of ['created', 'paid', 'shipped', 'delivered']) add('order', { id: `o${n}`, status });
    ['active', 'paused', 'active', 'paused', 'active'].forEach((status, i) => add('subscription', { id: `s${n}`, status, changed_at: i + 1 }));
  }
  return list;
}

async function run(name, script) {
  await db.query('TRUNCATE orders, subscription, points, seen');
  await db.query("SELECT idem_forget('webhook', seq) FROM (SELECT seq FROM idem.claim WHERE source = 'webhook') AS c");
  if (name === 'control') await db.query('ALTER TABLE orders DISABLE TRIGGER USER; ALTER TABLE subscription DISABLE TRIGGER USER');
  else await db.query('ALTER TABLE orders ENABLE TRIGGER USER; ALTER TABLE subscription ENABLE TRIGGER USER');
  const database = await postgresProxy(rnd, { beforeCommit: 0.08, afterCommit: 0.08, statement: 0.02, answer: 0.02 });
  const receiver = await new Program(['node', path.join(here, script)],
    { PGHOST: '127.0.0.1', PGPORT: String(database.port), PGSSLMODE: 'disable', SECRET: 'secret' }).start();
  const web = await serviceProxy(rnd, { request: 0.05, answer: 0.1 }, () => receiver.port);
  let sent = 0, settled = 0, killing = Promise.resolve();
  const deliveries = shuffled(events().flatMap((event) => Array(rnd() < 0.5 ? 2 : 3).fill(event)), rnd);
  await inParallel(deliveries, 8, async (event) => {
    for (;;) {
      sent++;
      const status = await deliver(web.port, event).catch(() => 0);
      if (status === 204) break;
      assert.ok(status === 0 || status === 503, `status ${status}`);
      await sleep(5 + 20 * rnd());
    }
    if (++settled % 150 === 0) killing = receiver.restart();
  });
  await killing;
  await receiver.kill();
  web.close();
  database.close();
  const paid = await count('SELECT count(DISTINCT order_id) FROM points');
  const counts = {
    'deliveries': deliveries.length, 'sent': sent, 'kills': receiver.kills - 1,
    'connections cut': Object.values({ ...database.cuts, ...web.cuts }).reduce((a, b) => a + b),
    'orders not in their last state': EACH - await count("SELECT count(*) FROM orders WHERE status = 'delivered'"),
    'subscriptions not in their last state': EACH - await count('SELECT count(*) FROM subscription WHERE changed_at = 5'),
    'points given twice': await count('SELECT count(*) FROM points') - paid, 'points not given': EACH - paid,
  };
  report(name, counts);
  return Object.values(counts).slice(4);
}

watchdog();
await db.connect();
await db.query('CREATE TABLE seen (id text PRIMARY KEY)');

const calm = await new Program(['node', path.join(here, '../server.mjs')], { SECRET: 'secret' }).start();
const event = { id: `${now}-x`, type: 'order', object: { id: 'x', status: 'created' } };
assert.equal(await deliver(calm.port, event, { secret: 'another' }), 401, 'a forged signature');
assert.equal(await deliver(calm.port, event, { time: now - 1000 }), 401, 'an old signature');
assert.equal(await deliver(calm.port, event), 204);
assert.equal(await deliver(calm.port, event), 204, 'again');
assert.equal(await deliver(calm.port, { ...event, object: { id: 'y', status: 'paid' } }), 400, 'the same id, another event');
assert.equal(await deliver(calm.port, { ...event, id: `${now - 8 * 86400}-x` }), 400, 'older than what is remembered');
await calm.kill();

const idem = await run('idem', '../server.mjs');
const control = await run('control', 'control.mjs');
assert.deepEqual(idem, [0, 0, 0, 0]);
assert.ok(control[0] > 0 && control[1] > 0, 'the control shows what is at stake');
await db.end();
