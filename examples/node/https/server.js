// HTTPS on 443, and HTTP on 80 that redirects to it: a program as people write it, which knows nothing of stepdown,
// of descriptors, or of who may bind a port and read a key.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');

const { TLS_KEY, TLS_CERT } = process.env;

function app(request, response) {
  const status = fs.readFileSync('/proc/self/status', 'utf8');
  const sets = Object.fromEntries([...status.matchAll(/^(Cap\w+|NoNewPrivs):\t(\w+)$/gm)].map(([, name, value]) => [name, value]));
  response.setHeader('Content-Type', 'application/json');
  response.end(`${JSON.stringify({ pid: process.pid, uid: process.getuid(), groups: process.getgroups(), ...sets })}\n`);
}

function redirect(request, response) {
  const host = request.headers.host?.replace(/:\d+$/, '');
  if (!host || !request.url.startsWith('/')) return response.writeHead(400).end();
  return response.writeHead(308, { Location: `https://${host}${request.url}` }).end();
}

const servers = [
  https.createServer({ key: fs.readFileSync(TLS_KEY), cert: fs.readFileSync(TLS_CERT) }, app).listen(443),
  http.createServer(redirect).listen(80),
];

// PID 1 has no default action for signals.
function stop() {
  for (const server of servers) {
    server.close();
    server.closeIdleConnections();
  }
}
process.on('SIGTERM', stop);
process.on('SIGINT', stop);
