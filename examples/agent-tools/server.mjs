// The tool server, on standard input and output. With --operator it also has the tools for a human.
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import pg from 'pg';
import * as once from './once.mjs';
import { operatorTools, tools } from './tools.mjs';

const pool = new pg.Pool({ max: 4 });
pool.on('error', () => {});
pool.on('connect', (client) => client.on('error', () => {}));

const server = new McpServer({ name: 'payments-and-mail', version: '1.0.0' });
tools(server, pool, once);
if (process.argv.includes('--operator')) operatorTools(server, pool);
await server.connect(new StdioServerTransport());
