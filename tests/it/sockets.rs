//! `--listen`, and sockets received from a service manager.

mod options;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener};

use crate::cases;
use crate::harness::{Case, Need, Outcome, linux};
use crate::jail::{Jail, owner};

pub fn cases() -> Vec<Case> {
    let mut all = cases![
        a_port_alone_serves_both_families_and_is_handed_on_from_3,
        addresses_of_one_family_and_datagrams,
        without_ipv6_a_port_alone_is_ipv4,
        a_unix_socket_lets_the_target_connect_and_nobody_else,
        a_stale_unix_socket_is_replaced_and_one_in_use_left_alone,
        a_unix_socket_in_use_is_left_alone_whatever_its_kind,
        what_is_no_socket_is_never_deleted,
        an_abstract_socket_is_bound,
        a_port_in_use_or_privileged_is_an_error_with_a_hint,
        sockets_received_come_first_and_keep_their_names,
        listen_variables_that_are_not_for_us_are_dropped,
        where_the_kernel_knows_no_pidfd_listen_pid_decides,
        the_directory_a_socket_is_bound_from_is_not_the_commands,
    ];
    all.extend(options::cases());
    all
}

/// Serves one connection on each descriptor it was handed, in order.
const SERVE: &str = "import os,socket\n\
    for i in range(int(os.environ['LISTEN_FDS'])):\n s=socket.socket(fileno=3+i)\n print(s.family.name,s.type.name,s.getsockname(),flush=True)";

fn python() -> Outcome {
    Need::Root.programs(&["python3", "ip"])
}

/// What python says of the sockets it was handed.
fn sockets(jail: &Jail, options: &[&str]) -> Result<String, crate::harness::Stop> {
    let line: Vec<&str> = options.iter().copied().chain(["node", "python3", "-c", SERVE]).collect();
    let ran = jail.run(&line)?;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    Ok(ran.stdout)
}

fn a_port_alone_serves_both_families_and_is_handed_on_from_3() -> Outcome {
    python()?;
    let jail = Jail::new()?.network();
    let report = jail.report(&["--listen", "http=80", "--listen", "443", "node"])?;
    report.is_exactly(1000, 1000, &[1, 4, 100, 1000]);
    assert_eq!(report.variable("LISTEN_FDS").as_deref(), Some("2"));
    assert_eq!(report.variable("LISTEN_PID"), Some(report.number("pid").to_string()));
    assert_eq!(report.variable("LISTEN_FDNAMES").as_deref(), Some("http:unknown"));
    assert_eq!(report.descriptors(), [0, 1, 2, 3, 4]);
    // The child connects to itself over both families.
    let talk = "import socket\ns=socket.socket(fileno=3)\n\
        for a in ('127.0.0.1','::1'):\n c=socket.create_connection((a,80)); p=s.accept()[0]; c.send(b'x'); print(p.recv(1), s.listen)\n";
    let ran = jail.run(&["--listen", "80", "node", "python3", "-c", talk])?;
    assert_eq!((ran.code, ran.stdout.matches("b'x'").count()), (0, 2), "{ran:?}");
    Ok(())
}

fn addresses_of_one_family_and_datagrams() -> Outcome {
    python()?;
    let jail = Jail::new()?.network();
    let said = sockets(
        &jail,
        &[
            "--listen",
            "127.0.0.1:80",
            "--listen",
            "[::1]:80",
            "--listen",
            "udp:53",
            "--listen",
            "dns=udp:127.0.0.1:54",
            "--listen",
            "[::1%lo]:81",
        ],
    )?;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "AF_INET SOCK_STREAM ('127.0.0.1', 80)");
    assert_eq!(lines[1], "AF_INET6 SOCK_STREAM ('::1', 80, 0, 0)");
    assert_eq!(lines[2], "AF_INET6 SOCK_DGRAM ('::', 53, 0, 0)");
    assert_eq!(lines[3], "AF_INET SOCK_DGRAM ('127.0.0.1', 54)");
    assert!(lines[4].starts_with("AF_INET6 SOCK_STREAM ('::1', 81"), "{said}");
    jail.run(&["--listen", "[fe80::1%nosuch]:80", "node", "true"])?.refused(125, "if_nametoindex(nosuch): ENODEV");
    jail.run(&["--listen", "10.9.8.7:80", "node", "true"])?
        .refused(125, "no interface of this host (or container) has the address");
    Ok(())
}

