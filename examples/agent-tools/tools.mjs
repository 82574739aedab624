// The tools. What names the intent is the key: the invoice that is paid, the matter and the person who is told. Neither the id
// of the call nor the wording belongs to it: an agent that starts again has new ids, and other words for the same mail.
import { z } from 'zod';

const text = (value) => ({ content: [{ type: 'text', text: JSON.stringify(value) }] });

export function tools(server, pool, { inside, outside }) {
  server.registerTool('transfer', {
    description: 'Pays an invoice. Calling it again for the same invoice is safe: it is paid once.',
    inputSchema: { invoice: z.string(), payer: z.string(), payee: z.string(), amount: z.number().int().positive() },
    annotations: { idempotentHint: true },
  }, async ({ invoice, payer, payee, amount }) => text(await inside(pool, 'transfer', invoice, { payer, payee, amount }, async (db) => {
    const { rows: [{ enough }] } = await db.query(
      "SELECT idem_deduct('account', 'balance', $1::integer, VARIADIC ARRAY[$2]) AS enough", [amount, payer]);
    if (!enough) return { paid: false, why: `${payer} has not enough` };
    await db.query('UPDATE account SET balance = balance + $1 WHERE name = $2', [amount, payee]);
    const { rows: [{ id }] } = await db.query(
      'INSERT INTO transfer (invoice, payer, payee, amount) VALUES ($1, $2, $3, $4) RETURNING id', [invoice, payer, payee, amount]);
    return { paid: true, id: Number(id) };
  })));

  server.registerTool('send_mail', {
    description: 'Sends a mail about a matter. Calling it again for the same matter and person is safe: it is sent once.',
    inputSchema: { about: z.string(), to: z.string(), words: z.string() },
    annotations: { idempotentHint: true, openWorldHint: true },
  }, async ({ about, to, words }) => text(await outside(pool, 'mail', `${about} ${to}`, { about, to }, async () => {
    const response = await fetch(process.env.MAIL_GATEWAY, { method: 'POST', body: JSON.stringify({ about, to, words }) });
    return { sent: (await response.json()).id };
  }, process.env.MAIL_TTL)));
}

/** For a human, and not for the agent. */
export function operatorTools(server, pool) {
  server.registerTool('unsettled', {
    description: 'Lists the mails of which nobody knows whether they were sent.', annotations: { readOnlyHint: true },
  }, async () => text((await pool.query("SELECT * FROM idem_unsettled('mail') WHERE status = 'expired'")).rows));

  server.registerTool('settle', {
    description: 'Records what somebody found out about a mail of the list: sent, or not sent, and then it may be sent again.',
    inputSchema: { seq: z.string(), fence: z.string(), sent: z.boolean(), evidence: z.string() },
    annotations: { destructiveHint: true },
  }, async ({ seq, fence, sent, evidence }) => {
    const settle = sent ? "idem_complete('mail', $1, $2::bigint, $3)" : "idem_fail('mail', $1, $2::bigint, $3, retry => true)";
    const { rows: [{ now }] } = await pool.query(`SELECT ${settle} AS now`, [seq, fence, JSON.stringify({ evidence })]);
    return text({ settled: now });
  });
}
