// Work that is done once for each intent, whoever asks, how often, and after which restart.

/** The work is in our database: it commits together with its key, or not at all. */
export async function inside(pool, source, key, request, work) {
  const db = await pool.connect();
  let lost = false;
  try {
    await db.query('BEGIN');
    const { rows: [{ claimed }] } = await db.query('SELECT idem_claim($1, $2, $3) AS claimed', [source, key, JSON.stringify(request)]);
    let answer;
    if (claimed) {
      answer = await work(db);
      await db.query('SELECT idem_respond($1, $2, $3)', [source, key, JSON.stringify(answer)]);
    } else {
      answer = (await db.query('SELECT idem_response($1, $2) AS answer', [source, key])).rows[0].answer;
    }
    await db.query('COMMIT');
    return claimed ? answer : { ...answer, repeated: true };
  } catch (error) {
    lost = await db.query('ROLLBACK').then(() => false, () => true);
    throw error;
  } finally {
    db.release(lost);
  }
}

/**
 * The work is somewhere else: an attempt is on record before it begins. If nobody comes back to say how it ended, it is
 * never begun again by itself: takeover is off, and a human settles it.
 */
export async function outside(pool, source, key, request, work, ttl = '30 seconds') {
  const { rows: [attempt] } = await pool.query(
    'SELECT * FROM idem_begin($1, $2, $3::interval, $4::jsonb, takeover => false)', [source, key, ttl, JSON.stringify(request)]);
  if (attempt.status === 'done') return { ...attempt.response, repeated: true };
  if (attempt.status === 'running') throw new Error('It is being done right now. Ask again in a moment.');
  if (attempt.status === 'failed' || attempt.status === 'cancelled')
    throw new Error(`This was settled as ${attempt.status}, and will not be done.`);
  if (attempt.status !== 'granted')
    throw new Error(`Nobody knows whether this was done (${attempt.status}). Do not try another way: a human has to settle ${source} ${key}.`);

  const answer = await work(); // an error leaves the attempt as it is: what became of the work is not known
  for (let tries = 1; ; tries++) {
    try {
      await pool.query('SELECT idem_complete($1, $2, $3, $4)', [source, key, attempt.fence, JSON.stringify(answer)]);
      return answer;
    } catch (error) {
      if (error.severity === 'ERROR' || tries === 5) throw error; // otherwise the connection was lost: saying it again is safe
    }
  }
}
