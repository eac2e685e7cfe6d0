//! systemd: a real one is booted once, in a container, with a unit for each promise; the cases read what came of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::cases;
use crate::docker;
use crate::harness::{self, Case, Need, Outcome, Stop};
use crate::jail::{self, Jail, Ran};
use crate::report::Report;

pub fn cases() -> Vec<Case> {
    cases![
        sockets_of_a_socket_unit_come_first_and_keep_their_names_and_ours_follow,
        an_accepted_connection_is_the_commands_stdin_and_stdout,
        sockets_of_socket_activate_are_handed_on,
        the_command_has_the_targets_environment_and_systemds,
        with_setuid_and_setgid_in_the_bounding_set_it_switches,
        under_user_it_is_the_target_already,
        under_user_ambient_capabilities_bind_the_port_and_are_given_up,
        under_user_of_another_it_refuses,
        with_an_exclamation_mark_user_names_the_owner_of_directories_and_credentials,
        under_dynamic_user_if_root_runs_as_that_user,
        under_no_new_privileges_it_switches,
        securebits_keep_no_capability,
        under_a_system_call_filter_it_switches_or_refuses,
        in_a_user_namespace_of_systemds_it_says_so,
        what_fails_is_the_units_exit_status,
        a_notify_service_is_the_command_itself,
        systemd_run_gives_the_command_its_pipes,
        the_examples_pass_systemd_analyze_verify,
        the_example_with_a_socket_unit_answers_on_port_80,
        the_example_that_listens_itself_answers_on_port_80,
        the_https_example_answers_on_443_with_roots_key,
    ]
}

/// The user `node` of `scripts/make-systemd-root`.
const NODES: [u64; 3] = [4, 100, 1000];

/// Units that run once, by what stands in [Service]; stdout and stderr go to files of the unit's name.
const ONESHOTS: [(&str, &str); 23] = [
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
    ("notify", "ExecStart=stepdown node -- /bin/systemd-notify --ready\nType=notify"),
];

/// The other units, as files.
const FILES: [(&str, &str); 3] = [
    ("handed.socket", "[Socket]\nListenStream=8080\nListenStream=/run/handed.sock\nFileDescriptorName=web\nRemoveOnStop=yes\n"),
    ("inetd.socket", "[Socket]\nListenStream=127.0.0.1:8085\nAccept=yes\n"),
    (
        "inetd@.service",
        "[Service]\nStandardInput=socket\nStandardError=append:/out/inetd.err\nExecStart=stepdown node -- report\n",
    ),
];

/// What the container boots into. systemd-run needs the bus.
const PROBE_UNIT: &str = "\
[Unit]
Wants=dbus.socket
After=dbus.socket
[Service]
Type=oneshot
ExecStart=/bin/bash /etc/systemd/system/probe.sh
";

/// Starts the units, asks the examples over HTTP, and ends the container. Runs in it as its last unit.
const PROBE: &str = r#"
exec 2>/out/probe.log
set -x
stepdown --version >/out/version || { systemctl exit 9; exit; }
report >/dev/null || { systemctl exit 9; exit; }
ask() ( exec 5<>/dev/tcp/127.0.0.1/$1 && printf 'GET / HTTP/1.0\r\nHost: localhost\r\n\r\n' >&5 && timeout 20 cat <&5 )
results() { systemctl show --property=Id,Result,ExecMainStatus "$@"; }
state() { p=$(systemctl show --value --property=MainPID $1); tr '\0' '\n' </proc/$p/cmdline; cat /proc/$p/status; find /var/lib/app -exec stat -c '%n %u:%g %a' {} +; }

systemd-analyze verify --man=no /etc/systemd/system/{app,https}*.s* >/out/verify 2>&1; echo "exit code $?" >>/out/verify
systemctl start handed.socket inetd.socket
systemctl start $ONESHOTS
results $ONESHOTS >/out/results
ask 8085 >/out/inetd.out
systemd-run --quiet --wait --pipe stepdown node -- report </dev/null 2>/out/run.err | cat >/out/run.out

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
const SERVER: &str = "\
require('http').createServer((_, response) => response.end(JSON.stringify({ uid: process.getuid() })))
  .listen({ fd: 3 }, () => { process.on('SIGTERM', () => process.exit(0)); });
";

/// What a boot left behind.
struct Booted {
    /// What the units wrote, by the files' names.
    files: BTreeMap<String, String>,
    /// How the container ended.
    ran: Ran,
}

