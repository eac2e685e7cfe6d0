//! What stands behind a comma in `--listen`, and who has an address that is in use.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::{python, sockets};
use crate::cases;
use crate::harness::{Case, Outcome};
use crate::jail::{Jail, owner};

pub fn cases() -> Vec<Case> {
    cases![
        the_queue_is_as_long_as_backlog_says_and_else_the_systems_maximum,
        reuse_port_lets_two_sockets_share_a_port,
        free_bind_takes_an_address_that_no_interface_has,
        v6only_leaves_ipv4_out,
        without_ipv6_v6only_is_an_error,
        mode_and_owner_are_those_of_the_sockets_name,
        an_owner_needs_no_cap_chown,
        a_comma_in_a_path_is_written_with_a_backslash,
        an_address_in_use_is_said_to_be_whose,
        the_name_of_a_process_is_printed_without_control_characters,
    ]
}

fn the_queue_is_as_long_as_backlog_says_and_else_the_systems_maximum() -> Outcome {
    python()?;
    // net.core.somaxconn is each network namespace's own: more than the 4096 that a C library calls the maximum.
    let jail = Jail::new()?.network().setup("echo 5000 >/proc/sys/net/core/somaxconn");
    let queue = |options: &[&str]| -> Result<String, crate::harness::Stop> {
        let line: Vec<&str> = options.iter().copied().chain(["node", "ss", "-Hltn"]).collect();
        Ok(jail.run(&line)?.stdout.split_whitespace().nth(2).unwrap_or_default().to_owned())
    };
    assert_eq!(queue(&["--listen", "127.0.0.1:80,backlog=7"])?, "7");
    assert_eq!(queue(&["--listen", "127.0.0.1:80"])?, "5000");
    assert_eq!(queue(&["--listen", "127.0.0.1:80,backlog=4999"])?, "4999");
    Ok(())
}

fn reuse_port_lets_two_sockets_share_a_port() -> Outcome {
    python()?;
    let jail = Jail::new()?.network();
    let said = sockets(&jail, &["--listen", "a=80,reuse-port", "--listen", "b=80,reuse-port", "--listen", "udp:53,reuse-port"])?;
    assert_eq!(said.lines().filter(|line| line.contains("SOCK_STREAM ('::', 80")).count(), 2, "{said}");
    jail.run(&["--listen", "80,reuse-port", "--listen", "127.0.0.1:80", "node", "true"])?.refused(125, "EADDRINUSE");
    Ok(())
}

fn free_bind_takes_an_address_that_no_interface_has() -> Outcome {
    python()?;
    let jail = Jail::new()?.network();
    let said = sockets(&jail, &["--listen", "10.9.8.7:80,free-bind", "--listen", "udp:[2001:db8::1]:53,free-bind"])?;
    assert_eq!(said, "AF_INET SOCK_STREAM ('10.9.8.7', 80)\nAF_INET6 SOCK_DGRAM ('2001:db8::1', 53, 0, 0)\n");
    Ok(())
}

fn v6only_leaves_ipv4_out() -> Outcome {
    python()?;
    // Were it not so, the second would be in use.
    let jail = Jail::new()?.network();
    let said = sockets(
        &jail,
        &["--listen", "80,v6only", "--listen", "0.0.0.0:80", "--listen", "[::]:81,v6only=yes", "--listen", "0.0.0.0:81"],
    )?;
    assert_eq!(said.lines().count(), 4, "{said}");
    // And no is no, whatever the system's default.
    let jail = jail.setup("echo 1 >/proc/sys/net/ipv6/bindv6only");
    jail.run(&["--listen", "[::]:80,v6only=no", "--listen", "0.0.0.0:80", "node", "true"])?.refused(125, "EADDRINUSE");
    assert_eq!(sockets(&jail, &["--listen", "[::]:80", "--listen", "0.0.0.0:80"])?.lines().count(), 2);
    Ok(())
}

fn without_ipv6_v6only_is_an_error() -> Outcome {
    python()?;
    let jail = Jail::new()?.network().setup("echo 1 >/proc/sys/net/ipv6/conf/lo/disable_ipv6");
    let strace = ["strace", "-qq", "-o/dev/null", "-e", "trace=socket", "-e", "inject=socket:error=EAFNOSUPPORT:when=1"];
    let jail = jail.through(&strace);
    jail.run(&["--listen", "80,v6only", "node", "true"])?.refused(125, "--listen 80,v6only: socket: EAFNOSUPPORT");
    Ok(())
}

fn mode_and_owner_are_those_of_the_sockets_name() -> Outcome {
    let jail = Jail::new()?.setup("umask 077; mkdir -p $W/open; chmod 777 $W/open; chmod 755 $W");
    for (name, options, ids, mode) in [
        ("a", "mode=0600", (0, 1000), 0o600),
        ("b", "owner=games", (5, 60), 0o660),
        ("c", "owner=games:staff,mode=0666", (5, 50), 0o666),
        ("open/d", "owner=7777:8888,mode=0000", (7777, 8888), 0),
        ("e", "owner=root", (0, 0), 0o660),
    ] {
        let report = jail.report(&["--listen", &format!("{},{options}", jail.at(name)), "node"])?;
        report.is_exactly(1000, 1000, &[1, 4, 100, 1000]);
        assert_eq!((report.text("umask"), report.text("directory")), ("0077", "/"));
        let facts = fs::symlink_metadata(jail.at(name))?;
        assert_eq!(((facts.uid(), facts.gid()), facts.mode() & 0o777), (ids, mode), "{name},{options}");
    }
    // Whose it is may stand in variables, as that of the whole line.
    let jail = Jail::new()?.setup("chmod 755 $W").variable("PUID", "5").variable("PGID", "50");
    jail.report(&["--listen", &format!("{},owner=$PUID:$PGID", jail.at("f")), "node"])?;
    assert_eq!(owner(jail.at("f")), (5, 50));
    let jail = Jail::new()?.setup("mkdir -p $W/shared; chgrp staff $W/shared; chmod 2755 $W/shared");
    jail.run(&["--listen", &format!("{},owner=node", jail.at("shared/s")), "node", "true"])?
        .refused(125, "its directory is set-group-ID of gid 50: owner= can't give it gid 1000");
    assert_eq!(jail.run(&["--listen", &format!("{},owner=node:staff", jail.at("shared/s")), "node", "true"])?.code, 0);
    assert_eq!(owner(jail.at("shared/s")), (1000, 50));
    Ok(())
}

