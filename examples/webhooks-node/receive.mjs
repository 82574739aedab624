// Receives signed deliveries: the delivery id is the key, so each is worked on once; what arrives late changes nothing.
import { createHmac, timingSafeEqual } from 'node:crypto';

const TOLERANCE = 300; // seconds that a signature may be old
// Trying again is no use: too late, another event under this id, no time in the id, a move that the order cannot make.
const HOPELESS = new Set(['ID410', 'ID422', '22023', 'ID460']);

/** Signature: t=SECONDS,v1=HMAC-SHA-256 of "SECONDS.BODY"; the sender signs each try afresh. */
export function genuine(secret, header, body) {
  const [, time, sign] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(header ?? '') ?? [];
  if (!time || Math.abs(Date.now() / 1000 - time) > TOLERANCE) return false;
  const wanted = createHmac('sha256', secret).update(`${time}.${body}`).digest();
  return timingSafeEqual(wanted, Buffer.from(sign, 'hex'));
}

/** Works on a delivery; returns the HTTP status. */
export async function receive(pool, { id, type, object }) {
  const db = await pool.connect();
  let lost = false;
  try {
    await db.query('BEGIN');
    const { rows: [{ first }] } = await db.query('SELECT idem_claim($1, $2, $3) AS first', ['webhook', id, JSON.stringify({ type, object })]);
    if (first) await kinds[type]?.(db, object);
    await db.query('COMMIT');
    return 204;
  } catch (error) {
    lost = await db.query('ROLLBACK').then(() => false, () => true);
    if (HOPELESS.has(error.code)) return 400;
    return 503; // it was not recorded, or nobody knows: send it again
  } finally {
    db.release(lost);
  }
}

const kinds = {
  async order(db, { id, status }) {
    await db.query(
      'INSERT INTO orders (id, status) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET status = excluded.status', [id, status]);
    if (status === 'paid') await db.query('INSERT INTO points VALUES ($1, 10)', [id]);
  },
  async subscription(db, { id, status, changed_at }) {
    await db.query(`INSERT INTO subscription VALUES ($1, $2, $3)
      ON CONFLICT (id) DO UPDATE SET status = excluded.status, changed_at = excluded.changed_at`, [id, status, changed_at]);
  },
};
