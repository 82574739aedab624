// The application: an account pays, if it has enough.
import express from 'express';

export function payments(pool, idempotent) {
  const app = express();
  app.use(express.json());
  app.post('/payments', idempotent(pool, async (req, db) => {
    const { account, amount, note } = req.body;
    const type = { 'Content-Type': 'application/json; charset=utf-8' };
    const { rows: [{ enough }] } = await db.query(
      "SELECT idem_deduct('account', 'balance', $1::integer, VARIADIC ARRAY[$2]) AS enough", [amount, account]);
    if (!enough) return { status: 402, headers: type, body: JSON.stringify({ error: 'not enough' }) };
    const { rows: [{ id, paid_at }] } = await db.query(
      'INSERT INTO payment (account, amount, note) VALUES ($1, $2, $3) RETURNING id, paid_at', [account, amount, note]);
    return {
      status: 201,
      headers: { ...type, Location: `/payments/${id}` },
      body: `{"id": ${id},  "paid_at": "${paid_at.toISOString()}", "note": ${JSON.stringify(note ?? null)}}\n`,
    };
  }));
  return app;
}