impl Booted {
    fn text(&self, file: &str) -> Result<&str, Stop> {
        let missing = || Stop::Fail(format!("no {file} in {:?}; the container: {:?}", self.files.keys(), self.ran));
        Ok(self.files.get(file).ok_or_else(missing)?.as_str())
    }

    /// What the command of a unit said it got.
    fn report(&self, unit: &str) -> Result<Report, Stop> {
        let text = self.text(&format!("{unit}.out"))?;
        let stderr = self.files.get(&format!("{unit}.err"));
        let no_report = |error| Stop::Fail(format!("{unit} made no report: {error}: {text:?}, {stderr:?}"));
        serde_json::from_str(text).map(Report).map_err(no_report)
    }

    /// `Result=` and `ExecMainStatus=` of a unit.
    fn result(&self, file: &str, unit: &str) -> Result<(String, i32), Stop> {
        let id = format!("Id={unit}.service");
        let text = self.text(file)?;
        let block = text.split("\n\n").find(|block| block.lines().any(|line| line == id));
        let value = |name: &str| block?.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let status = value("ExecMainStatus").and_then(|status| status.parse().ok());
        match (value("Result"), status) {
            (Some(result), Some(status)) => Ok((result.to_owned(), status)),
            _ => Err(Stop::Fail(format!("no result of {unit} in {text:?}"))),
        }
    }

    /// Asserts that a unit failed with this exit status, having said this.
    fn refused(&self, unit: &str, status: i32, said: &str) -> Outcome {
        let code = self.result("results", unit)?;
        let stderr = self.text(&format!("{unit}.err"))?.to_owned();
        let stdout = self.text(&format!("{unit}.out"))?.to_owned();
        assert_eq!(code, ("exit-code".to_owned(), status), "{unit}: {stderr}");
        assert_eq!(stdout, "", "{unit}: no command may have run");
        Ran { code: status, stdout, stderr }.refused(status, said);
        Ok(())
    }
}

/// Boots once, whichever case comes first.
fn boot() -> Result<&'static Booted, Stop> {
    static BOOTED: OnceLock<Result<Booted, String>> = OnceLock::new();
    harness::root()?;
    Need::Systemd.programs(&["systemd-nspawn", "mmdebstrap", "flock", "timeout", "openssl"])?;
    match BOOTED.get_or_init(|| root().and_then(|root| run(&root))) {
        Ok(booted) => Ok(booted),
        Err(why) => Err(Need::Systemd.missing(why)),
    }
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The root file system, made at the first run and kept among what cargo built.
fn root() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-images").join("systemd-root");
    let made = Command::new(source("scripts/make-systemd-root")).arg(&root).output().map_err(|error| error.to_string())?;
    if made.status.success() {
        Ok(root)
    } else {
        Err(format!("scripts/make-systemd-root: {}", String::from_utf8_lossy(&made.stderr)))
    }
}

/// Boots the root file system, which stays as it is, and collects what the units wrote.
fn run(root: &Path) -> Result<Booted, String> {
    let said = |error: std::io::Error| error.to_string();
    let directory = jail::open_directory();
    let at = |name: &str| directory.path().join(name);
    for name in ["units", "out", "app", "https", "tls"] {
        fs::create_dir(at(name)).map_err(said)?;
    }
    furnish(&at("units"), &at("app")).map_err(said)?;
    fs::copy(source("examples/node/https/server.js"), at("https").join("server.js")).map_err(said)?;
    docker::certificate(&at("tls")).map_err(|_| "openssl makes no certificate")?;
    let bind = |option: &str, from: &Path, to: &str| format!("--{option}={}:{to}", from.display());
    let programs = jail::programs();
    // The lock: with --keep-unit every container here is in the same cgroups, so one is booted at a time. The
    // time: what hangs is killed with all it started.
    let booted = Command::new("flock")
        .args(["--close", "/sys/fs/cgroup", "timeout", "--kill-after=5", "120"])
        .args(["systemd-nspawn", "--quiet", "--volatile=overlay", "--private-network", "--register=no", "--keep-unit"])
        .args(["--console=pipe", "--machine=stepdown-test", "--directory"])
        .arg(root)
        .arg(bind("bind-ro", &programs.stepdown, "/usr/local/bin/stepdown"))
        .arg(bind("bind-ro", &programs.report, "/usr/local/bin/report"))
        .arg(bind("bind-ro", &at("units"), "/etc/systemd/system"))
        .arg(bind("bind-ro", &at("app"), "/srv/app"))
        .arg(bind("bind-ro", &at("https"), "/srv/https"))
        .arg(bind("bind-ro", &at("tls"), "/etc/https"))
        .arg(bind("bind-ro", &source("examples/node/listen-fds.cjs"), "/usr/local/lib/listen-fds.cjs"))
        .arg(bind("bind", &at("out"), "/out"))
        .args(["--boot", "systemd.unit=probe.service"])
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(said)?;
    let ran = Ran::of(booted);
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(at("out")).map_err(said)?.flatten() {
        let content = String::from_utf8_lossy(&fs::read(entry.path()).map_err(said)?).into_owned();
        files.insert(entry.file_name().to_string_lossy().into_owned(), content);
    }
    match ran.code {
        9 => Err("stepdown or report does not run in the container: build them static, for a musl target".to_owned()),
        // From here on it is the cases' to judge.
        _ if files.contains_key("version") => Ok(Booted { files, ran }),
        _ => Err(format!("systemd does not boot here: {ran:?}")),
    }
}

