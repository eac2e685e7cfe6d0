//! The units that the container boots with, and the script that starts them.

/// Units that run once, by what stands in [Service]; stdout and stderr go to files of the unit's name.
pub const ONESHOTS: [(&str, &str); 26] = [
    (
        // The shell becomes the report, so that its pid is the command's.
        "handed",
        "ExecStart=stepdown --listen own=8082 --listen 127.0.0.1:8083 node -- \
         /bin/sh -c 'cat /proc/net/tcp6 /proc/net/tcp >&2; exec report'",
    ),
    ("plain", "Environment=HOME=/root SECRET=1\nExecStart=stepdown --unset-env SECRET node -- report"),
    ("bare", "ExecStart=report"),
    ("bounded", "CapabilityBoundingSet=CAP_SETUID CAP_SETGID\nExecStart=stepdown node -- report"),
    ("user", "User=node\nExecStart=stepdown node -- report"),
    ("user-ambient", "User=node\nAmbientCapabilities=CAP_NET_BIND_SERVICE\nExecStart=stepdown --listen low=81 node -- report"),
    ("user-other", "User=daemon\nExecStart=stepdown node -- report"),
    (
        "bang",
        "User=node\nStateDirectory=bang\nLoadCredential=secret:/etc/hostname\n\
         ExecStart=!stepdown --mkdir /var/lib/banged node -- /bin/sh -ec \
         'cat $CREDENTIALS_DIRECTORY/secret >&2; touch /var/lib/bang/x /var/lib/banged/x; exec report'",
    ),
    ("dynamic", "DynamicUser=yes\nExecStart=stepdown --if-root node -- report"),
    ("dynamic-switch", "DynamicUser=yes\nExecStart=stepdown node -- report"),
    ("no-new-privs", "NoNewPrivileges=yes\nExecStart=stepdown node -- report"),
    ("no-fixup", "SecureBits=no-setuid-fixup\nExecStart=stepdown node -- report"),
    ("noroot", "SecureBits=noroot\nExecStart=stepdown node -- report"),
    ("filtered", "SystemCallFilter=@system-service\nExecStart=stepdown --mkdir /var/lib/filtered --listen 8084 node -- report"),
    ("filtered-setuid", "SystemCallFilter=~@setuid\nSystemCallErrorNumber=EPERM\nExecStart=stepdown node -- report"),
    ("filtered-capset", "SystemCallFilter=~capset\nSystemCallErrorNumber=EPERM\nExecStart=stepdown node -- report"),
    ("private-users", "PrivateUsers=yes\nExecStart=stepdown node -- report"),
    ("refused", "ExecStart=stepdown no-such-user -- report"),
    ("chore-failed", "ExecStart=stepdown --chown /no/such/path node -- report"),
    ("missing", "ExecStart=stepdown node -- /no/such/command"),
    ("unusable", "ExecStart=stepdown node -- /etc/passwd"),
    ("own-code", "ExecStart=stepdown node -- /bin/sh -c 'exit 42'"),
    (
        "stream",
        "ExecStart=stepdown node -- /bin/sh -c 'echo $$JOURNAL_STREAM $$(stat -L -c %%d:%%i /dev/fd/2); echo what node says to the journal >&2'\nStandardError=journal",
    ),
    (
        // A file that only root can read, and nothing but what the examples leave root.
        "secret",
        "CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_SETPCAP\nExecStart=stepdown --secret KEY=/etc/key node -- /usr/bin/node -e '\
         const fs = require(\"fs\"); let code; try { fs.readFileSync(\"/etc/key\") } catch (error) { code = error.code } \
         const read = () => fs.readFileSync(process.env.KEY, \"utf8\"); \
         process.stdout.write([process.getuid(), read().trim() + \":\" + (read() === read()), code].join(\" \"))'",
    ),
    ("init", "ExecStart=stepdown --init --listen 8086 node -- report"),
    ("notify", "ExecStart=stepdown node -- /bin/systemd-notify --ready\nType=notify"),
];

/// The other units, as files.
pub const FILES: [(&str, &str); 6] = [
    ("handed.socket", "[Socket]\nListenStream=8080\nListenStream=/run/handed.sock\nFileDescriptorName=web\nRemoveOnStop=yes\n"),
    (
        "ready.service",
        "[Service]\nType=notify\nNotifyAccess=all\nTimeoutStartSec=20\nWatchdogSec=20\nStandardOutput=truncate:/out/ready.out\n\
         ExecStart=stepdown --listen 8090 node -- /usr/bin/node /etc/systemd/system/ready.js\n",
    ),
    // SIGTERM goes to the main process alone, which is the supervisor.
    (
        "init-exec.service",
        "[Service]\nType=exec\nKillMode=mixed\nStandardOutput=truncate:/out/init-exec.out\nExecStart=stepdown --init node -- \
         /bin/sh -c 'trap \"echo stopped; exit 0\" TERM; echo started; while :; do sleep 60 & wait; done'\n",
    ),
    (
        "init-notify.service",
        "[Service]\nType=notify\nNotifyAccess=all\nKillMode=mixed\nTimeoutStartSec=20\nStandardOutput=truncate:/out/init-notify.out\n\
         ExecStart=stepdown --init --rewrite TERM=USR1 --exit-as 138=0 node -- \
         /bin/sh -c 'systemd-notify --ready; echo started; while :; do sleep 60; done'\n",
    ),
    ("inetd.socket", "[Socket]\nListenStream=127.0.0.1:8085\nAccept=yes\n"),
    (
        "inetd@.service",
        "[Service]\nStandardInput=socket\nStandardError=append:/out/inetd.err\nExecStart=stepdown node -- report\n",
    ),
];

