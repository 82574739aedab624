// The control: look whether the delivery id is known, do the work, note the id; the last to arrive wins.
import pg from 'pg';
import { serve } from '../server.mjs';

async function usual(pool, { id, type, object }) {
  const { rows: [known] } = await pool.query('SELECT FROM seen WHERE id = $1', [id]);
  if (known) return 204;
  if (type === 'order') {
    await pool.query('INSERT INTO orders VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET status = excluded.status', [object.id, object.status]);
    if (object.status === 'paid') await pool.query('INSERT INTO points VALUES ($1, 10)', [object.id]);
  } else {
    await pool.query(`INSERT INTO subscription VALUES ($1, $2, $3)
      ON CONFLICT (id) DO UPDATE SET status = excluded.status, changed_at = excluded.changed_at`, [object.id, object.status, object.changed_at]);
  }
  await pool.query('INSERT INTO seen VALUES ($1) ON CONFLICT DO NOTHING', [id]);
  return 204;
}

serve(new pg.Pool({ max: 10 }), usual);
