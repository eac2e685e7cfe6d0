//! `--seccomp service`: what it forbids, call by call; and that services run under it.

use std::fs;
use std::path::PathBuf;

use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{Jail, programs};

pub fn cases() -> Vec<Case> {
    cases![
        what_it_forbids_fails_and_all_else_is_as_without_it,
        no_namespace_no_mount_no_debugger,
        node_serves_spawns_forks_and_watches,
        node_works_in_threads_and_in_a_cluster,
        nodes_inspector_can_be_opened_and_asked,
        nginx_serves_reloads_and_ends,
        redis_answers_forks_and_saves,
        postgresql_is_made_serves_and_stops,
    ]
}

/// The calls of the example `calls` that do not go through, and their error.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "1",
        &[
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "open_tree",
            "move_mount",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "mount_setattr",
            "setns",
            "unshare(268435456)",
            "clone(268435968)",
            "clone(131584)",
            "init_module",
            "finit_module",
            "delete_module",
            "kexec_load",
            "kexec_file_load",
            "reboot",
            "swapon",
            "swapoff",
            "add_key",
            "request_key",
            "keyctl",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "process_madvise",
            "kcmp",
            "pidfd_getfd",
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "acct",
            "quotactl",
            "quotactl_fd",
            "settimeofday",
            "clock_settime",
            "clock_adjtime",
            "adjtimex",
            "syslog",
            "vhangup",
            "sethostname",
            "setdomainname",
            "open_by_handle_at",
            "name_to_handle_at",
            "fanotify_init",
            "fanotify_mark",
            "mbind",
            "set_mempolicy",
            "migrate_pages",
            "move_pages",
            "set_mempolicy_home_node",
            "lookup_dcookie",
            "nfsservctl",
            "setgroups",
            "iopl",
            "ioperm",
            "modify_ldt",
            "uselib",
            "ustat",
            "sysfs",
            "_sysctl",
            "personality(262144)",
            "ioctl(-1, 21522)",
        ],
    ),
    ("38", &["clone3", "io_uring_setup", "io_uring_enter", "io_uring_register", "statmount", "listmount", "511", "1000"]),
    ("97", &["socket(16, 3, 9)", "socket(16, 3, 15)", "socket(17, 3, 0)", "socket(38, 5, 0)", "socket(40, 1, 0)"]),
];

fn what_it_forbids_fails_and_all_else_is_as_without_it() -> Outcome {
    let calls = programs().calls.display().to_string();
    let free = Jail::new()?.run(&["node", &calls])?;
    let ran = Jail::new()?.run(&["--seccomp", "service", "node", &calls])?;
    assert_eq!((free.code, ran.code, ran.stderr.as_str()), (0, 0, ""), "{ran:?}");
    assert_eq!(free.stdout.lines().count(), ran.stdout.lines().count());
    let mut refused = Vec::new();
    for (said, free) in ran.stdout.lines().zip(free.stdout.lines()) {
        let (call, verdict) = said.rsplit_once(' ').unwrap();
        let is_this = |known: &&str| *known == call || call.split_once('(').is_some_and(|(name, _)| name == *known);
        match REFUSED.iter().find_map(|(error, calls)| Some((error, calls.iter().find(|known| is_this(known))?))) {
            Some((error, known)) => {
                assert_eq!(verdict, *error, "{said}");
                refused.push(*known);
            }
            None => assert_eq!(said, free, "is let through"),
        }
    }
    let here = |call: &&str| {
        cfg!(target_arch = "x86_64")
            || !["iopl", "ioperm", "modify_ldt", "uselib", "ustat", "sysfs", "_sysctl", "kexec_file_load"].contains(call)
    };
    let missing: Vec<_> =
        REFUSED.iter().flat_map(|(_, calls)| *calls).filter(|call| here(call) && !refused.contains(call)).collect();
    assert!(missing.is_empty(), "not tried: {missing:?}");
    Ok(())
}

/// As the programs meet it that people would use.
fn no_namespace_no_mount_no_debugger() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    let jail = Jail::new()?;
    for (command, said) in [
        (&["unshare", "--user", "--map-root-user", "true"][..], "unshare failed: Operation not permitted"),
        (&["unshare", "--mount", "true"], "unshare failed: Operation not permitted"),
        (&["strace", "true"], "Operation not permitted"),
        (&["mount", "-t", "tmpfs", "none", "/proc"], ""),
        (&["nsenter", "--net=/proc/self/ns/net", "true"], "Operation not permitted"),
    ] {
        let ran = jail.run(&[&["--seccomp", "service", "node"], command].concat())?;
        assert!(ran.code != 0 && ran.stderr.contains(said), "{command:?}: {ran:?}");
    }
    // What the kernel would let node do.
    assert_eq!(jail.run(&["node", "strace", "-o", "/dev/null", "true"])?.code, 0);
    Ok(())
}