fn without_ipv6_a_port_alone_is_ipv4() -> Outcome {
    python()?;
    Need::Strace.programs(&["strace"])?;
    // A kernel without IPv6 says so at socket(2); one where it is switched off, at bind(2).
    let jail = Jail::new()?.network().through(&[
        "strace",
        "-qq",
        "-o/dev/null",
        "-e",
        "trace=socket",
        "-e",
        "inject=socket:error=EAFNOSUPPORT:when=1",
    ]);
    assert_eq!(sockets(&jail, &["--listen", "80"])?, "AF_INET SOCK_STREAM ('0.0.0.0', 80)\n");
    let jail = Jail::new()?.network().through(&[
        "strace",
        "-qq",
        "-o/dev/null",
        "-e",
        "trace=bind",
        "-e",
        "inject=bind:error=EADDRNOTAVAIL:when=1",
    ]);
    assert_eq!(sockets(&jail, &["--listen", "80"])?, "AF_INET SOCK_STREAM ('0.0.0.0', 80)\n");
    Ok(())
}

fn a_unix_socket_lets_the_target_connect_and_nobody_else() -> Outcome {
    python()?;
    let jail = Jail::new()?.setup("umask 077; chmod 755 $W");
    let path = jail.at("app.sock");
    let connect = format!(
        "import socket\ns=socket.socket(socket.AF_UNIX); s.connect('{path}'); print('connected', socket.socket(fileno=3).getsockname())"
    );
    let ran = jail.run(&["--listen", &path, "node:staff", "python3", "-c", &connect])?;
    assert_eq!((ran.code, ran.stdout), (0, format!("connected {path}\n")), "{}", ran.stderr);
    let facts = fs::symlink_metadata(&path)?;
    assert_eq!((facts.uid(), facts.gid(), facts.mode() & 0o777), (0, 50, 0o660), "no other user may connect");
    Ok(())
}

fn a_stale_unix_socket_is_replaced_and_one_in_use_left_alone() -> Outcome {
    let jail = Jail::new()?;
    let path = jail.work().join("s");
    drop(UnixListener::bind(&path)?);
    let line = ["--listen", path.to_str().unwrap_or_default(), "node", "true"];
    assert_eq!(jail.run(&line)?.code, 0, "nobody listens there any more");
    fs::remove_file(&path)?;
    let listener = UnixListener::bind(&path)?;
    jail.run(&line)?.refused(125, "the address is in use");
    let mut client = std::os::unix::net::UnixStream::connect(&path)?;
    client.write_all(b"still here")?;
    drop(client);
    // The probe's own connection comes first in the queue.
    let heard = (0..2).map(|_| {
        let mut text = String::new();
        listener.accept().and_then(|(mut stream, _)| stream.read_to_string(&mut text)).map(|_| text)
    });
    assert!(heard.filter_map(Result::ok).any(|text| text == "still here"));
    Ok(())
}

