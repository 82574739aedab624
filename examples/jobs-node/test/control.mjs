// The control: a handler as it is usually written: look whether the mail was sent, send it, note that it was sent.
//
//   node control.mjs graphile|boss
import { gateway } from '../mail.mjs';

const { start } = await import(`../${process.argv[2]}.mjs`);
await start(async (pool, { mail }) => {
  if ((await pool.query('SELECT FROM sent WHERE mail = $1', [mail])).rowCount) return;
  await gateway.send(mail);
  await pool.query('INSERT INTO sent VALUES ($1) ON CONFLICT DO NOTHING', [mail]);
});
