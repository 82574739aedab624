// What the programs for Node.js share: the lines of t/148_drivers.pl, and its values as JavaScript has them.
import { createInterface } from 'node:readline';

export function native(kind, text) {
	switch (kind) {
	case 'int': return Number(text);
	case 'bool': return text === 'true';
	case 'time': return new Date(text);
	case 'request': return JSON.parse(text);
	case 'answer': return JSON.parse(text);
	case 'texts': return text.split(',');
	case 'ints': return text.split(',').map(Number);
	case 'numerics': return text.split(',');
	default: return text;
	}
}

const shown = (cell) => cell === null ? '' : cell instanceof Date ? cell.toISOString() : String(cell);

// A line in is MODE, SQL, and KIND and VALUE of each parameter, with tabs between; a line out is what came of it.
export async function serve(version, call) {
	console.log(`version\t${version}`);
	for await (const line of createInterface({ input: process.stdin })) {
		const [mode, sql, ...rest] = line.split('\t');
		const params = [];
		for (let i = 0; i < rest.length; i += 2) params.push([rest[i], rest[i + 1]]);
		try {
			const rows = await call(mode, sql, params);
			console.log(`ok\t${rows.map((row) => row.map(shown).join(',')).join('/')}`);
		} catch (error) {
			console.log(`error\t${error.code ?? 'client'}\t${error.message.replace(/\s+/g, ' ')}`);
		}
	}
}