/// What the container boots into. systemd-run needs the bus.
pub const PROBE_UNIT: &str = "\
[Unit]
Wants=dbus.socket
After=dbus.socket
[Service]
Type=oneshot
ExecStart=/bin/bash /etc/systemd/system/probe.sh
";

/// Starts the units, asks the examples over HTTP, and ends the container. Runs in it as its last unit.
pub const PROBE: &str = r#"
exec 2>/out/probe.log
set -x
stepdown --version >/out/version || { systemctl exit 9; exit; }
report >/dev/null || { systemctl exit 9; exit; }
ask() ( exec 5<>/dev/tcp/127.0.0.1/$1 && printf 'GET / HTTP/1.0\r\nHost: localhost\r\n\r\n' >&5 && timeout 20 cat <&5 )
results() { systemctl show --property=Id,Result,ExecMainStatus "$@"; }
state() { p=$(systemctl show --value --property=MainPID $1); tr '\0' '\n' </proc/$p/cmdline; cat /proc/$p/status; find /var/lib/app -exec stat -c '%n %u:%g %a' {} +; }

systemd-analyze verify --man=no /etc/systemd/system/{app,https}*.s* >/out/verify 2>&1; echo "exit code $?" >>/out/verify
install -m 600 <(printf 'root:x') /etc/key
systemctl start handed.socket inetd.socket
systemctl start $ONESHOTS
results $ONESHOTS >/out/results
ask 8085 >/out/inetd.out
systemd-run --quiet --wait --pipe stepdown node -- report </dev/null 2>/out/run.err | cat >/out/run.out
# As `machinectl shell` does: a unit on a terminal that is made for it.
script -qec "systemd-run --quiet --wait --pty stepdown node -- stat -Lc owner=%u:%a /dev/fd/0" /out/pty.out

systemctl start ready.service
systemctl show --property=ActiveState,StatusText,MainPID ready.service >/out/ready.state
systemctl stop ready.service
results ready.service >/out/ready.results

systemctl start init-exec.service init-notify.service
for unit in init-exec init-notify; do
    until grep -q started /out/$unit.out; do sleep 0.1; done
    systemctl show --value --property=ActiveState $unit.service >/out/$unit.state
    p=$(systemctl show --value --property=MainPID $unit.service); cat /proc/$p/comm /proc/$p/status >>/out/$unit.state
done
systemctl stop init-exec.service init-notify.service
results init-exec.service init-notify.service >/out/init.results

# Somebody else's, closed to all but its owner: what the example's CapabilityBoundingSet= has to be enough for.
install -d -o daemon -m 700 /var/lib/app /var/lib/app/sub
install -o games -m 600 /dev/null /var/lib/app/sub/file
systemctl start app.socket
ask 80 >/out/app.http
state app.service >/out/app.state
systemctl stop app.socket app.service
results app.service >/out/app.results
rm -rf /var/lib/app
systemctl start app-listen.service
# Type=exec is done before the port is open.
for i in {1..100}; do ask 80 >/out/app-listen.http && break; sleep 0.1; done
state app-listen.service >/out/app-listen.state
systemctl stop app-listen.service
results app-listen.service >/out/app-listen.results
# The smallest Debian has no such file.
echo 127.0.0.1 localhost >/etc/hosts
systemctl start https.service
for i in {1..50}; do NODE_EXTRA_CA_CERTS=/etc/https/fullchain.pem node -e "
    fetch('http://localhost/').then((response) => response.text()).then(console.log)" >/out/https.http && break; sleep 0.1; done
stat -c '%a %u' /etc/https/privkey.pem >/out/https.key
systemctl stop https.service
results https.service >/out/https.results
journalctl --no-pager --output=cat >/out/journal 2>&1
systemctl exit 0
"#;

/// Stands in for examples/node/server.js where that is not there.
pub const SERVER: &str = "\
require('http').createServer((_, response) => response.end(JSON.stringify({ uid: process.getuid() })))
  .listen({ fd: 3 }, () => { process.on('SIGTERM', () => process.exit(0)); });
";

/// A service that says when it is ready, by systemd's own program: there is no datagram socket for it in Node.
pub const READY: &str = r#"
const { NOTIFY_SOCKET, WATCHDOG_PID, WATCHDOG_USEC } = process.env;
process.on('SIGTERM', () => process.exit(0));
require('node:http').createServer().listen({ fd: 3 }, () => {
    console.log(JSON.stringify({ pid: process.pid, uid: process.getuid(), NOTIFY_SOCKET, WATCHDOG_PID, WATCHDOG_USEC }));
    require('node:child_process').execFileSync('systemd-notify', ['--ready', '--status=listening']);
});
"#;
