//! Dockerfile.example in a real engine: built as it stands, run as people run it, stopped as Docker stops it.

pub mod engine;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::cases;
use crate::docker::engine::{Container, Engine, HTTPS, Process};
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{Ran, open_directory, owner};

pub fn cases() -> Vec<Case> {
    cases![
        the_example_image_builds_and_its_stepdown_needs_no_library,
        as_built_pid_1_is_node_and_no_process_is_root,
        port_80_answers_and_roots_volume_belongs_to_node,
        a_named_volume_is_right_at_every_start,
        docker_stop_ends_it_with_0,
        behind_dockers_init_it_gives_root_up_all_the_same,
        started_as_node_it_serves_without_a_switch,
        started_as_node_it_refuses_what_only_root_could_do,
        on_a_read_only_root_it_serves,
        under_no_new_privileges_it_serves,
        four_capabilities_are_enough,
        each_of_the_four_is_named_where_it_is_missing,
        with_setpcap_the_bounding_set_is_empty_too,
        a_closed_directory_takes_dac_read_search_as_well,
        its_pipes_and_its_terminal_belong_to_node,
        the_terminal_of_docker_exec_belongs_to_node,
        with_init_no_process_is_root_and_docker_stop_ends_it,
        with_init_docker_kill_sends_every_signal_on,
        with_init_the_terminal_is_the_commands,
        the_exit_code_is_the_commands,
        mistakes_end_with_125_126_and_127,
        https_on_443_with_roots_key_and_its_redirect_on_80_are_nodes,
        confined_to_port_80_and_its_files_node_has_nothing_else,
        an_engine_whose_own_filter_forbids_landlock_is_told_of,
    ]
}

/// Ports below 1024 are privileged, as in Kubernetes. Docker's own default is 0, and nothing to prove.
const PRIVILEGED_PORTS: &str = "--sysctl=net.ipv4.ip_unprivileged_port_start=1024";

/// What the example needs of root's capabilities.
const FOUR: [&str; 4] = ["CHOWN", "SETUID", "SETGID", "NET_BIND_SERVICE"];

/// `--cap-drop ALL`, and these again.
fn only(capabilities: &[&str]) -> Vec<String> {
    let add = |name: &&str| format!("--cap-add={name}");
    ["--cap-drop=ALL".to_owned(), PRIVILEGED_PORTS.to_owned()].into_iter().chain(capabilities.iter().map(add)).collect()
}

/// A volume with a directory and a file in it, all of them this user's.
struct Volume(tempfile::TempDir);

impl Volume {
    fn of(id: u32) -> Result<Self, Stop> {
        let volume = Self(open_directory());
        fs::create_dir(volume.0.path().join("sub"))?;
        fs::write(volume.0.path().join("sub/file"), "")?;
        for path in volume.paths() {
            chown(path, Some(id), Some(id))?;
        }
        Ok(volume)
    }

    fn paths(&self) -> [std::path::PathBuf; 3] {
        ["", "sub", "sub/file"].map(|name| self.0.path().join(name))
    }

    fn option(&self) -> String {
        format!("--volume={}:/data", self.0.path().display())
    }

    #[track_caller]
    fn belongs_to(&self, id: u32) {
        self.paths().iter().for_each(|path| assert_eq!(owner(path), (id, id), "{}", path.display()));
    }
}

/// Starts the example with the binary under test, asks it, and asserts what every way to start it must bring:
/// it answers as node, and wrote to its volume; nothing in the container is root, or could be.
fn serves(engine: &Arc<Engine>, options: &[String], bounding: u64) -> Outcome {
    let container = engine.start(options)?;
    let answer = container.answer()?;
    assert_eq!((&answer["uid"], &answer["gid"]), (&1000.into(), &1000.into()), "{answer}");
    assert_eq!(answer["groups"], serde_json::json!([1000]), "{answer}");
    assert_eq!(answer["data"], "written", "{answer}");
    harmless(&container, bounding)
}

