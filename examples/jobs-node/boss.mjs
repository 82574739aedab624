// A worker of pg-boss: node boss.mjs
import pg from 'pg';
import PgBoss from 'pg-boss';
import { sendMail } from './mail.mjs';

export async function start(handler) {
  const pool = new pg.Pool({ max: 8 });
  pool.on('error', () => {});
  pool.on('connect', (client) => client.on('error', () => {}));
  const boss = new PgBoss({ host: process.env.PGHOST, port: Number(process.env.PGPORT), user: process.env.PGUSER, database: process.env.PGDATABASE, max: 8 });
  boss.on('error', () => {});
  await boss.start();
  for (let n = 0; n < 4; n++)
    await boss.work('mail', { pollingIntervalSeconds: 0.5 }, ([job]) => handler(pool, job.data));
  console.log('listening 0');
}

if (process.argv[1] === new URL(import.meta.url).pathname) await start(sendMail);