fn a_unix_socket_in_use_is_left_alone_whatever_its_kind() -> Outcome {
    let jail = Jail::new()?;
    let (stream, datagram) = (jail.at("stream"), jail.at("datagram"));
    let options = [stream.clone(), format!("udp:{stream}"), datagram.clone(), format!("udp:{datagram}")];
    let held = (UnixListener::bind(&stream)?, UnixDatagram::bind(&datagram)?);
    let inodes = || [&stream, &datagram].map(|path| fs::symlink_metadata(path).map(|facts| facts.ino()).unwrap_or_default());
    let before = inodes();
    for option in &options {
        jail.run(&["--listen", option, "node", "true"])?.refused(125, "the address is in use");
        assert_eq!(inodes(), before, "{option}");
    }
    // And a stale one makes way, whatever kind it had.
    drop(held);
    for option in &options {
        assert_eq!(jail.run(&["--listen", option, "node", "true"])?.code, 0, "{option}");
    }
    // A socket that listens, and whose queue is full, is in use as well.
    let listener = UnixListener::bind(jail.at("full"))?;
    // One connection waits, and no other can.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0)?)?;
    let waiting = std::os::unix::net::UnixStream::connect(jail.at("full"))?;
    let path = jail.at("full");
    let ran = jail.through(&["timeout", "20"]).run(&["--listen", &path, "node", "true"])?;
    ran.refused(125, "the address is in use");
    drop(waiting);
    Ok(())
}

fn what_is_no_socket_is_never_deleted() -> Outcome {
    let jail =
        Jail::new()?.setup("echo data >$W/file; mkdir -p $W/dir; ln -sfn file $W/link; mkfifo $W/fifo 2>/dev/null || true");
    for name in ["file", "dir", "link", "fifo"] {
        jail.run(&["--listen", &jail.at(name), "node", "true"])?
            .refused(125, "the path exists and is no socket; it is left alone");
        assert!(fs::symlink_metadata(jail.work().join(name)).is_ok(), "{name}");
    }
    jail.run(&["--listen", &jail.at("none/s"), "node", "true"])?.refused(125, "ENOENT");
    jail.run(&["--listen", &jail.at(&"x".repeat(108)), "node", "true"])?.refused(125, "107 are the most");
    Ok(())
}

fn an_abstract_socket_is_bound() -> Outcome {
    python()?;
    let jail = Jail::new()?.network();
    assert_eq!(sockets(&jail, &["--listen", "app=@name"])?, "AF_UNIX SOCK_STREAM b'\\x00name'\n");
    Ok(())
}

fn a_port_in_use_or_privileged_is_an_error_with_a_hint() -> Outcome {
    let jail = Jail::new()?.network();
    let ran = jail.run(&["--listen", "80", "--listen", "127.0.0.1:80", "node", "true"])?;
    ran.refused(125, "--listen 127.0.0.1:80: bind(127.0.0.1:80): EADDRINUSE");
    ran.refused(125, "hint: the address is in use");
    let jail = Jail::new()?.network().through(&["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-all"]);
    let ran = jail.run(&["--listen", "80", "node", "true"])?;
    ran.refused(125, "bind([::]:80): EACCES");
    ran.refused(125, "CAP_NET_BIND_SERVICE is missing (Docker: --cap-add NET_BIND_SERVICE");
    Ok(())
}

/// Hands two sockets on, as a service manager would, and becomes its arguments.
pub const MANAGER: &str = "import os,socket,sys\n\
    a,b=[socket.create_server(('127.0.0.1',p)) for p in (5001,5002)]\n\
    c,d=os.dup(a.fileno()),os.dup(b.fileno()); os.dup2(c,3); os.dup2(d,4)\n\
    os.environ.update(LISTEN_FDS='2',LISTEN_PID=str(os.getpid()),LISTEN_FDNAMES='one:two')\n\
    os.environ['LISTEN_PIDFDID']=os.environ['PIDFD_ID']=str(os.fstat(os.pidfd_open(os.getpid())).st_ino)\n\
    exec(os.environ.get('TWEAK',''))\n\
    os.execv(sys.argv[1],sys.argv[1:])";

