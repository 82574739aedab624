// The control: the same service with the middleware that is usually written. It looks the key up, runs the handler, and then
// stores the answer, each in a transaction of its own, as it must be where answers are kept in another system.
import pg from 'pg';
import { payments } from '../payments.mjs';

const pool = new pg.Pool({ max: 10 });
pool.on('error', () => {});
pool.on('connect', (client) => client.on('error', () => {}));
await pool.query('CREATE TABLE IF NOT EXISTS answer (source text, key text, answer json, PRIMARY KEY (source, key))');

const usual = (_, handler) => async (req, res) => {
  const id = [`${req.method} ${req.route.path}`, req.get('Idempotency-Key')];
  let db, broken = true;
  try {
    const { rows: [known] } = await pool.query('SELECT answer FROM answer WHERE source = $1 AND key = $2', id);
    let answer = known?.answer;
    if (!answer) {
      db = await pool.connect();
      await db.query('BEGIN');
      answer = await handler(req, db);
      await db.query('COMMIT');
      broken = false;
      db.release();
      db = null;
      await pool.query('INSERT INTO answer VALUES ($1, $2, $3) ON CONFLICT DO NOTHING', [...id, JSON.stringify(answer)]);
    }
    res.status(answer.status).set(answer.headers).end(answer.body);
  } catch {
    res.status(503).end();
  } finally {
    db?.release(broken);
  }
};

const server = payments(pool, usual).listen(Number(process.env.PORT ?? 0), '127.0.0.1', () =>
  console.log(`listening ${server.address().port}`));
