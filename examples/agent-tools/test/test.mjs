// Two scripted agents with the same plan. Their tool servers are killed in mid-call, connections to the database are cut before and
// after the commit, the mail gateway loses answers, and each agent forgets in mid-run and begins again, under new call ids and
// in other words. What nobody knows is settled by a scripted human who looks into the gateway's book. Each invoice is paid once and each
// mail is sent once; the control does some twice.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import assert from 'node:assert/strict';
import http from 'node:http';
import path from 'node:path';
import pg from 'pg';
import { postgresProxy, random, report, sleep, watchdog } from '../../lib/faults.mjs';

const INVOICES = 20;
const KILLS = 3; // of each agent's server
const here = path.dirname(new URL(import.meta.url).pathname);
const rnd = random(8);
const db = new pg.Client();
const count = async (query) => Number((await db.query(query)).rows[0].count);

// The gateway: a book of what was sent. One answer in five is lost.
const book = [];
const gateway = http.createServer((req, res) => {
  let body = '';
  req.on('data', (data) => { body += data; });
  req.on('end', () => {
    const mail = JSON.parse(body);
    book.push(`${mail.about} ${mail.to}`);
    if (rnd() < 0.2) res.destroy();
    else res.end(JSON.stringify({ id: book.length }));
  });
});
gateway.keepAliveTimeout = 300000; // it never closes a connection just when a request is sent on it
await new Promise((done) => gateway.listen(0, '127.0.0.1', done));

// A tool server as an agent has it: started when it is needed, killed, and started again.
class Tools {
  constructor(script, port, option = []) {
    const environment = { ...process.env, PGSSLMODE: 'disable', MAIL_TTL: '2 seconds', MAIL_GATEWAY: `http://127.0.0.1:${gateway.address().port}/` };
    if (port) Object.assign(environment, { PGHOST: '127.0.0.1', PGPORT: String(port) });
    this.how = { command: process.execPath, args: [path.join(here, script), ...option], env: environment, stderr: 'ignore' };
    this.kills = 0;
  }

  async call(name, args, killAfter) {
    if (!this.client) {
      this.client = new Client({ name: 'agent', version: '1.0.0' });
      this.client.onclose = () => { this.client = null; };
      await this.client.connect(this.transport = new StdioClientTransport(this.how)).catch((error) => {
        this.client = null;
        throw error;
      });
    }
    const called = this.client.callTool({ name, arguments: args });
    if (killAfter !== undefined) {
      this.kills++;
      called.catch(() => {});
      await sleep(killAfter);
      process.kill(this.transport.pid, 'SIGKILL');
    }
    const { content: [{ text }], isError } = await called;
    if (isError) throw Object.assign(new Error(text), { answered: true });
    return JSON.parse(text);
  }

  close() { return this.client?.close(); }
}

// The agent: goes through the plan, tries each step until it has an answer or is told to leave it to a human; in mid-run it forgets
// how far it was.
async function agent(toolServer, plan, counts, kills = KILLS) {
  let forgets = 1;
  for (let step = 0; step < plan.length; step++) {
    if (forgets && step === Math.floor(plan.length / 2)) {
      forgets--;
      step = 0;
    }
    const [name, args] = plan[step];
    for (;;) {
      counts.calls++;
      const words = `${args.about} ${counts.calls}`;
      try {
        const kill = toolServer.kills < kills && toolServer.client && rnd() < 0.08 ? rnd() * 15 : undefined;
        await toolServer.call(name, name === 'send_mail' ? { ...args, words } : args, kill);
        break;
      } catch (error) {
        if (/a human has to settle/.test(error.message)) {
          counts.unknown.add(`${args.about} ${args.to}`);
          break;
        }
        if (/right now/.test(error.message)) {
          await sleep(100);
        } else {
          counts.errors++;
          await sleep(1); // a call may fail at once, and others must have their turn
        }
      }
    }
  }
}

