// node-postgres: parameters are untyped, objects become JSON; the SQLSTATE is code
import pg from 'pg';
import { readFileSync } from 'node:fs';
import { native, serve } from './value.mjs';

const client = new pg.Client();
await client.connect();
client.on('notice', () => {});

await serve(`pg ${JSON.parse(readFileSync(new URL('node_modules/pg/package.json', import.meta.url))).version}`, async (mode, sql, params) => {
	if (mode === 'block') await client.query('BEGIN');
	try {
		const result = await client.query({ text: sql, values: params.map(([kind, text]) => native(kind, text)), rowMode: 'array' });
		return result.rows;
	} finally {
		if (mode === 'block') await client.query('ROLLBACK');
	}
});
await client.end();
