// A service that never was root: its port, its volume and its user were ready when it started.
// Nothing in here knows stepdown; the socket comes by the protocol of sd_listen_fds(3).
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const DATA_DIR = process.env.DATA_DIR || '/data';
const FIRST_DESCRIPTOR = 3;

// Where to listen: on the socket that was handed to this very process, else on a port of our own.
function address() {
  const handed = Number(process.env.LISTEN_FDS);
  if (!(handed >= 1) || Number(process.env.LISTEN_PID) !== process.pid) {
    return { port: Number(process.env.PORT) || 8080 };
  }
  const names = (process.env.LISTEN_FDNAMES || '').split(':');
  return { fd: FIRST_DESCRIPTOR + Math.max(names.indexOf('http'), 0) };
}

// What the kernel says of this process: the capability sets, and whether an execve could add to them.
function privileges() {
  const status = fs.readFileSync('/proc/self/status', 'utf8');
  const field = (name) => status.match(new RegExp(`^${name}:\\s*(.*)$`, 'm'))?.[1];
  const names = ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb', 'NoNewPrivs'];
  return Object.fromEntries(names.map((name) => [name, field(name)]));
}

function recordVisit(request) {
  if (!fs.existsSync(DATA_DIR)) return 'no data directory';
  try {
    fs.appendFileSync(path.join(DATA_DIR, 'visits.log'), `${new Date().toISOString()} ${request.method} ${request.url}\n`);
    return 'written';
  } catch (error) {
    return error.code;
  }
}

const server = http.createServer((request, response) => {
  const known = request.url === '/';
  const answer = known
    ? {
        pid: process.pid,
        uid: process.getuid(),
        gid: process.getgid(),
        groups: process.getgroups(),
        ...privileges(),
        data: recordVisit(request),
      }
    : { error: 'not found' };
  response.writeHead(known ? 200 : 404, { 'Content-Type': 'application/json' });
  response.end(`${JSON.stringify(answer)}\n`);
});

// PID 1 has no default action for signals: without a handler SIGTERM would be ignored.
function stop() {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
}
process.on('SIGTERM', stop);
process.on('SIGINT', stop);

server.listen(address(), () => console.log(`uid ${process.getuid()} serves`, server.address()));