async function run(name, script) {
  const proxy = await postgresProxy(rnd, { beforeCommit: 0.08, afterCommit: 0.08, statement: 0.02, answer: 0.05 });
  const counts = { calls: 0, errors: 0, unknown: new Set() };
  const plan = [];
  for (let n = 1; n <= INVOICES; n++) {
    plan.push(['transfer', { invoice: `${name}-${n}`, payer: 'us', payee: 'them', amount: n }]);
    plan.push(['send_mail', { about: `${name}-${n}`, to: 'them@example.com' }]);
  }
  book.length = 0;
  await db.query("TRUNCATE transfer, done; UPDATE account SET balance = 100000");
  const agents = [new Tools(script, proxy.port), new Tools(script, proxy.port)];
  await Promise.all(agents.map((tool) => agent(tool, plan, counts)));

  let settled = 0, notSent = 0;
  if (name === 'idem') {
    // the human: waits until the leases have run out, looks into the book, and lets the agent try again what was not sent
    const human = new Tools(script, null, ['--operator']);
    while (await count("SELECT count(*) FROM idem_unsettled('mail') WHERE status = 'running'")) await sleep(200);
    for (const { seq, fence } of await human.call('unsettled', {})) {
      const sent = book.includes(seq);
      settled++;
      if (!sent) notSent++;
      await human.call('settle', { seq, fence, sent, evidence: `the gateway's book, ${book.length} entries` });
    }
    proxy.calm();
    const before = book.length;
    gateway.removeAllListeners('request');
    gateway.on('request', quiet);
    await agent(agents[0], plan, counts, 0); // nobody is killed any more: what is sent now is counted
    assert.equal(book.length, before + notSent, 'the agent sent what was not sent, and nothing else');
    assert.deepEqual(await human.call('unsettled', {}), []);
    await assert.rejects(agents[0].call('transfer', { ...plan[0][1], amount: 77 }), /request/i, 'the same invoice, another amount');
    await assert.rejects(agents[0].call('settle', { seq: 'x', fence: '1', sent: true, evidence: '' }), /not found/, 'the agent has no such tool');
    await human.close();
  }
  for (const tool of agents) await tool.close();
  proxy.close();

  const [paid, invoices] = [await count('SELECT count(*) FROM transfer'), await count('SELECT count(DISTINCT invoice) FROM transfer')];
  assert.equal(await count("SELECT balance AS count FROM account WHERE name = 'us'"), 100000 - await count('SELECT sum(amount) AS count FROM transfer'));
  const mails = new Set(book).size;
  report(name, {
    invoices: INVOICES, calls: counts.calls, kills: agents[0].kills + agents[1].kills, 'connections cut': Object.values(proxy.cuts).reduce((a, b) => a + b),
    'errors seen by the agents': counts.errors, 'mails nobody knew about': settled, 'of them not sent': notSent,
    'paid twice': paid - invoices, 'not paid': INVOICES - invoices, 'mails sent twice': book.length - mails, 'not sent': INVOICES - mails,
  });
  return [paid - invoices, INVOICES - invoices, book.length - mails, INVOICES - mails];
}

// The gateway on a good day.
function quiet(req, res) {
  let body = '';
  req.on('data', (data) => { body += data; });
  req.on('end', () => {
    const mail = JSON.parse(body);
    book.push(`${mail.about} ${mail.to}`);
    res.end(JSON.stringify({ id: book.length }));
  });
}

watchdog();
await db.connect();
await db.query("INSERT INTO account VALUES ('us', 100000), ('them', 0)");
await db.query('CREATE TABLE done (source text, key text, answer json, PRIMARY KEY (source, key))');
const control = await run('control', 'control.mjs');
const idem = await run('idem', '../server.mjs');
assert.deepEqual(idem, [0, 0, 0, 0]);
assert.ok(control[0] + control[2] > 0, 'the control shows what is at stake');
await db.end();
gateway.close();
process.exit(0);
