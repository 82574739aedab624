// A route that runs once for each Idempotency-Key:
//
//   app.post('/payments', idempotent(pool, async (req, db) => ({ status: 201, headers: {…}, body: '…' })));
//
// The handler does its work through `db`, in the transaction that holds the key: key, work and answer commit together or not
// at all. An answer is recorded whatever its status; an error that is thrown undoes everything and leaves the key free.
const BUSY = { status: 503, title: 'Try again with the same key', headers: { 'Retry-After': '1' } };
const FAILED = { status: 500, title: 'It failed, and nothing was done' };
const PROBLEMS = {
  ID409: { status: 409, title: 'The first request with this key is still at work', headers: { 'Retry-After': '1' } },
  ID410: { status: 410, title: 'The key is too old: whether it was done is no longer known' },
  ID422: { status: 422, title: 'The key was used for another request' },
  22023: { status: 400, title: 'The key has not the form that this route wants' },
  '40001': BUSY, '40P01': BUSY,
};

export function idempotent(pool, handler) {
  return async (req, res) => {
    const source = `${req.method} ${req.route.path}`;
    const key = req.get('Idempotency-Key');
    if (!key) return problem(res, { status: 400, title: 'Idempotency-Key is required' });
    // the customer is part of what is compared: a key that somebody else has used is answered with 422, not with their answer
    const request = JSON.stringify({ customer: req.get('Authorization') ?? null, url: req.originalUrl, body: req.body ?? null });
    let db, answer, claimed, claiming = true, lost = false;
    try {
      db = await pool.connect();
      await db.query('BEGIN');
      ({ claimed } = (await db.query('SELECT idem_claim($1, $2, $3, wait => false) AS claimed', [source, key, request])).rows[0]);
      claiming = false;
      if (claimed) {
        answer = await handler(req, db);
        await db.query('SELECT idem_respond($1, $2, $3)', [source, key, JSON.stringify(answer)]);
      } else {
        answer = (await db.query('SELECT idem_response($1, $2) AS answer', [source, key])).rows[0].answer;
      }
      await db.query('COMMIT');
    } catch (error) {
      lost = (await db?.query('ROLLBACK').then(() => false, () => true)) ?? true;
      if (lost) return problem(res, BUSY); // committed or not, the same key will tell
      if (claiming || /^40/.test(error.code)) return problem(res, PROBLEMS[error.code] ?? FAILED);
      return problem(res, FAILED);
    } finally {
      db?.release(lost);
    }
    if (!answer) return problem(res, { status: 410, title: 'The key was cancelled' });
    res.status(answer.status).set(answer.headers).set('Idempotent-Replayed', String(!claimed));
    res.end(answer.body);
  };
}

function problem(res, { status, title, headers = {} }) {
  res.status(status).set(headers).type('application/problem+json').send(JSON.stringify({ status, title }));
}