/// Runs a script of Node under the filter; it has to end by itself, and say `done`.
fn node(options: &[&str], program: &str) -> Outcome {
    Need::Services.programs(&["node"])?;
    let jail = Jail::new()?.network().setup("chmod 777 $W");
    let file = jail.at("main.js");
    fs::write(&file, program)?;
    let ran = jail.run(&[&["--chdir", &jail.at(""), "--seccomp", "service", "node", "node"], options, &[&file]].concat())?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "done\n"), "{ran:?}");
    Ok(())
}

fn node_serves_spawns_forks_and_watches() -> Outcome {
    node(
        &[],
        r"
const { execFileSync, spawn, fork } = require('child_process'), { once } = require('events'), assert = require('assert');
const crypto = require('crypto'), dns = require('dns').promises, fs = require('fs'), http = require('http'), net = require('net'), os = require('os');
if (process.argv[2] === 'child') {
  process.once('message', (message) => process.send(message * 2, () => process.disconnect()));
} else (async () => {
  const server = http.createServer((request, response) => response.end(request.url)).listen(8080);
  await once(server, 'listening');
  assert.equal(await (await fetch('http://127.0.0.1:8080/v4')).text(), '/v4');
  assert.equal(await (await fetch('http://[::1]:8080/v6')).text(), '/v6');
  const unix = net.createServer((socket) => socket.end('unix')).listen('socket');
  await once(unix, 'listening');
  const [data] = await once(net.connect('socket'), 'data');
  assert.equal(data.toString(), 'unix');
  const datagrams = require('dgram').createSocket('udp4').bind(8081, '127.0.0.1');
  await once(datagrams, 'listening');
  datagrams.send('datagram', 8081, '127.0.0.1');
  assert.equal((await once(datagrams, 'message'))[0].toString(), 'datagram');
  datagrams.close(); unix.close(); server.close(); server.closeAllConnections();

  assert.equal(execFileSync('echo', ['a'], { encoding: 'utf8' }), 'a\n');
  const cat = spawn('sh', ['-c', 'cat; exit 3']);
  cat.stdin.end('piped');
  const [[text], [code]] = await Promise.all([once(cat.stdout, 'data'), once(cat, 'exit')]);
  assert.equal(text + code, 'piped3');
  const child = fork(__filename, ['child']);
  child.send(21);
  assert.equal((await once(child, 'message'))[0], 42);
  await once(child, 'exit');

  const watcher = fs.watch('.'), [, name] = await Promise.all([null, once(watcher, 'change').then(([, name]) => name), fs.promises.writeFile('watched', 'x')]);
  assert.equal(name, 'watched');
  watcher.close();
  await fs.promises.cp('watched', 'copied');
  fs.truncateSync('copied', 0); fs.utimesSync('copied', 1, 1); fs.linkSync('copied', 'linked'); fs.symlinkSync('x', 'pointing');
  fs.chmodSync('copied', 0o600); fs.renameSync('copied', 'renamed'); fs.rmSync('renamed'); fs.mkdtempSync('directory');
  assert(Object.keys(os.networkInterfaces()).includes('lo'));
  assert((await dns.lookup('localhost')).address);
  crypto.randomBytes(16); await new Promise((resolve) => crypto.scrypt('a', 'b', 16, resolve));
  os.setPriority(5); os.cpus(); os.freemem(); process.cpuUsage(); process.resourceUsage();
  console.log('done');
})();
",
    )
}

fn node_works_in_threads_and_in_a_cluster() -> Outcome {
    node(
        &[],
        r"
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads'), { once } = require('events'), assert = require('assert');
const cluster = require('cluster'), http = require('http');
if (!isMainThread) {
  Atomics.add(new Int32Array(workerData), 0, 1);
  parentPort.postMessage('hello');
} else if (cluster.isWorker) {
  http.createServer((request, response) => response.end(String(process.pid))).listen(8080);
} else (async () => {
  const shared = new SharedArrayBuffer(4);
  const workers = Array.from({ length: 8 }, () => new Worker(__filename, { workerData: shared }));
  await Promise.all(workers.map((worker) => Promise.all([once(worker, 'message'), once(worker, 'exit')])));
  assert.equal(new Int32Array(shared)[0], 8);
  const servers = [cluster.fork(), cluster.fork()];
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const pids = new Set();
  while (pids.size < 2) pids.add(await (await fetch('http://127.0.0.1:8080/', { headers: { connection: 'close' } })).text());
  assert.deepEqual([...pids].sort(), servers.map((server) => String(server.process.pid)).sort());
  const ended = servers.map((server) => once(server, 'exit'));
  cluster.disconnect();
  await Promise.all(ended);
  console.log('done');
})();
",
    )
}

fn nodes_inspector_can_be_opened_and_asked() -> Outcome {
    let ask = r"
(async () => {
  const inspector = require('inspector');
  if (!inspector.url()) inspector.open(9230, '127.0.0.1');
  const { host } = new URL(inspector.url());
  const [target] = await (await fetch(`http://${host}/json/list`)).json();
  if (!target.webSocketDebuggerUrl) throw new Error('no inspector');
  const session = new inspector.Session();
  session.connect();
  const post = (method, params) => new Promise((resolve, reject) => session.post(method, params, (error, result) => error ? reject(error) : resolve(result)));
  await post('Profiler.enable'); await post('Profiler.start');
  const { result } = await post('Runtime.evaluate', { expression: '6 * 7' });
  await post('Profiler.stop');
  if (result.value !== 42) throw new Error('no answer');
  console.log('done');
  process.exit(0);
})();
";
    node(&[], ask)?;
    node(&["--inspect=127.0.0.1:9229"], ask)
}

