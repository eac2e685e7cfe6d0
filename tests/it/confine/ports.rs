//! `--bind-tcp`, `--connect-tcp`.

use super::{become_of, landlock};
use crate::cases;
use crate::harness::{Case, Need, Outcome};
use crate::jail::Jail;

pub fn cases() -> Vec<Case> {
    cases![
        an_unmodified_node_listens_on_80_and_on_nothing_else,
        a_privileged_port_keeps_one_capability_and_any_other_none,
        where_80_needs_no_capability_none_is_kept,
        without_the_capability_it_is_refused,
        ports_are_lists_and_ranges_and_none,
        connect_tcp_confines_what_is_connected_to,
        tcp_by_another_name_is_refused,
        a_connection_made_by_sending_is_refused,
        one_direction_does_not_confine_the_other,
    ]
}

const BIND: &str = "s = socket.socket(); s.bind(('127.0.0.1', PORT))";

/// What becomes of a bind of each.
fn binds(jail: &Jail, options: &[&str], ports: &[(u16, &str)]) -> Outcome {
    let lines: Vec<(&str, &str)> =
        ports.iter().map(|(port, expected)| (&*BIND.replace("PORT", &port.to_string()).leak(), *expected)).collect();
    become_of(jail, options, &lines)
}

fn jail() -> Result<Jail, crate::harness::Stop> {
    landlock(4)?;
    let jail = Jail::new()?.network();
    Ok(jail.setup("[ $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start) = 1024 ]"))
}

fn an_unmodified_node_listens_on_80_and_on_nothing_else() -> Outcome {
    Need::Services.programs(&["node"])?;
    const PROGRAM: &str = "
const http = require('http');
const tell = (port, what) => console.log(port, what);
const attempt = (ports) => {
  if (ports.length === 0) process.exit(0);
  const [port, ...rest] = ports;
  const server = http.createServer((request, response) => response.end('served'));
  server.on('error', (error) => { tell(port, error.code); attempt(rest); });
  server.listen(port, () => http.get({ port, host: '127.0.0.1' }, (response) => {
    response.on('data', (data) => tell(port, `${data} by ${process.getuid()}`));
    response.on('end', () => { server.closeAllConnections(); server.close(() => attempt(rest)); });
  }));
};
attempt([80, 81, 443, 0, 8080]);
";
    let jail = jail()?;
    let node = std::fs::canonicalize("/usr/bin/node").unwrap_or_else(|_| "/usr/local/bin/node".into());
    let ran = jail.run(&["--bind-tcp", "80", "node", &node.display().to_string(), "-e", PROGRAM])?;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "80 served by 1000\n81 EACCES\n443 EACCES\n0 EACCES\n8080 EACCES\n"),
        "{ran:?}"
    );
    Ok(())
}

fn a_privileged_port_keeps_one_capability_and_any_other_none() -> Outcome {
    let jail = jail()?;
    let kept = |ports: &str| -> Result<Vec<Vec<u64>>, crate::harness::Stop> {
        let report = jail.report(&["--bind-tcp", ports, "node"])?;
        assert_eq!((report.uids(), report.number("no_new_privs")), (vec![1000; 3], 1));
        Ok(["effective", "permitted", "inheritable", "bounding", "ambient"].map(|set| report.capabilities(set)).into())
    };
    for ports in ["80", "8080,1023", "1-65535"] {
        assert_eq!(kept(ports)?, vec![vec![10]; 5], "{ports}");
    }
    for ports in ["8080", "1024", "none", "0"] {
        assert_eq!(kept(ports)?, vec![Vec::<u64>::new(); 5], "{ports}");
    }
    Ok(())
}

fn where_80_needs_no_capability_none_is_kept() -> Outcome {
    landlock(4)?;
    let jail = Jail::new()?.network().setup("echo 80 >/proc/sys/net/ipv4/ip_unprivileged_port_start");
    jail.report(&["--bind-tcp", "80", "node"])?.is_exactly(1000, 1000, &[1, 4, 100, 1000]);
    assert_eq!(jail.report(&["--bind-tcp", "79", "node"])?.capabilities("effective"), [10]);
    binds(&jail, &["--bind-tcp", "80"], &[(80, "ok"), (81, "EACCES")])
}

fn without_the_capability_it_is_refused() -> Outcome {
    let jail = jail()?.through(&["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-all", "--reset-env"]);
    let jail = jail.through(&["setpriv", "--inh-caps=-all"]);
    jail.run(&["--bind-tcp", "80", "node", "true"])?
        .refused(125, "--bind-tcp 80: stepdown was started without CAP_NET_BIND_SERVICE");
    let already = self::jail()?.through(&["setpriv", "--reuid=1000", "--regid=1000", "--groups=1000"]);
    already
        .run(&["--bind-tcp", "80", "node", "true"])?
        .refused(125, "--bind-tcp 80: stepdown was started without CAP_NET_BIND_SERVICE");
    binds(&already, &["--bind-tcp", "8080"], &[(8080, "ok"), (8081, "EACCES")])
}