/// Looked at from outside the container.
fn harmless(container: &Container, bounding: u64) -> Outcome {
    let processes = container.processes()?;
    assert!(!processes.is_empty());
    for Process { name, status } in processes {
        let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned();
        for ids in ["Uid:", "Gid:"] {
            assert_eq!(field(ids), "1000\t1000\t1000\t1000", "{name}: {status}");
        }
        assert_eq!(field("Groups:"), "1000", "{name}: {status}");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{name}: {status}");
        }
        assert_eq!(u64::from_str_radix(&field("CapBnd:"), 16)?, bounding, "{name}: {status}");
        assert_eq!(field("NoNewPrivs:"), "1", "{name}: {status}");
    }
    Ok(())
}

fn the_example_image_builds_and_its_stepdown_needs_no_library() -> Outcome {
    let engine = Engine::running()?;
    let container = engine.start_as_built(&[])?;
    let empty = open_directory();
    let binary = empty.path().join("stepdown");
    container.copy_out("/usr/local/bin/stepdown", &binary)?;
    assert_eq!(owner(&binary), (0, 0));
    assert_eq!(fs::metadata(&binary)?.permissions().mode() & 0o7777, 0o755);
    let alone = Ran::of(Command::new("chroot").arg(empty.path()).args(["/stepdown", "--version"]).output()?);
    assert_eq!((alone.code, alone.stdout.starts_with("stepdown ")), (0, true), "{alone:?}");
    Ok(())
}

fn as_built_pid_1_is_node_and_no_process_is_root() -> Outcome {
    let engine = Engine::running()?;
    let volume = Volume::of(0)?;
    let container = engine.start_as_built(&[volume.option(), PRIVILEGED_PORTS.into()])?;
    let answer = container.answer()?;
    assert_eq!((&answer["pid"], &answer["uid"]), (&1.into(), &1000.into()), "{answer}");
    harmless(&container, 0)?;
    volume.belongs_to(1000);
    Ok(())
}

fn port_80_answers_and_roots_volume_belongs_to_node() -> Outcome {
    let engine = Engine::running()?;
    let volume = Volume::of(0)?;
    serves(&engine, &[volume.option(), PRIVILEGED_PORTS.into()], 0)?;
    volume.belongs_to(1000);
    let visits = fs::read_to_string(volume.0.path().join("visits.log"))?;
    assert!(visits.ends_with(" GET /\n"), "{visits}");
    Ok(())
}

fn a_named_volume_is_right_at_every_start() -> Outcome {
    let engine = Engine::running()?;
    let volume = engine.volume()?;
    for _ in 0..2 {
        serves(&engine, &[volume.option()], 0)?;
    }
    Ok(())
}

fn docker_stop_ends_it_with_0() -> Outcome {
    let engine = Engine::running()?;
    let container = engine.start(&[])?;
    container.answer()?;
    // Docker kills after ten seconds, with 137.
    assert_eq!(container.stop()?, 0);
    Ok(())
}

fn behind_dockers_init_it_gives_root_up_all_the_same() -> Outcome {
    Need::Container.programs(&["docker-init"])?;
    let engine = Engine::running()?;
    let container = engine.start(&["--init".into()])?;
    assert_ne!(container.answer()?["pid"], 1);
    let node = container.processes()?.into_iter().find(|process| process.name == "node");
    let status = node.ok_or_else(|| Stop::Fail("no node".into()))?.status;
    assert!(status.contains("CapPrm:\t0000000000000000") && status.contains("Uid:\t1000\t1000\t1000\t1000"), "{status}");
    assert_eq!(container.stop()?, 0);
    Ok(())
}

/// Docker's fourteen: who starts without CAP_SETPCAP can't take any out of the bounding set.
const DOCKERS_BOUNDING: u64 = 0xa804_25fb;

fn started_as_node_it_serves_without_a_switch() -> Outcome {
    let engine = Engine::running()?;
    let volume = Volume::of(1000)?;
    serves(&engine, &["--user=node".into(), volume.option()], DOCKERS_BOUNDING)?;
    serves(&engine, &["--user=1000:1000".into(), "--cap-drop=ALL".into(), volume.option()], 0)
}