fn an_owner_needs_no_cap_chown() -> Outcome {
    let jail = Jail::new()?.setup("chmod 755 $W").through(&["setpriv", "--bounding-set=-chown,-fowner", "--inh-caps=-all"]);
    let path = jail.at("s");
    let report = jail.report(&["--listen", &format!("{path},owner=games"), "node"])?;
    report.is_exactly(1000, 1000, &[1, 4, 100, 1000]);
    assert_eq!(owner(&path), (5, 60));
    // But it is as that user that it is made.
    let jail = Jail::new()?.setup("chmod 755 $W").through(&["setpriv", "--bounding-set=-dac_override", "--inh-caps=-all"]);
    jail.run(&["--listen", &format!("{},owner=games", jail.at("s")), "node", "true"])?.refused(125, "EACCES");
    // Who may become nobody else can't either.
    let jail = Jail::new()?.setup("chmod 777 $W").through(&["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]);
    jail.run(&["--listen", &format!("{},owner=games", jail.at("s")), "node:node", "true"])?.refused(125, "setfsgid(60): EPERM");
    Ok(())
}

fn a_comma_in_a_path_is_written_with_a_backslash() -> Outcome {
    let jail = Jail::new()?;
    let typed = jail.at("a\\,b,mode=0600");
    assert_eq!(jail.run(&["--listen", &typed, "node", "true"])?.code, 0);
    assert_eq!(owner(jail.at("a,b")), (0, 1000));
    Ok(())
}

/// Holds TCP and UDP port 80, `$W/s` and an abstract name, tells its pid in `$W/pid`, and has a hostile name.
const HOLDER: &str = "import os,socket,sys,time\n\
    w=sys.argv[1]; open('/proc/self/comm','w').write(sys.argv[2])\n\
    held=[socket.create_server(('127.0.0.1',80)),socket.socket(socket.AF_UNIX),socket.socket(socket.AF_UNIX),socket.socket(type=socket.SOCK_DGRAM)]\n\
    held[1].bind(w+'/s'); held[2].bind(chr(0)+'sockets_options_holder'); held[3].bind(('127.0.0.1',53))\n\
    for s in held[1:3]: s.listen()\n\
    open(w+'/new','w').write(str(os.getpid())); os.rename(w+'/new',w+'/pid'); time.sleep(600)";

fn held(comm: &str) -> Result<Jail, crate::harness::Stop> {
    python()?;
    let jail = Jail::new()?.network();
    fs::write(jail.work().join("holder.py"), HOLDER)?;
    fs::write(jail.work().join("comm"), comm)?;
    let wait = "for i in $(seq 3000); do if [ -s $W/pid ]; then break; fi; sleep 0.02; done";
    let begin = "rm -f $W/s $W/pid; python3 $W/holder.py $W \"$(cat $W/comm)\" &";
    Ok(jail.setup(begin).setup(wait))
}

fn an_address_in_use_is_said_to_be_whose() -> Outcome {
    let jail = held("nginx")?;
    let path = jail.at("s");
    for address in ["127.0.0.1:80", "80", "udp:127.0.0.1:53", "udp:53", "@sockets_options_holder", &path] {
        let ran = jail.run(&["--listen", address, "node", "true"])?;
        let pid = fs::read_to_string(jail.at("pid"))?;
        ran.refused(125, &format!("--listen {address}: "));
        ran.refused(125, &format!("EADDRINUSE: Address already in use: pid {pid} (nginx) has it\n"));
        ran.refused(125, "hint: the address is in use: stop what listens there, or choose another");
    }
    let ran = jail.run(&["--listen", "81", "--listen", "127.0.0.1:81", "node", "true"])?;
    ran.refused(125, "EADDRINUSE: Address already in use: an earlier --listen of this line has it\n");
    // Where /proc does not tell, no more is said, and nobody waits for it.
    let jail = jail.setup("mount -t tmpfs none /proc; mkdir /proc/net; mkfifo /proc/net/tcp /proc/net/tcp6");
    let ran = jail.through(&["timeout", "20"]).run(&["--listen", "80", "node", "true"])?;
    ran.refused(125, "--listen 80: bind([::]:80): EADDRINUSE: Address already in use\n");
    Ok(())
}

fn the_name_of_a_process_is_printed_without_control_characters() -> Outcome {
    let jail = held("a\u{1b}[2Jb")?;
    let ran = jail.run(&["--listen", "80", "node", "true"])?;
    ran.refused(125, "(a\\u{1b}[2Jb) has it");
    assert!(!ran.stderr.contains('\u{1b}'), "{ran:?}");
    Ok(())
}
