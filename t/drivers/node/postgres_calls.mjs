// postgres (porsager): the server infers the types, objects become JSON; the SQLSTATE is code
import postgres from 'postgres';
import { readFileSync } from 'node:fs';
import { native, serve } from './value.mjs';

const sql = postgres({ max: 1, onnotice: () => {} });

// tagged: sql`…` with these parameters
const tagged = (on, text, params) => {
	const parts = text.split(/\$\d+/);
	return on(Object.assign(parts, { raw: parts }), ...params.map(([kind, value]) => native(kind, value))).values();
};

await serve(`postgres ${JSON.parse(readFileSync(new URL('node_modules/postgres/package.json', import.meta.url))).version}`, async (mode, text, params) =>
	mode === 'block' ? sql.begin((tx) => tagged(tx, text, params)) : tagged(sql, text, params));
await sql.end();