fn started_as_node_it_refuses_what_only_root_could_do() -> Outcome {
    let engine = Engine::running()?;
    let roots = Volume::of(0)?;
    engine.run(&["--user=node".into(), roots.option()], &[])?.refused(125, "/data/sub/file: fchownat(1000, 1000): EPERM");
    roots.belongs_to(0);
    let nodes = Volume::of(1000)?;
    let ran = engine.run(&["--user=node".into(), PRIVILEGED_PORTS.into(), nodes.option()], &[])?;
    ran.refused(125, "--listen http=80: bind([::]:80): EACCES");
    Ok(())
}

fn on_a_read_only_root_it_serves() -> Outcome {
    let engine = Engine::running()?;
    let volume = Volume::of(0)?;
    serves(&engine, &["--read-only".into(), PRIVILEGED_PORTS.into(), volume.option()], 0)
}

fn under_no_new_privileges_it_serves() -> Outcome {
    let engine = Engine::running()?;
    let volume = Volume::of(0)?;
    serves(&engine, &["--security-opt=no-new-privileges".into(), PRIVILEGED_PORTS.into(), volume.option()], 0)
}

/// CHOWN, SETGID, SETUID and NET_BIND_SERVICE, as a bounding set that nobody may shrink.
const FOUR_BOUNDING: u64 = 1 | 1 << 6 | 1 << 7 | 1 << 10;

fn four_capabilities_are_enough() -> Outcome {
    let engine = Engine::running()?;
    let hardened = ["--read-only".to_owned(), "--security-opt=no-new-privileges".to_owned()];
    for more in [&[][..], &hardened] {
        let volume = Volume::of(0)?;
        serves(&engine, &[&only(&FOUR), more, &[volume.option()]].concat(), FOUR_BOUNDING)?;
        volume.belongs_to(1000);
    }
    Ok(())
}

fn each_of_the_four_is_named_where_it_is_missing() -> Outcome {
    let engine = Engine::running()?;
    for missing in FOUR {
        let volume = Volume::of(0)?;
        let rest: Vec<&str> = FOUR.into_iter().filter(|&name| name != missing).collect();
        let ran = engine.run(&[&only(&rest)[..], &[volume.option()]].concat(), &[])?;
        ran.refused(125, &format!("CAP_{missing} is missing"));
    }
    Ok(())
}

fn with_setpcap_the_bounding_set_is_empty_too() -> Outcome {
    let engine = Engine::running()?;
    let volume = Volume::of(0)?;
    serves(&engine, &[&only(&FOUR)[..], &only(&["SETPCAP"]), &[volume.option()]].concat(), 0)
}

/// At the second start: the first made a directory node's that only its owner may look into.
fn a_closed_directory_takes_dac_read_search_as_well() -> Outcome {
    let engine = Engine::running()?;
    let volume = Volume::of(0)?;
    fs::set_permissions(volume.0.path().join("sub"), fs::Permissions::from_mode(0o700))?;
    let start = |capabilities: &[&str]| engine.run(&[&only(capabilities)[..], &[volume.option()]].concat(), &["node", "-e", "0"]);
    assert_eq!(start(&FOUR)?.code, 0);
    volume.belongs_to(1000);
    start(&FOUR)?.refused(125, "/data/sub: open: EACCES");
    start(&FOUR)?.refused(125, "CAP_DAC_READ_SEARCH is missing");
    assert_eq!(start(&[&FOUR[..], &["DAC_READ_SEARCH"]].concat())?.code, 0);
    Ok(())
}

/// A shell that writes to its streams by name, as log configurations do.
const BY_NAME: &str = "echo out >/dev/stdout && echo err >/dev/stderr";

/// A process of the same user that has nothing to do with the terminal.
const UNRELATED: &str = "setsid -w sh -c \"echo opened >$(tty)\"";

