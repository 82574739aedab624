// The control: the same tools, done the usual way: look whether it was done, do it, note that it is done.
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import pg from 'pg';
import { tools } from '../tools.mjs';

const pool = new pg.Pool({ max: 4 });
pool.on('error', () => {});
pool.on('connect', (client) => client.on('error', () => {}));
const known = async (id) => (await pool.query('SELECT answer FROM done WHERE source = $1 AND key = $2', id)).rows[0]?.answer;
const note = (id, answer) => pool.query('INSERT INTO done VALUES ($1, $2, $3) ON CONFLICT DO NOTHING', [...id, JSON.stringify(answer)]);

async function inside(_, source, key, request, work) {
  let answer = await known([source, key]);
  if (answer) return answer;
  const db = await pool.connect();
  let lost = true;
  try {
    await db.query('BEGIN');
    answer = await work(db);
    await db.query('COMMIT');
    lost = false;
  } finally {
    db.release(lost);
  }
  await note([source, key], answer);
  return answer;
}

async function outside(_, source, key, request, work) {
  const answer = await known([source, key]) ?? await work();
  await note([source, key], answer);
  return answer;
}

const server = new McpServer({ name: 'payments-and-mail', version: '1.0.0' });
tools(server, pool, { inside, outside });
await server.connect(new StdioServerTransport());
