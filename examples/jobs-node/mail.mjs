// A job handler: sends a mail once, however often a queue hands the job out, and to however many workers.
const TTL = '3 seconds';
const TIMEOUT = 1000; // ms; well below the ttl: whose lease has expired is not sending any more

/**
 * The work is outside of the database, so it is an attempt: on record before it begins, completed after. If a worker dies
 * in between, nobody knows whether the mail went out, and the gateway is asked before it is sent again.
 */
export async function sendMail(pool, { mail }) {
  const begin = async () => {
    const asked = performance.now(); // the lease begins later than this
    const { rows: [attempt] } = await pool.query('SELECT * FROM idem_begin($1, $2, $3::interval, takeover => false)', ['mail', mail, TTL]);
    if (performance.now() - asked > TIMEOUT) throw new Error(`${mail}: the answer was held up, and the lease may end while it is sent: later`);
    return attempt;
  };
  const complete = (fence, answer) => pool.query('SELECT idem_complete($1, $2, $3, $4)', ['mail', mail, fence, JSON.stringify(answer)]);

  let attempt = await begin();
  if (attempt.status === 'expired') {
    if (await gateway.sent(mail)) return complete(attempt.fence, { sent: true });
    // it was not: give back the attempt that we asked about, by its fence, and no later one (that raises ID412)
    await pool.query('SELECT idem_fail($1, $2, $3, retry => true)', ['mail', mail, attempt.fence]);
    attempt = await begin();
  }
  if (attempt.status === 'running') throw new Error(`${mail} is being sent by another worker: later`);
  if (attempt.status !== 'granted') return; // done, or given up
  await gateway.send(mail);
  await complete(attempt.fence, { sent: true });
}

export const gateway = {
  async send(mail) {
    const response = await fetch(`${process.env.MAIL_GATEWAY}/${mail}`, { method: 'POST', signal: AbortSignal.timeout(TIMEOUT) });
    if (!response.ok) throw new Error(`the gateway answers ${response.status}`);
  },
  async sent(mail) {
    const response = await fetch(`${process.env.MAIL_GATEWAY}/${mail}`, { signal: AbortSignal.timeout(TIMEOUT) });
    return response.ok;
  },
};
