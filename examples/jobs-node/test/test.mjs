// Two workers of graphile-worker, then two of pg-boss; each job is queued twice, as an application does that retries; workers are
// killed in mid-job and their jobs handed out again; answers of the mail gateway are lost, and connections to the database are cut.
// The gateway counts: each mail once. The control sends some twice.
import assert from 'node:assert/strict';
import http from 'node:http';
import path from 'node:path';
import { makeWorkerUtils } from 'graphile-worker';
import pg from 'pg';
import PgBoss from 'pg-boss';
import { postgresProxy, Program, random, report, shuffled, sleep, watchdog } from '../../lib/faults.mjs';

const MAILS = 40;
const KILLS = 3; // of both workers
const here = path.dirname(new URL(import.meta.url).pathname);
const rnd = random(5);
const db = new pg.Pool({ max: 3 });

// The gateway: takes its time, keeps a book, can be asked, and loses one answer in ten.
const book = new Map();
let running; // whose mails are booked: a worker of the run before may be late
const gateway = http.createServer(async (req, res) => {
  const mail = req.url.slice(1);
  if (req.method === 'GET') {
    await sleep(50); // what came before the question is in the book by then
    return res.writeHead(book.has(mail) ? 200 : 404).end();
  }
  await sleep(20 * rnd());
  if (mail.startsWith(running)) book.set(mail, (book.get(mail) ?? 0) + 1);
  await sleep(20 * rnd());
  if (rnd() < 0.1) res.destroy();
  else res.end();
});
await new Promise((done) => gateway.listen(0, '127.0.0.1', done));

// What differs between the queues: to put jobs in, to hand out again those of dead workers and those that failed, to see what is left.
const queues = {
  async graphile() {
    const utils = await makeWorkerUtils({ pgPool: db });
    await utils.migrate();
    return {
      add: (mail) => utils.addJob('mail', { mail }, { maxAttempts: 1000 }),
      async again(dead) {
        if (dead) { // an operator's act: otherwise a dead worker's jobs stay locked for four hours
          const { rows } = await db.query('SELECT DISTINCT locked_by FROM graphile_worker._private_jobs WHERE locked_by IS NOT NULL');
          await utils.forceUnlockWorkers(rows.map((row) => row.locked_by));
        }
        const { rows } = await db.query('SELECT id FROM graphile_worker.jobs WHERE locked_at IS NULL AND run_at > now()');
        await utils.rescheduleJobs(rows.map((row) => row.id), { runAt: new Date(Date.now() - 1000) });
      },
      left: async () => Number((await db.query('SELECT count(*) FROM graphile_worker.jobs')).rows[0].count),
      end: () => utils.release(),
    };
  },
  async boss() {
    const { PGHOST: host, PGPORT: port, PGUSER: user, PGDATABASE: database } = process.env;
    const boss = new PgBoss({ host, port: Number(port), user, database, max: 3, supervise: false });
    boss.on('error', () => {});
    await boss.start();
    await boss.createQueue('mail');
    return {
      add: (mail) => boss.send('mail', { mail }, { retryLimit: 1000, retryDelay: 1, expireInSeconds: 3 }),
      again: () => boss.maintain(),
      left: async () => Number((await db.query("SELECT count(*) FROM pgboss.job WHERE name = 'mail' AND state < 'completed'")).rows[0].count),
      end: () => boss.stop({ graceful: false }),
    };
  },
};

async function run(name, queueName, command) {
  book.clear();
  running = `${name}-${queueName}-`;
  await db.query("TRUNCATE sent");
  const queue = await queues[queueName]();
  const proxy = await postgresProxy(rnd, { beforeCommit: 0.01, afterCommit: 0.01, statement: 0.01, answer: 0.01 });
  const env = { PGHOST: '127.0.0.1', PGPORT: String(proxy.port), PGSSLMODE: 'disable', MAIL_GATEWAY: `http://127.0.0.1:${gateway.address().port}` };
  const jobs = shuffled(Array.from({ length: MAILS }, (_, n) => [`${name}-${queueName}-${n}`, `${name}-${queueName}-${n}`]).flat(), rnd);
  for (const mail of jobs) await queue.add(mail);
  const workers = [0, 1].map(() => new Program(command, env));
  const live = async (worker) => {
    while (!worker.ended) {
      await worker.startOnce().then(() => {
        worker.up = true;
        moved = Date.now();
        return worker.gone;
      }, () => sleep(100)); // its first statements may be cut, too
      worker.up = false;
    }
  };
  let moved = Date.now();
  const lives = workers.map(live);
  // besides the kills that are meant, both are ended when both are up and nothing has moved for two seconds, longer each time: a worker of
  // graphile-worker ends when the connection is cut on which it says what became of a job, and leaves the job locked
  let kills = 0, last = 0, patience = queueName === 'graphile' ? 2000 : 10000;
  for (let left; (left = await queue.left()) > 0;) {
    await sleep(200);
    if (left !== last) [last, moved] = [left, Date.now()];
    const stuck = workers.every((worker) => worker.up) && Date.now() - moved > patience;
    const dead = stuck || (kills < KILLS && book.size > (kills + 1) * 4);
    if (stuck) patience *= 2;
    if (dead) {
      moved = Date.now();
      await Promise.all(workers.map((worker) => {
        worker.child.kill('SIGKILL');
        return worker.gone;
      }));
      kills++;
    }
    await queue.again(dead);
  }
  for (const worker of workers) {
    worker.ended = true;
    worker.child.kill('SIGKILL');
  }
  await Promise.all(lives);
  proxy.close();
  await queue.end();
  const sent = [...book.values()].reduce((a, b) => a + b, 0);
  const counts = {
    mails: MAILS, jobs: jobs.length, kills: 2 * kills, 'connections cut': Object.values(proxy.cuts).reduce((a, b) => a + b),
    sent, 'sent twice': sent - book.size, 'not sent': MAILS - book.size,
  };
  report(`${name}, ${queueName}`.padEnd(18), counts);
  return [counts['sent twice'], counts['not sent']];
}

watchdog();
let twice = 0;
for (const queue of ['graphile', 'boss']) {
  assert.deepEqual(await run('idem', queue, ['node', path.join(here, `../${queue}.mjs`)]), [0, 0]);
  twice += (await run('control', queue, ['node', path.join(here, 'control.mjs'), queue]))[0];
}
assert.ok(twice > 0, 'the control shows what is at stake');
process.exit(0);
