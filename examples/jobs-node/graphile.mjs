// A worker of graphile-worker: node graphile.mjs
import { run } from 'graphile-worker';
import pg from 'pg';
import { sendMail } from './mail.mjs';

export async function start(handler) {
  const pool = new pg.Pool({ max: 8 });
  pool.on('error', () => {});
  pool.on('connect', (client) => client.on('error', () => {}));
  await run({ pgPool: pool, concurrency: 4, pollInterval: 200, noHandleSignals: true, taskList: { mail: (payload) => handler(pool, payload) } });
  console.log('listening 0');
}

if (process.argv[1] === new URL(import.meta.url).pathname) await start(sendMail);