fn its_pipes_and_its_terminal_belong_to_node() -> Outcome {
    let engine = Engine::running()?;
    let piped = engine.run(&[], &["sh", "-c", BY_NAME])?;
    assert_eq!((piped.code, &*piped.stdout, &*piped.stderr), (0, "out\n", "err\n"));
    let script = format!("{BY_NAME} && echo tty >/dev/tty && stat -c %u:%a $(tty) && {UNRELATED}");
    let terminal = engine.on_a_terminal(&engine.run_line(&["-it".into()], &["sh", "-c", &script]))?;
    assert_eq!(
        (terminal.code, terminal.stdout.contains("out\r\nerr\r\ntty\r\n1000:620\r\nopened\r\n")),
        (0, true),
        "{terminal:?}"
    );
    // With it anybody's terminal can be taken, and nothing tells whether this one was.
    let administrator = engine.run_line(&["-it".into(), "--cap-add=SYS_ADMIN".into()], &["sh", "-c", "stat -c %u:%a $(tty)"]);
    let terminal = engine.on_a_terminal(&administrator)?;
    assert_eq!((terminal.code, terminal.stdout.contains("0:620\r\n")), (0, true), "{terminal:?}");
    Ok(())
}

fn the_terminal_of_docker_exec_belongs_to_node() -> Outcome {
    let engine = Engine::running()?;
    let container = engine.start(&[])?;
    container.answer()?;
    let script = format!("{BY_NAME} && stat -c %u $(tty) && {UNRELATED}");
    let line = ["exec", "-it", container.name(), "stepdown", "node", "sh", "-c", &script].map(str::to_owned);
    let ran = engine.on_a_terminal(&line)?;
    assert_eq!((ran.code, ran.stdout.contains("out\r\nerr\r\n1000\r\nopened\r\n")), (0, true), "{ran:?}");
    // Root's shell in there stays root's.
    let below = ["exec", "-it", container.name(), "sh", "-c", "stepdown node stat -c %u $(tty); exit"].map(str::to_owned);
    let ran = engine.on_a_terminal(&below)?;
    assert_eq!((ran.code, ran.stdout.contains("0\r\n") && !ran.stdout.contains("1000")), (0, true), "{ran:?}");
    Ok(())
}

/// stepdown's own words, in place of the image's.
fn with_init(more: &[String]) -> Vec<String> {
    [&["--entrypoint=stepdown".to_owned()], more].concat()
}

fn with_init_no_process_is_root_and_docker_stop_ends_it() -> Outcome {
    let engine = Engine::running()?;
    let volume = Volume::of(0)?;
    let words = ["--listen", "80", "--chown", "/data", "--init", "node", "--", "node", "/app/server.js"];
    let container = engine.start_with(&with_init(&[volume.option(), PRIVILEGED_PORTS.into()]), &words)?;
    let answer = container.answer()?;
    assert_eq!((answer["pid"] == 1, &answer["uid"]), (false, &1000.into()), "{answer}");
    // From outside, and from inside, where node looks.
    assert_eq!(container.processes()?.iter().map(|process| process.name.as_str()).collect::<Vec<_>>(), ["stepdown", "node"]);
    harmless(&container, 0)?;
    volume.belongs_to(1000);
    let inside = container.exec("node", &["sh", "-c", "for p in /proc/[0-9]*; do grep -H ^Uid $p/status; done; :"])?;
    for pid in ["1", answer["pid"].to_string().as_str()] {
        assert!(inside.contains(&format!("/proc/{pid}/status:Uid:\t1000\t1000\t1000\t1000\n")), "{inside}");
    }
    assert!(inside.lines().all(|line| line.ends_with("Uid:\t1000\t1000\t1000\t1000")), "{inside}");
    assert_eq!(container.stop()?, 0);
    Ok(())
}

fn with_init_docker_kill_sends_every_signal_on() -> Outcome {
    let engine = Engine::running()?;
    let signals = format!("--volume={}:/usr/local/bin/signals:ro", crate::jail::programs().signals.display());
    let container = engine.start_with(&with_init(&[signals]), &["--init", "node", "signals"])?;
    container.says("ready ")?;
    for (signal, number) in [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("SEGV", 11),
        ("USR1", 10),
        ("WINCH", 28),
        ("34", 34),
        ("64", 64),
        ("SIGRTMIN+3", 37),
    ] {
        container.signal(signal)?;
        container.says(&format!("\n{number}\n"))?;
    }
    assert_eq!(container.stop()?, 0);
    let container = engine.start_with(&with_init(&[]), &["--init", "node", "sleep", "60"])?;
    assert_eq!(container.stop()?, 143);
    Ok(())
}

