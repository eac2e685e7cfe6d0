// Lets an unmodified Node program listen on the sockets it was handed: `server.listen(80)` takes the inherited socket
// that is bound to port 80, by the protocol of sd_listen_fds(3). For Node 18 and later, on Linux:
//
//   stepdown --listen 80 --env NODE_OPTIONS=--require=/usr/local/lib/listen-fds.cjs node -- node server.js
//
// What is taken: the socket of exactly the address that the program asks for, once. No address, or 0.0.0.0, is also
// served by [::], which takes IPv4 clients too; 127.0.0.1 never is. Whatever was not handed over is bound as always.
//
// Every TCP and Unix server of Node (http, https, http2, frameworks) gets its handle in one of two functions, after
// all names and arguments have been worked out: net.Server.prototype._listen2, which Node keeps under this name for
// code that wraps it, and net._createServerHandle, for the handles that a cluster's primary shares. Workers ask their
// primary, so they need to know of no descriptor. NODE_DEBUG=listen-fds tells what is taken.
'use strict';

const FIRST = 3; // SD_LISTEN_FDS_START
const IPV6_ONLY = 1; // UV_TCP_IPV6ONLY

// Children, cluster's workers too, inherit the variables and not the sockets; a worker thread has our pid and copies
// of the variables, and two owners of one descriptor would close it for each other.
const count = /^[1-9]\d{0,5}$/.test(process.env.LISTEN_FDS) ? Number(process.env.LISTEN_FDS) : 0;
if (count > 0 && process.env.LISTEN_PID === String(process.pid) && require('node:worker_threads').isMainThread) takeOver();

function takeOver() {
  const fs = require('node:fs');
  const net = require('node:net');
  const path = require('node:path');
  const debug = require('node:util').debuglog('listen-fds');
  const listen = net.Server.prototype._listen2;
  const createHandle = net._createServerHandle;
  let sockets; // looked at when the program first listens: it may have taken some by {fd} before

  net.Server.prototype._listen2 = function (address, port, type, backlog, fd, flags) {
    const socket = this._handle ? undefined : find(address, port, fd, flags);
    if (!socket) return listen.apply(this, arguments);
    this._handle = lend(socket, this);
    return listen.call(this, socket.address, port, socket.family, backlog, undefined, flags);
  };

  net._createServerHandle = function (address, port, type, fd, flags) {
    const socket = find(address, port, fd, flags);
    return socket ? lend(socket) : createHandle.apply(this, arguments);
  };

  // The socket for an address, unless it is taken. Where the port is -1, the address is a path.
  function find(address, port, fd, flags) {
    sockets ??= Array.from({ length: count }, (_, index) => inherited(FIRST + index)).filter(Boolean);
    if (fd >= 0) {
      // The program knows of it by itself.
      sockets = sockets.filter((socket) => socket.fd !== fd);
      return undefined;
    }
    // That both are there is the proof that [::] has no IPv4.
    const dual = !sockets.some((socket) => socket.address === '0.0.0.0' && socket.port === port);
    let wanted = [address];
    if (port === -1) wanted = [address[0] === '\0' ? address : path.resolve(address)];
    else if (!address) wanted = ['::', '0.0.0.0'];
    else if (address === '0.0.0.0' && dual) wanted = ['::'];
    else if (flags & IPV6_ONLY && dual) wanted = [];
    const fits = (name) => sockets.find((socket) => !socket.lent && socket.port === port && socket.address === name);
    const found = wanted.map(fits).find(Boolean);
    debug('%s port %s: %s', address ?? 'any address', port, found ? `descriptor ${found.fd}` : 'not handed over');
    return found;
  }

  // What a descriptor is; nothing where it is no stream socket.
  function inherited(fd) {
    try {
      const facts = fs.fstatSync(fd);
      const handle = facts.isSocket() ? createHandle(null, null, null, fd) : undefined;
      if (typeof handle?.listen !== 'function') return undefined;
      const name = {};
      if (!handle.getsockname) return { fd, handle, address: unixPath(facts.ino), port: -1, family: -1 };
      handle.getsockname(name);
      return { fd, handle, address: name.address, port: name.port, family: name.family === 'IPv6' ? 6 : 4 };
    } catch (error) {
      debug('descriptor %d: %s', fd, error.message);
      return undefined;
    }
  }

  // Node has no getsockname for Unix sockets. Paths may have line ends in them, with which others could make up a
  // line for our inode: two are one too many.
  function unixPath(inode) {
    const line = new RegExp(`^\\S+: \\S+ \\S+ 00010000 0001 01 +${inode} (.*)$`, 'gm');
    const found = [...fs.readFileSync('/proc/self/net/unix', 'utf8').matchAll(line)];
    return found.length === 1 ? found[0][1].replace(/^@/, '\0') : undefined;
  }

  // Gives the handle away. Closed by its server, it is gone: Node can't duplicate a descriptor. But a cluster's primary
  // closes one when the last worker has gone, though the next worker may ask for it again.
  function lend(socket, server) {
    const { handle } = socket;
    for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'LISTEN_PIDFDID']) delete process.env[name];
    socket.lent = true;
    handle.ref();
    handle.close = function (callback) {
      if (server?._handle === handle) {
        delete handle.close;
        return handle.close(callback);
      }
      handle.onconnection = (status, client) => client?.close();
      handle.unref();
      socket.lent = false;
    };
    return handle;
  }
}