/// Writes the units and the server; the examples are the files that are published.
fn furnish(units: &Path, app: &Path) -> std::io::Result<()> {
    for (name, service) in ONESHOTS {
        let unit = format!(
            "[Service]\nType=oneshot\nTimeoutStartSec=20\nStandardOutput=truncate:/out/{name}.out\nStandardError=truncate:/out/{name}.err\n{service}\n"
        );
        fs::write(units.join(format!("{name}.service")), unit)?;
    }
    for (name, unit) in FILES {
        fs::write(units.join(name), unit)?;
    }
    for name in ["app.service", "app.socket", "app-listen.service", "https.service"] {
        fs::copy(source("examples/systemd").join(name), units.join(name))?;
    }
    let names: Vec<String> = ONESHOTS.iter().map(|(name, _)| format!("{name}.service")).collect();
    fs::write(units.join("probe.sh"), format!("ONESHOTS='{}'\n{PROBE}", names.join(" ")))?;
    fs::write(units.join("probe.service"), PROBE_UNIT)?;
    match fs::read(source("examples/node/server.js")) {
        Ok(server) => fs::write(app.join("server.js"), server),
        Err(_) => fs::write(app.join("server.js"), SERVER),
    }
}

/// The sockets that listen on a port, as /proc/self/fd shows them, in a table of proc_net_tcp (state 0A is listening).
fn listening(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let inode = |line: &str| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        [_, local, _, "0A", _, _, _, _, _, inode, ..] if local.ends_with(&suffix) => Some(format!("socket:[{inode}]")),
        _ => None,
    };
    table.lines().filter_map(inode).collect()
}

fn sockets_of_a_socket_unit_come_first_and_keep_their_names_and_ours_follow() -> Outcome {
    let booted = boot()?;
    let report = booted.report("handed")?;
    report.is_exactly(1000, 1000, &NODES);
    assert_eq!(report.variable("LISTEN_FDS").as_deref(), Some("4"));
    assert_eq!(report.variable("LISTEN_PID"), Some(report.number("pid").to_string()));
    assert_eq!(report.variable("LISTEN_FDNAMES").as_deref(), Some("web:web:own:unknown"));
    assert_eq!(report.descriptors(), [0, 1, 2, 3, 4, 5, 6]);
    let table = booted.text("handed.err")?;
    for (fd, port) in [(3, 8080), (5, 8082), (6, 8083)] {
        let target = report.descriptor(fd).and_then(|one| one["target"].as_str()).unwrap_or_default().to_owned();
        assert_eq!(listening(table, port), [target], "port {port} is descriptor {fd}: {table}");
    }
    Ok(())
}

fn an_accepted_connection_is_the_commands_stdin_and_stdout() -> Outcome {
    let report = boot()?.report("inetd")?;
    report.is_exactly(1000, 1000, &NODES);
    assert_eq!(report.descriptors(), [0, 1, 2]);
    assert_eq!(report.descriptor(0).map(|one| &one["target"]), report.descriptor(1).map(|one| &one["target"]));
    assert!(report.variable("LISTEN_FDS").is_none() && report.variable("REMOTE_ADDR").is_some(), "{}", report.0);
    Ok(())
}

