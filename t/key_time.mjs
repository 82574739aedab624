// The table of t/031_key_time.pl: keys, good and bad, and their times, by implementations that are not ours: npm's uuid and ulid, and
// JavaScript's Date and BigInt. One line for each: key_time, the key as encodeURIComponent writes it, milliseconds or bad.
//
//   npm install --prefix DIR uuid ulid
//   node t/key_time.mjs DIR
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
const resolve = createRequire(process.argv[2] + '/x.js').resolve;
const U = await import(pathToFileURL(resolve('uuid')));
const L = await import(pathToFileURL(resolve('ulid')));
// a small generator of its own, so that the table is always the same
let state = 12345; const rnd = n => { state = (state * 1103515245 + 12345) % 2147483648; return Math.floor(state / 2147483648 * n); };
const hex = n => Array.from({length: n}, () => rnd(16).toString(16)).join('');
const uuidms = k => { if (!U.validate(k) || U.version(k) !== 7) return 'bad'; const b = U.parse(k); let ms = 0; for (let i = 0; i < 6; i++) ms = ms * 256 + b[i]; return ms; };
const ulidms = k => { try { if (!L.isValid(k)) return 'bad'; return L.decodeTime(k.toUpperCase()); } catch (e) { return 'bad'; } };
const times = [0, 1, 999, 946684800000, 1288834974657, 1577836800000, 1600000000123, 1700000000000, 1735689599999, 1735689600000, 1750000000001, 2500000000000, 4102444800000, 281474976710655, 281474976710654, 253402300799999];
while (times.length < 32) times.push(rnd(2000000000) * 1000 + rnd(1000));
const out = [];
// uuidv7
let good = times.map((ms, i) => { const h = ms.toString(16).padStart(12, '0'); let k = `${h.slice(0, 8)}-${h.slice(8)}-7${hex(3)}-${'89ab'[rnd(4)]}${hex(3)}-${hex(12)}`; if (i % 5 === 1) k = k.toUpperCase(); if (i % 5 === 2) k = k.slice(0, 18).toUpperCase() + k.slice(18); return k; });
const g = good[7];
let bad = [g.replace('-7', '-4'), g.replace('-7', '-1'), g.replace('-7', '-8'), g.replace('-7', '-0'), g.replace(/-/g, ''), '{' + g + '}', 'urn:uuid:' + g, g.slice(1), g + '0', g.slice(0, 35), g.slice(0, 35) + 'g', 'g' + g.slice(1), g.replace('-', ' '), g.replace(/-/g, '_'), ' ' + g, g + ' ', g.slice(0, 7) + '-' + g.slice(7, 8) + g.slice(9), '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', g.slice(0, 14) + '٧' + g.slice(15), g.slice(0, 35) + 'é', 'é' + g.slice(2), g.slice(0, 23) + g.slice(24) + '-', 'x', '7', g + g, g.slice(0, 13) + '7-' + g.slice(15), g.split('').reverse().join('')];
for (const k of [...good, ...bad]) out.push(['uuidv7', k, uuidms(k)]);
// ulid
const A = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
good = times.map((ms, i) => { let t = '', m = ms; for (let j = 0; j < 10; j++) { t = A[m % 32] + t; m = Math.floor(m / 32); } for (let j = 0; j < 16; j++) t += A[rnd(32)]; if (i % 4 === 1) t = t.toLowerCase(); if (i % 4 === 2) t = t.slice(0, 13) + t.slice(13).toLowerCase(); return t; });
const u = good[7];
bad = ['I', 'L', 'O', 'U', 'i', 'l', 'o', 'u', '-', ' ', '*', '@', '['].map((c, i) => u.slice(0, i * 2) + c + u.slice(i * 2 + 1));
bad.push(u.slice(1), u + '0', u.slice(0, 25), '8' + u.slice(1), 'Z' + u.slice(1), '9' + u.slice(1), u.slice(0, 24) + 'é', 'é' + u.slice(2), 'x', '1', u + u, ' ' + u.slice(1), u.slice(0, 25) + ' ', 'ZZZZZZZZZZZZZZZZZZZZZZZZZZ', 'a'.repeat(26).replace(/^a/, 'g'));
for (const k of [...good, ...bad]) out.push(['ulid', k, ulidms(k)]);
// unix, by a pattern of its own
const alnum = /^[\p{L}\p{N}]/u;
const unixms = k => { let m = /^([0-9]{13})(?![0-9])(.*)$/su.exec(k); let f = 1; if (!m) { m = /^([0-9]{10})(?![0-9])(.*)$/su.exec(k); f = 1000; } return !m || alnum.test(m[2]) ? 'bad' : Number(m[1]) * f; };
good = ['0000000000', '0000000001', '1700000000', '9999999999', '4102444800', '1600000000', '0000000000000', '0000000000001', '1700000000123', '9999999999999', '4102444800999'];
const tails = ['-1', '/x', ':', '_', ' ', '.5', '-order-17', '#é', '+', '~~', '\u0001', '-' + 'y'.repeat(900)];
tails.forEach((t, i) => good.push((i % 2 ? '1700000000' : '1700000000123') + t));
while (good.length < 31) good.push(String(1000000000 + rnd(1000000000)) + (good.length % 2 ? '' : String(100 + rnd(900))));
bad = ['1', '170000000', '17000000000', '170000000012', '17000000001234', '1700000000a', '1700000000Z', '1700000000123x', '1700000000é', '1700000000123ß', '-1700000000', '+1700000000', ' 1700000000', '1700000000٣', '١٧٠٠٠٠٠٠٠٠', '1.7e9', '0x65537ec0', '1,700,000,000', 'a1700000000', '17000000 00', '170000000-1', '1700000000000000000', 'now', '-', '1700000000_'.replace('_', '0'), '９９９９９９９９９９', '1700000000日', '12345678901234567890', '00000000000', "'1700000000'"];
for (const k of [...good, ...bad]) out.push(['unix', k, unixms(k)]);
// snowflake, by BigInt
const snow = (k, epoch) => { if (!/^[1-9][0-9]*$/.test(k)) return 'bad'; const n = BigInt(k); return n > 9223372036854775807n ? 'bad' : Number((n >> 22n) + BigInt(epoch)); };
good = ['1', '4194303', '4194304', '4194305', '9223372036854775807', '9223372036854775806', '1541815603606036480', '175928847299117063', '20', '922337203685477580'];
while (good.length < 32) good.push(String((BigInt(rnd(1000000)) * 1000000n + BigInt(rnd(1000000))) * 4194304n % 9223372036854775807n + BigInt(rnd(4194304)) + 1n));
bad = ['0', '-1', '+1', '01', '00', ' 1', '1 ', '1.0', '1e18', '9223372036854775808', '18446744073709551615', '99999999999999999999', '10000000000000000000', 'x', '1x', 'x1', '0x10', '1_000', '1-2', '١', '１', '-9223372036854775808', '1\u0000'.replace('\u0000', '\u0001'), '9223372036854775807 ', '--1', '1'.repeat(20), '9'.repeat(1000), '1é', '1/2'];
good.forEach((k, i) => out.push([['snowflake', 'snowflake:1420070400000', 'snowflake:0', 'snowflake:1314220021721'][i % 4], k, snow(k, [1288834974657, 1420070400000, 0, 1314220021721][i % 4])]));
for (const k of bad) out.push(['snowflake', k, snow(k, 0)]);
// date: the end of the day
const datems = k => { const m = /^([0-9]{4})([0-9]{2})([0-9]{2})(.*)$/su.exec(k) || /^([0-9]{4})-([0-9]{2})-([0-9]{2})(.*)$/su.exec(k); if (!m || alnum.test(m[4])) return 'bad'; const d = new Date(Date.UTC(2000, 0, 1)); d.setUTCFullYear(+m[1], +m[2] - 1, +m[3]); return +m[1] < 1 || d.getUTCMonth() !== +m[2] - 1 || d.getUTCDate() !== +m[3] ? 'bad' : d.getTime() + 86400000; };
good = ['00010101', '19700101', '19691231', '20000229', '2000-02-29', '2024-02-29', '20240229', '19000228', '20251231', '2025-12-31', '99991231', '9999-12-31', '0001-01-01', '15821015', '15821014', '2024-01-01-7', '20240101-7', '20240101/x', '2024-01-01T'.replace('T', ' 12:00'), '20240131.x', '2024-04-30_a', '20241130:1', '20240101#é', '2024-01-01' + '-' + 'y'.repeat(900)];
while (good.length < 32) { const d = new Date(rnd(1900000000) * 1000).toISOString().slice(0, 10); good.push(good.length % 2 ? d : d.replace(/-/g, '')); }
bad = ['20230229', '2023-02-29', '19000229', '20240230', '20241301', '20240001', '20240100', '20240132', '20240431', '2024-13-01', '2024-1-1', '240101', '2024010', '202401011', '20240101a', '2024-01-01T12:00', '2024-01-01é', '20240101é', '00000101', '0000-01-01', '2024-0101', '202401-01', '2024/01/01', ' 20240101', '-20240101', '01-01-2024', '2024-01-32', '٢٠٢٤٠١٠١', 'today', '20240101٣'];
for (const k of [...good, ...bad]) out.push(['date', k, datems(k)]);
for (const [f, k, ms] of out) console.log([f, encodeURIComponent(k).replace(/y{900}/, 'y{900}').replace(/9{1000}/, '9{1000}'), ms].join('\t'));
