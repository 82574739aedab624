// The receiver: POST / with the headers Delivery-Id and Signature. SECRET is what the sender signs with.
import http from 'node:http';
import pg from 'pg';
import { genuine, receive } from './receive.mjs';

export function serve(pool, receiver) {
  pool.on('error', () => {});
  pool.on('connect', (client) => client.on('error', () => {}));
  const server = http.createServer(async (req, res) => {
    const chunks = [];
    let status;
    try {
      for await (const chunk of req) chunks.push(chunk);
      const body = Buffer.concat(chunks).toString();
      status = genuine(process.env.SECRET, req.headers.signature, body)
        ? await receiver(pool, { id: req.headers['delivery-id'], ...JSON.parse(body) }) : 401;
    } catch {
      status = 503; // no connection to the database, or half a request
    }
    res.writeHead(status).end();
  });
  server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => console.log(`listening ${server.address().port}`));
}

if (process.argv[1] === new URL(import.meta.url).pathname) serve(new pg.Pool({ max: 10 }), receive);
