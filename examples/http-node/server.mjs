// The service: PGHOST, PGPORT, PGUSER, PGDATABASE say where the database is, PORT where to listen.
import pg from 'pg';
import { idempotent } from './idempotent.mjs';
import { payments } from './payments.mjs';

const pool = new pg.Pool({ max: 10 });
pool.on('error', () => {}); // an idle connection was lost: the pool makes another
pool.on('connect', (client) => client.on('error', () => {})); // one in use: its query fails, the process does not

const server = payments(pool, idempotent).listen(Number(process.env.PORT ?? 0), '127.0.0.1', () =>
  console.log(`listening ${server.address().port}`));