fn sockets_of_socket_activate_are_handed_on() -> Outcome {
    Need::Systemd.programs(&["systemd-socket-activate", "bash"])?;
    // It starts its command at the first connection.
    let connect = "bash -c 'until exec 3<>/dev/tcp/127.0.0.1/80; do sleep 0.02; done; sleep 5' 2>/dev/null &";
    let activate = ["systemd-socket-activate", "--listen=127.0.0.1:80", "--fdname=x"];
    let jail = Jail::new()?.network().setup(connect).through(&activate);
    let report = jail.report(&["--listen", "own=81", "node"])?;
    report.is_exactly(1000, 1000, &[1, 4, 100, 1000]);
    assert_eq!(report.variable("LISTEN_FDS").as_deref(), Some("2"));
    assert_eq!(report.variable("LISTEN_PID"), Some(report.number("pid").to_string()));
    assert_eq!(report.variable("LISTEN_FDNAMES").as_deref(), Some("x:own"));
    assert_eq!(report.descriptors(), [0, 1, 2, 3, 4]);
    Ok(())
}

fn the_command_has_the_targets_environment_and_systemds() -> Outcome {
    let report = boot()?.report("plain")?;
    report.is_exactly(1000, 1000, &NODES);
    for (name, value) in [("HOME", "/home/node"), ("USER", "node"), ("LOGNAME", "node"), ("SHELL", "/bin/bash")] {
        assert_eq!(report.variable(name).as_deref(), Some(value), "{name}");
    }
    assert!(report.variable("INVOCATION_ID").is_some() && report.variable("SECRET").is_none());
    assert_eq!(report.descriptors(), [0, 1, 2]);
    let bare = boot()?.report("bare")?;
    for list in ["blocked_signals", "ignored_signals"] {
        assert_eq!(report.signals(list), bare.signals(list), "{list}: as without stepdown");
    }
    assert!(bare.signals("ignored_signals").contains(&13), "by IgnoreSIGPIPE=");
    Ok(())
}

fn with_setuid_and_setgid_in_the_bounding_set_it_switches() -> Outcome {
    let report = boot()?.report("bounded")?;
    holds_nothing(&report, &NODES);
    assert_eq!(report.capabilities("bounding"), [6, 7], "without CAP_SETPCAP it stays, idle");
    Ok(())
}

/// Like `is_exactly`, but for the bounding set, which only CAP_SETPCAP can drop.
#[track_caller]
fn holds_nothing(report: &Report, groups: &[u64]) {
    assert_eq!((report.uids(), report.gids(), report.groups()), (vec![1000; 3], vec![1000; 3], groups.to_vec()));
    for set in ["effective", "permitted", "inheritable", "ambient"] {
        assert!(report.capabilities(set).is_empty(), "{set}: {}", report.0);
    }
    assert_eq!(report.number("no_new_privs"), 1);
    assert_eq!((&report.0["can_become_root"], &report.0["can_take_root_group"]), (&false.into(), &false.into()));
}

fn under_user_it_is_the_target_already() -> Outcome {
    holds_nothing(&boot()?.report("user")?, &NODES);
    Ok(())
}

fn under_user_ambient_capabilities_bind_the_port_and_are_given_up() -> Outcome {
    let report = boot()?.report("user-ambient")?;
    holds_nothing(&report, &NODES);
    assert_eq!(report.variable("LISTEN_FDNAMES").as_deref(), Some("low"));
    assert_eq!(report.descriptors(), [0, 1, 2, 3]);
    Ok(())
}

fn under_user_of_another_it_refuses() -> Outcome {
    boot()?.refused("user-other", 125, "started as uid 1, gid 1, which can't become node (uid 1000, gid 1000)")?;
    boot()?.refused("user-other", 125, "systemd: no User=")
}

fn with_an_exclamation_mark_user_names_the_owner_of_directories_and_credentials() -> Outcome {
    // Had it not been allowed to read and write them, it would have made no report.
    boot()?.report("bang")?.is_exactly(1000, 1000, &NODES);
    Ok(())
}

fn under_dynamic_user_if_root_runs_as_that_user() -> Outcome {
    let booted = boot()?;
    let report = booted.report("dynamic")?;
    let uid = report.uids()[0];
    // DynamicUser= takes uids from 61184 to 65519.
    assert!((61184..=65519).contains(&uid) && report.uids() == [uid; 3] && report.gids() == [uid; 3], "{}", report.0);
    assert_eq!(report.number("no_new_privs"), 1);
    assert_eq!(report.0["can_become_root"], false);
    assert_eq!(report.variable("USER").as_deref(), Some("dynamic"), "who does not switch keeps the environment");
    booted.refused("dynamic-switch", 125, "which can't become node (uid 1000, gid 1000)")
}

fn under_no_new_privileges_it_switches() -> Outcome {
    boot()?.report("no-new-privs")?.is_exactly(1000, 1000, &NODES);
    Ok(())
}