fn ports_are_lists_and_ranges_and_none() -> Outcome {
    let jail = jail()?;
    binds(
        &jail,
        &["--bind-tcp", "80,8000-8002", "--bind-tcp", "9000"],
        &[(80, "ok"), (7999, "EACCES"), (8000, "ok"), (8002, "ok"), (8003, "EACCES"), (9000, "ok"), (0, "EACCES")],
    )?;
    binds(&jail, &["--bind-tcp", "none"], &[(80, "EACCES"), (8000, "EACCES"), (0, "EACCES")])?;
    binds(&jail, &["--bind-tcp", "0"], &[(0, "ok"), (8000, "EACCES")])?;
    // Many rules.
    binds(&jail, &["--bind-tcp", "1-65535"], &[(1, "ok"), (65535, "ok"), (0, "EACCES")])
}

fn connect_tcp_confines_what_is_connected_to() -> Outcome {
    let jail = jail()?;
    let connect = |port: u16| &*format!("socket.create_connection(('127.0.0.1', {port}))").leak();
    let of_ipv6 = "s = socket.socket(socket.AF_INET6); s.connect(('::1', 81))";
    become_of(&jail, &["--connect-tcp", "80"], &[(connect(80), "ECONNREFUSED"), (connect(81), "EACCES"), (of_ipv6, "EACCES")])?;
    become_of(&jail, &["--connect-tcp", "none"], &[(connect(80), "EACCES")])?;
    become_of(&jail, &["--connect-tcp", "0-65535"], &[(connect(80), "ECONNREFUSED")])
}

fn tcp_by_another_name_is_refused() -> Outcome {
    let jail = jail()?;
    let lines = [
        ("socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)", "EPROTONOSUPPORT"),
        ("socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 262)", "EPROTONOSUPPORT"),
        ("socket.socket(socket.AF_INET, socket.SOCK_STREAM, 256)", "EPROTONOSUPPORT"),
        ("socket.socket(43, socket.SOCK_STREAM, 0)", "EAFNOSUPPORT"),
        ("call(425, 1, 0)", "ENOSYS"),
        // What is not TCP goes on as ever.
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(('127.0.0.1', 5353))", "ok"),
        ("socket.socket(socket.AF_UNIX)", "ok"),
        ("socket.socket(socket.AF_INET, socket.SOCK_STREAM, 6)", "ok"),
    ];
    for options in [["--bind-tcp", "80"], ["--connect-tcp", "none"]] {
        become_of(&jail, &options, &lines)?;
    }
    // Without a rule for ports MPTCP is nobody's business: this kernel has it, or says so itself.
    let free = super::tries(&jail, &["--scope"], &["socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)"]);
    assert!(matches!(free?.first().map(String::as_str), Some("ok" | "EPROTONOSUPPORT")));
    Ok(())
}

/// TCP Fast Open: to a server that would take it, as the control shows.
fn a_connection_made_by_sending_is_refused() -> Outcome {
    const LISTENS: &str = "rm -f $W/listens
python3 -c '
import socket, time
s = socket.socket(); s.bind((\"127.0.0.1\", 9999)); s.listen(); open(\"'$W'/listens\", \"w\"); time.sleep(600)' &
while ! [ -e $W/listens ]; do sleep 0.01; done";
    let jail = jail()?.setup("echo 1 >/proc/sys/net/ipv4/tcp_fastopen").setup(LISTENS);
    const FAST: &str = "0x20000000, ('127.0.0.1', 9999)";
    let sendto = format!("socket.socket().sendto(b'x', {FAST})");
    let sendmsg = format!("socket.socket().sendmsg([b'x'], [], {FAST})");
    // As an attacker would have it: bits above those that the kernel looks at.
    let high = "s = socket.socket(); call(44 if X86 else 206, s.fileno(), b'x', 1, ctypes.c_ulong(0xff20000000), b'\\x02\\0\\x27\\x0f\\x7f\\0\\0\\1' + bytes(8), 16)";
    // struct mmsghdr: an address, its length, one piece of nothing.
    let sendmmsg = "a = ctypes.create_string_buffer(b'\\x02\\0\\x27\\x0f\\x7f\\0\\0\\1' + bytes(8), 16); \
                    h = (ctypes.c_ulong * 8)(ctypes.addressof(a), 16); s = socket.socket(); call(307 if X86 else 269, s.fileno(), h, 1, 0x20000000)";
    let plain = "a, b = socket.socketpair(); a.send(b'x'); a.sendmsg([b'y']); assert b.recv(2) == b'xy'";
    let all = [&*sendto, &*sendmsg, high, sendmmsg];
    let expect = |each: &'static str| all.iter().map(|line| (*line, each)).chain([(plain, "ok")]).collect::<Vec<_>>();
    become_of(&jail, &[], &expect("ok"))?;
    become_of(&jail, &["--connect-tcp", "80"], &expect("ENOTSUP"))?;
    become_of(&jail, &["--bind-tcp", "none", "--connect-tcp", "none"], &expect("ENOTSUP"))?;
    become_of(&jail, &["--connect-tcp", "9999"], &[("socket.create_connection(('127.0.0.1', 9999))", "ok")])
}

fn one_direction_does_not_confine_the_other() -> Outcome {
    let jail = jail()?;
    let connect = "s = socket.socket(); s.connect(('127.0.0.1', 9))";
    become_of(&jail, &["--bind-tcp", "none"], &[(connect, "ECONNREFUSED")])?;
    binds(&jail, &["--connect-tcp", "none"], &[(8080, "ok"), (0, "ok")])
}