fn with_init_the_terminal_is_the_commands() -> Outcome {
    let engine = Engine::running()?;
    // The fifth and the eighth field: the process group and the one in the foreground.
    let script = format!(
        "{BY_NAME} && read pid name state parent group session tty foreground rest </proc/self/stat && \
         [ $group = $foreground ] && [ $group = $$ ] && echo in the foreground; exit 5"
    );
    let words = ["--init", "node", "bash", "-c", &script];
    let ran = engine.on_a_terminal(&engine.run_line(&with_init(&["-it".into()]), &words))?;
    assert_eq!((ran.code, ran.stdout.contains("out\r\nerr\r\nin the foreground\r\n")), (5, true), "{ran:?}");
    Ok(())
}

fn the_exit_code_is_the_commands() -> Outcome {
    let engine = Engine::running()?;
    for code in [0, 1, 42, 255] {
        assert_eq!(engine.run(&[], &["sh", "-c", &format!("exit {code}")])?.code, code);
    }
    Ok(())
}

fn mistakes_end_with_125_126_and_127() -> Outcome {
    let engine = Engine::running()?;
    let stepdown = ["--entrypoint=stepdown".to_owned()];
    engine.run(&stepdown, &["nosuch", "true"])?.refused(125, "there is no user 'nosuch' in /etc/passwd");
    engine.run(&stepdown, &["node"])?.refused(125, "no COMMAND is given for USER 'node'");
    engine.run(&["--tmpfs=/data:ro".into()], &[])?.refused(125, "/data: fchownat(1000, 1000): EROFS");
    engine.run(&[], &["nosuch"])?.refused(127, "COMMAND 'nosuch' is not found in PATH");
    engine.run(&[], &["/app/nosuch"])?.refused(127, "/app/nosuch");
    engine.run(&[], &["/app/server.js"])?.refused(126, "/app/server.js (mode 0644, owner 0:0) is not executable");
    engine.run(&[], &["/root/.profile"])?.refused(126, "/root/.profile");
    Ok(())
}

/// A certificate for localhost, and its key, which is root's alone.
pub fn certificate(directory: &Path) -> Outcome {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "privkey.pem"]);
    let made = Ran::of(openssl.args(["-out", "fullchain.pem"]).current_dir(directory).output()?);
    assert_eq!(made.code, 0, "{made:?}");
    fs::set_permissions(directory.join("privkey.pem"), fs::Permissions::from_mode(0o400))?;
    Ok(())
}

fn https_on_443_with_roots_key_and_its_redirect_on_80_are_nodes() -> Outcome {
    Need::Container.programs(&["openssl"])?;
    let engine = Engine::running()?;
    let secrets = open_directory();
    certificate(secrets.path())?;
    let volume = format!("--volume={}:/run/secrets:ro", secrets.path().display());
    let hardened = ["--read-only".to_owned(), "--security-opt=no-new-privileges".to_owned()];
    let least = [&only(&["SETUID", "SETGID", "NET_BIND_SERVICE"])[..], &hardened].concat();
    for (options, bounding) in [(vec![PRIVILEGED_PORTS.to_owned()], 0), (least, 1 << 6 | 1 << 7 | 1 << 10)] {
        let container = engine.start_image(HTTPS, &[&options[..], std::slice::from_ref(&volume)].concat())?;
        // By way of port 80: the client trusts nothing but this certificate.
        let answer = container.answer_at("http://localhost/", &["--env=NODE_EXTRA_CA_CERTS=/run/secrets/fullchain.pem"])?;
        assert_eq!((&answer["pid"], &answer["uid"], &answer["CapPrm"]), (&1.into(), &1000.into(), &"0000000000000000".into()));
        harmless(&container, bounding)?;
        let key = engine.docker(&["exec", "--user=node", container.name(), "cat", "/run/secrets/privkey.pem"])?;
        assert!(key.code == 1 && key.stderr.contains("Permission denied"), "{key:?}");
        assert_eq!(container.stop()?, 0);
    }
    Ok(())
}

