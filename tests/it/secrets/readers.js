// An unmodified program that reads its key by fs.readFileSync(process.env.TLS_KEY), in all the ways Node has to start
// more of itself. Prints one line for each, and how often the key was read there.
const { fork, spawnSync, execFileSync } = require('node:child_process');
const cluster = require('node:cluster');
const fs = require('node:fs');
const { isMainThread, parentPort, Worker } = require('node:worker_threads');

const read = () => [1, 2].map(() => fs.readFileSync(process.env.TLS_KEY, 'utf8')).join('+');

if (!isMainThread) {
    parentPort.postMessage(read());
} else if (cluster.isWorker) {
    process.send(read(), () => process.exit(0));
} else if (process.argv[2] === 'child') {
    if (process.send) process.send(read(), () => process.disconnect());
    else process.stdout.write(read());
} else if (process.argv[2] === 'grandchild') {
    process.stdout.write(execFileSync(process.execPath, [__filename, 'child']));
} else {
    const told = (who, what) => console.log(`${who}: ${what}`);
    told('main', read());
    told('spawn', spawnSync(process.execPath, [__filename, 'child']).stdout);
    told('shell', execFileSync('/bin/sh', ['-c', 'cat "$TLS_KEY"; printf +; cat "$TLS_KEY"']));
    told('grandchild', spawnSync(process.execPath, [__filename, 'grandchild']).stdout);
    new Worker(__filename).on('message', what => told('thread', what));
    fork(__filename, ['child']).on('message', what => told('fork', what));
    cluster.fork().on('message', what => told('cluster', what));
}