fn securebits_keep_no_capability() -> Outcome {
    let report = boot()?.report("no-fixup")?;
    report.is_exactly(1000, 1000, &NODES);
    assert_eq!(report.number("securebits"), 1 << 2, "as found: SECBIT_NO_SETUID_FIXUP");
    // Under SECBIT_NOROOT an execve as uid 0 gives no capability: there is nothing to switch with.
    boot()?.refused("noroot", 125, "CAP_SETGID, CAP_SETUID is missing")
}

fn under_a_system_call_filter_it_switches_or_refuses() -> Outcome {
    boot()?.report("filtered")?.is_exactly(1000, 1000, &NODES);
    boot()?.refused("filtered-setuid", 125, "setgroups([1000, 4, 100]): EPERM")?;
    boot()?.refused("filtered-capset", 125, "capset(none): EPERM")
}

fn in_a_user_namespace_of_systemds_it_says_so() -> Outcome {
    boot()?.refused("private-users", 125, "setgroups([")?;
    boot()?.refused("private-users", 125, "user namespace")
}

fn what_fails_is_the_units_exit_status() -> Outcome {
    let booted = boot()?;
    booted.refused("refused", 125, "there is no user 'no-such-user'")?;
    booted.refused("chore-failed", 125, "--chown /no/such/path")?;
    booted.refused("missing", 127, "COMMAND '/no/such/command' does not exist")?;
    booted.refused("unusable", 126, "execve(/etc/passwd): EACCES")?;
    assert_eq!(booted.result("results", "own-code")?, ("exit-code".to_owned(), 42));
    Ok(())
}

fn a_notify_service_is_the_command_itself() -> Outcome {
    // systemd believes READY=1 from the unit's main process alone.
    assert_eq!(boot()?.result("results", "notify")?, ("success".to_owned(), 0), "{:?}", boot()?.text("notify.err")?);
    Ok(())
}

fn systemd_run_gives_the_command_its_pipes() -> Outcome {
    let report = boot()?.report("run")?;
    report.is_exactly(1000, 1000, &NODES);
    let stdout = report.descriptor(1).map(ToString::to_string).unwrap_or_default();
    assert!(stdout.contains("\"pipe\"") && stdout.contains("\"can_be_opened_again\":true"), "{stdout}");
    Ok(())
}

fn the_examples_pass_systemd_analyze_verify() -> Outcome {
    assert_eq!(boot()?.text("verify")?, "exit code 0\n");
    Ok(())
}

/// The example answered, was Node as node with nothing in any set, owned its directory, and stopped when told.
fn answers_as_node(name: &str) -> Outcome {
    let booted = boot()?;
    let journal = booted.text("journal")?;
    let answer = booted.text(&format!("{name}.http"))?;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?} {journal}");
    let state = booted.text(&format!("{name}.state"))?;
    let none = "0000000000000000";
    for line in [
        "/usr/bin/node\nserver.js",
        "Uid:\t1000\t1000\t1000\t1000",
        "Gid:\t1000\t1000\t1000\t1000",
        "Groups:\t4 100 1000 ",
        &format!("CapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\nCapAmb:\t{none}\nNoNewPrivs:\t1"),
        "/var/lib/app 1000:1000 750\n",
    ] {
        assert!(state.contains(line), "{line:?} in {state}");
    }
    assert_eq!(booted.result(&format!("{name}.results"), name)?.0, "success", "{journal}");
    Ok(())
}

fn the_example_with_a_socket_unit_answers_on_port_80() -> Outcome {
    answers_as_node("app")?;
    let state = boot()?.text("app.state")?;
    assert!(state.contains("/var/lib/app/sub/file 1000:1000 600"), "{state}");
    Ok(())
}

fn the_example_that_listens_itself_answers_on_port_80() -> Outcome {
    answers_as_node("app-listen")
}

fn the_https_example_answers_on_443_with_roots_key() -> Outcome {
    let booted = boot()?;
    let journal = booted.text("journal")?;
    let answer: serde_json::Value = serde_json::from_str(booted.text("https.http")?)
        .map_err(|error| Stop::Fail(format!("{error}: {:?} {journal}", booted.files.get("probe.log"))))?;
    assert_eq!((&answer["uid"], &answer["groups"]), (&1000.into(), &serde_json::json!([4, 100, 1000])), "{answer}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(answer[set], "0000000000000000", "{answer}");
    }
    assert_eq!((&answer["NoNewPrivs"], booted.text("https.key")?), (&"1".into(), "400 0\n"));
    assert_eq!(booted.result("https.results", "https")?.0, "success", "{journal}");
    Ok(())
}