/// The manual's line for a Node that says `listen(80)`.
const CONFINED: [&str; 20] = [
    "--bind-tcp",
    "80",
    "--connect-tcp",
    "80",
    "--rox",
    "/usr",
    "--rox",
    "/lib",
    "--rox",
    "/lib64",
    "--ro",
    "/etc",
    "--ro",
    "/proc",
    "--rw",
    "/dev/null",
    "--ro",
    "/dev/urandom",
    "--scope",
    "--seccomp=service",
];

fn confined_to_port_80_and_its_files_node_has_nothing_else() -> Outcome {
    crate::confine::landlock(6)?;
    const PROGRAM: &str = "
const { execFileSync } = require('child_process'), fs = require('fs'), http = require('http'), net = require('net');
const denied = (what, attempt) => { try { attempt(); console.log(what, 'done'); } catch (error) { console.log(what, error.code || error.status); } };
denied('list /', () => fs.readdirSync('/'));
denied('read /app', () => fs.readFileSync('/app/server.js'));
denied('write /tmp', () => fs.writeFileSync('/tmp/x', 'x'));
denied('mount', () => execFileSync('/bin/mount', ['-t', 'tmpfs', 'none', '/proc'], { stdio: 'ignore' }));
denied('unshare', () => execFileSync('/usr/bin/unshare', ['-Ur', 'true'], { stdio: 'ignore' }));
console.log(fs.readFileSync('/proc/self/status', 'utf8').match(/CapEff.*|Seccomp:.*/g).join(' '));
const other = net.createServer().on('error', (error) => console.log('port 81', error.code)).listen(81);
const server = http.createServer((request, response) => response.end('served'));
server.listen(80, () => http.get('http://127.0.0.1:80/', (response) => response.on('data', (data) => {
  console.log('port 80', `${data} by ${process.getuid()}`);
  process.exit(7);
})));
";
    let engine = Engine::running()?;
    let options =
        ["--entrypoint=stepdown".to_owned(), PRIVILEGED_PORTS.to_owned(), "--security-opt=seccomp=unconfined".to_owned()];
    for init in [&[][..], &["--init"]] {
        let ran = engine.run(&options, &[init, &CONFINED, &["node", "node", "-e", PROGRAM]].concat())?;
        let said = "list / EACCES\nread /app EACCES\nwrite /tmp EACCES\nmount 32\nunshare 1\n\
                    CapEff:\t0000000000000400 Seccomp:\t2\nport 81 EACCES\nport 80 served by 1000\n";
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (7, said, ""));
    }
    Ok(())
}

/// As Docker's own profile was before version 23.
fn an_engine_whose_own_filter_forbids_landlock_is_told_of() -> Outcome {
    let engine = Engine::running()?;
    let directory = open_directory();
    let profile = directory.path().join("profile.json");
    let refused = r#"{"names": ["landlock_create_ruleset"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}"#;
    fs::write(&profile, format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{refused}]}}"#))?;
    let options = ["--entrypoint=stepdown".to_owned(), format!("--security-opt=seccomp={}", profile.display())];
    let ran = engine.run(&options, &["--rox", "/", "node", "true"])?;
    ran.refused(125, "--rox /: Landlock is forbidden here: landlock_create_ruleset: EPERM: Operation not permitted\n");
    ran.refused(125, "hint: a container engine's own filter may not know it");
    let ran = engine.run(&options, &["--rox", "/", "--best-effort", "node", "id", "-u"])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "1000\n"));
    assert!(ran.stderr.contains("stepdown: warning: not enforced: files: Landlock ABI 1 (Linux 5.13) is needed"), "{ran:?}");
    Ok(())
}