fn sockets_received_come_first_and_keep_their_names() -> Outcome {
    python()?;
    let jail = Jail::new()?.network().through(&["python3", "-c", MANAGER]);
    let report = jail.report(&["--listen", "http=80", "node"])?;
    assert_eq!(report.variable("LISTEN_FDS").as_deref(), Some("3"));
    assert_eq!(report.variable("LISTEN_FDNAMES").as_deref(), Some("one:two:http"));
    assert_eq!(report.variable("LISTEN_PID"), Some(report.number("pid").to_string()));
    assert!(report.variable("LISTEN_PIDFDID").is_some());
    assert_eq!(report.variable("LISTEN_PIDFDID"), report.variable("PIDFD_ID"), "the process is the same one");
    assert_eq!(report.descriptors(), [0, 1, 2, 3, 4, 5]);
    let said = sockets(&jail, &["--listen", "80"])?;
    let ports: Vec<&str> = said.lines().filter_map(|line| line.split(", ").nth(1)?.split([',', ')']).next()).collect();
    assert_eq!(ports, ["5001)", "5002)", "80"].map(|port| port.trim_end_matches(')')), "{said}");
    jail.run(&["--keep-fd", "5", "--listen", "80", "node", "true"])?.refused(125, "--keep-fd 5");
    Ok(())
}

fn listen_variables_that_are_not_for_us_are_dropped() -> Outcome {
    python()?;
    // Since pidfs the inode of a pidfd tells its process from every other.
    linux((6, 9), "pidfs")?;
    for (tweak, warned) in [
        ("os.environ['LISTEN_PID']='99999'", false),
        ("del os.environ['LISTEN_PID']", false),
        // A process of the same number, but another one.
        ("os.environ['LISTEN_PIDFDID']=str(int(os.environ['PIDFD_ID'])+1)", false),
        ("os.environ['LISTEN_PIDFDID']='x'", false),
        ("os.environ['LISTEN_FDS']='5'", true),
        ("os.environ['LISTEN_FDS']='-1'", true),
        ("os.environ['LISTEN_FDNAMES']='one'", true),
    ] {
        let jail = Jail::new()?.network().through(&["python3", "-c", MANAGER]).variable("TWEAK", tweak);
        let ran = jail.run(&["node", &crate::jail::programs().report.display().to_string()])?;
        assert_eq!(
            ran.stderr.contains("stepdown: warning: sockets from a service manager are dropped"),
            warned,
            "{tweak}: {ran:?}"
        );
        let report = ran.report()?;
        assert_eq!(report.descriptors(), [0, 1, 2], "{tweak}: the descriptors go with the variables");
        for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID"] {
            assert_eq!(report.variable(name), None, "{tweak}");
        }
    }
    Ok(())
}

fn where_the_kernel_knows_no_pidfd_listen_pid_decides() -> Outcome {
    python()?;
    Need::Strace.programs(&["strace"])?;
    let wrong = "os.environ['LISTEN_PIDFDID']='77'";
    let trace = ["strace", "-qq", "-o/dev/null", "-e", "trace=pidfd_open,execve", "-e", "inject=pidfd_open:error=ENOSYS"];
    // The manager becomes strace, which starts stepdown as its child: so that is whose id it has to tell.
    let manager = MANAGER.replace("os.execv(sys.argv[1],sys.argv[1:])", "os.execvp(sys.argv[1],sys.argv[1:])");
    let strace_runs = "import os,sys\nos.environ['LISTEN_PID']=str(os.getpid()); os.execv(sys.argv[1],sys.argv[1:])";
    let jail = Jail::new()?.network().through(&["python3", "-c", &manager]).through(&trace);
    let jail = jail.through(&["python3", "-c", strace_runs]).variable("TWEAK", wrong);
    let report = jail.report(&["node"])?;
    assert_eq!(report.variable("LISTEN_PIDFDID").as_deref(), Some("77"));
    assert_eq!(report.descriptors(), [0, 1, 2, 3, 4]);
    Ok(())
}

fn the_directory_a_socket_is_bound_from_is_not_the_commands() -> Outcome {
    // In a directory that others may write to, the socket is bound by its last name from within.
    let jail = Jail::new()?.setup("mkdir -p $W/open $W/here; chmod 777 $W/open; cd $W/here");
    let report = jail.report(&["--listen", &jail.at("open/s"), "node"])?;
    assert_eq!(report.text("directory"), jail.at("here"));
    assert_eq!(owner(jail.work().join("open/s")), (0, 1000));
    Ok(())
}