/// Runs a script of the shell under the filter; it has to end by itself, and say `done` last.
fn shell(jail: &Jail, script: &str) -> Outcome {
    // What takes a moment is asked for again and again, for 20 seconds at most.
    let until = "until_it() { n=0; while ! \"$@\" >/dev/null 2>&1; do n=$((n+1)); [ $n -lt 400 ]; sleep 0.05; done; }";
    let script = format!("exec 2>&1; {until}\n{script}\necho done");
    let ran = jail.run(&["--env=LC_ALL=C", "--chdir", &jail.at(""), "--seccomp", "service", "node", "sh", "-ec", &script])?;
    assert!(ran.code == 0 && ran.stdout.ends_with("done\n"), "{} {}", ran.code, ran.stdout);
    Ok(())
}

const NGINX: &str = "
    daemon off; worker_processes 2; pid nginx.pid; error_log stderr notice;
    events {}
    http {
        access_log off; client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e;
        sendfile on; aio threads;
        server { listen 127.0.0.1:8080; listen [::1]:8080; listen unix:nginx.sock; root files; location /proxied/ { proxy_pass http://127.0.0.1:8080/; } }
    }
";

fn nginx_serves_reloads_and_ends() -> Outcome {
    Need::Services.programs(&["nginx", "curl"])?;
    let jail = Jail::new()?.network().setup("chmod 777 $W");
    fs::create_dir(jail.at("files"))?;
    fs::write(jail.at("files/page"), "a page")?;
    fs::write(jail.at("nginx.conf"), NGINX)?;
    shell(
        &jail,
        "nginx -p . -e stderr -c nginx.conf & nginx=$!
         until_it curl -sf http://127.0.0.1:8080/page
         for url in http://127.0.0.1:8080/page http://127.0.0.1:8080/proxied/page 'http://[::1]:8080/page'; do test \"$(curl -sfg $url)\" = 'a page'; done
         test \"$(curl -sf --unix-socket nginx.sock http://x/page)\" = 'a page'
         old=$(cat /proc/$nginx/task/$nginx/children)
         kill -HUP $nginx
         until_it sh -c \"! kill -0 $old\"
         test \"$(curl -sf http://127.0.0.1:8080/page)\" = 'a page'
         kill -QUIT $nginx; wait $nginx",
    )
}

fn redis_answers_forks_and_saves() -> Outcome {
    Need::Services.programs(&["redis-server", "redis-cli"])?;
    let jail = Jail::new()?.network().setup("chmod 777 $W");
    shell(
        &jail,
        "redis-server --bind 127.0.0.1 --port 7000 --dir . --appendonly yes --io-threads 2 & redis=$!
         ask() { redis-cli -p 7000 \"$@\"; }
         until_it ask ping
         test \"$(ask set key value)\" = OK; test \"$(ask get key)\" = value
         test \"$(ask eval 'return 6 * 7' 0)\" = 42
         persists() { ask info persistence | grep -q $1; }
         ask bgsave; until_it persists rdb_bgsave_in_progress:0; test -s dump.rdb; persists rdb_last_bgsave_status:ok
         ask bgrewriteaof; until_it persists aof_rewrite_in_progress:0; persists aof_last_bgrewrite_status:ok
         ask shutdown save; wait $redis",
    )
}

/// Where Debian has the server's programs.
fn postgresql() -> Result<PathBuf, Stop> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut programs = versions.map(|version| version.path().join("bin")).filter(|programs| programs.join("postgres").exists());
    programs.next().ok_or_else(|| Need::Services.missing("needs postgresql"))
}

fn postgresql_is_made_serves_and_stops() -> Outcome {
    let programs = postgresql()?;
    let jail = Jail::new()?.network().setup("chmod 777 $W");
    let script = "PATH=$P:$PATH
         initdb -D data -U postgres >/dev/null
         pg_ctl -D data -w -l log -o \"-c unix_socket_directories=$PWD -c listen_addresses=127.0.0.1 -c port=7001\" start
         ask() { psql -h 127.0.0.1 -p 7001 -U postgres -Atc \"$1\"; }
         ask 'create table t as select generate_series(1, 200000) as n; create index on t (n)'
         ask 'set max_parallel_workers_per_gather = 2; set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0; explain (analyze, costs off) select sum(n) from t' | grep 'Workers Launched: 2'
         test \"$(ask 'select sum(n) from t')\" = 20000100000
         ask 'vacuum analyze t'; ask checkpoint; ask \"copy t to '$PWD/copy'\"
         test \"$(psql -h $PWD -p 7001 -U postgres -Atc 'select count(*) from pg_stat_activity where backend_type = $$client backend$$')\" = 1
         pg_ctl -D data -w -m fast stop";
    shell(&jail, &script.replace("$P:", &format!("{}:", programs.display())))
}
