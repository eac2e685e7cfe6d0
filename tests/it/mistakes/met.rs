//! Mistakes that only the machine shows: accounts, paths, descriptors, rights, and the command itself.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use nix::fcntl::{FcntlArg, OFlag};

use super::{Mistake, no, none, root_is_told};
use crate::cases;
use crate::harness::{Case, Outcome};
use crate::jail::{self, Jail};

pub fn cases() -> Vec<Case> {
    cases![
        an_unknown_user_or_group_is_named,
        a_malformed_account_is_no_account_and_its_line_is_named,
        without_account_files_the_way_out_is_named,
        root_comes_by_no_other_way_than_its_name,
        a_variable_that_is_no_account_is_named_with_its_value,
        the_owner_of_a_path_is_somebody,
        a_descriptor_to_be_kept_is_open_and_free,
        a_capability_to_be_kept_is_there,
        who_may_not_switch_is_told_so,
        a_tree_to_be_owned_is_there_and_no_system_directory,
        a_directory_to_be_made_is_no_file_and_no_system_directory,
        a_socket_takes_no_files_place,
        a_socket_has_a_path_of_107_bytes_at_most,
        an_address_that_is_not_to_be_had_is_named,
        a_port_below_1024_needs_its_capability,
        a_directory_to_start_in_is_there,
        a_command_that_does_not_exist_is_127,
        options_behind_user_are_the_commands_and_a_hint_says_so,
        a_command_that_cannot_be_run_is_126,
        a_script_that_cannot_be_run_is_read_as_the_kernel_reads_it,
        what_mkdir_is_about_to_make_may_be_named_by_other_options,
        exit_codes_do_not_depend_on_stderr,
    ]
}

fn an_unknown_user_or_group_is_named() -> Outcome {
    root_is_told(
        |jail| jail,
        &[
            no(&["nosuch", "true"], "there is no user 'nosuch' in /etc/passwd"),
            no(&["Node", "true"], "there is no user 'Node' in /etc/passwd"),
            no(&["nosuch:50", "true"], "there is no user 'nosuch' in /etc/passwd"),
            no(&["json", "true"], "there is no user 'json' in /etc/passwd"),
            no(&["node:nosuch", "true"], "there is no group 'nosuch' in /etc/group"),
            no(&["1000:Staff", "true"], "there is no group 'Staff' in /etc/group"),
            no(&["--groups", "staff,nosuch", "node", "true"], "there is no group 'nosuch' in /etc/group"),
            no(&["7777", "true"], "uid 7777 is not in /etc/passwd, so its group is unknown").hint("write 7777:GID"),
            no(&["1001", "true"], "uid 1001 is not in /etc/passwd, so its group is unknown").hint("write 1001:GID"),
        ],
    )
}

fn a_malformed_account_is_no_account_and_its_line_is_named() -> Outcome {
    let hostile = |file: &str| {
        let lines = "badid:x:abc:abc::/:/bin/sh\nover:x:4294967296:0::/:/bin/sh";
        format!("cat >$W/{file} <<'END'\n{lines}\nEND\nmount --bind $W/{file} /etc/{file}")
    };
    root_is_told(
        |jail| jail.setup(&hostile("passwd")).setup(&hostile("group")),
        &[
            no(&["badid", "true"], "there is no user 'badid' in /etc/passwd")
                .hint("line 1 of /etc/passwd begins so, but is malformed and counts for nothing"),
            no(&["over", "true"], "there is no user 'over' in /etc/passwd")
                .hint("line 2 of /etc/passwd begins so, but is malformed and counts for nothing"),
            no(&["1:badid", "true"], "there is no group 'badid' in /etc/group")
                .hint("line 1 of /etc/group begins so, but is malformed and counts for nothing"),
        ],
    )
}

fn without_account_files_the_way_out_is_named() -> Outcome {
    root_is_told(
        |jail| jail.setup("mount -t tmpfs none /etc"),
        &[
            no(&["node", "true"], "there is no user 'node' in /etc/passwd")
                .hint("/etc/passwd is missing or empty; write UID:GID in numbers"),
            no(&["1000:staff", "true"], "there is no group 'staff' in /etc/group")
                .hint("/etc/group is missing or empty; write UID:GID in numbers"),
        ],
    )?;
    root_is_told(
        |jail| jail.setup("mount -t tmpfs none /etc; mkfifo /etc/passwd"),
        &[no(&["1000:1000", "true"], "/etc/passwd is no regular file")],
    )
}

fn root_comes_by_no_other_way_than_its_name() -> Outcome {
    const WAY: &str = "name an ordinary user, or write root";
    const OWNER: &str = "give the path its owner, or write root";
    root_is_told(
        |jail| jail.variable("PUID", "0").variable("NAME", "root").variable("PGID", "0").setup("mkdir $W/g; chown 1000:0 $W/g"),
        &[
            no(&["$PUID", "true"], "USER '$PUID' is uid 0, and root is only run as where 'root' or '0' is written out").hint(WAY),
            no(&["$PUID:50", "true"], "USER '$PUID' is uid 0, and root is only run as where 'root' or '0' is written out")
                .hint(WAY),
            no(&["$NAME", "true"], "USER '$NAME' is uid 0, and root is only run as where 'root' or '0' is written out").hint(WAY),
            no(&["${NONE:-0}", "true"], "USER '${NONE:-0}' is uid 0, and root is only run as where 'root' or '0' is written out")
                .hint(WAY),
            no(&["toor", "true"], "USER 'toor' is uid 0, and root is only run as where 'root' or '0' is written out").hint(WAY),
            no(
                &["node:$PGID", "true"],
                "GROUP '$PGID' is gid 0, and root's group is only taken where 'root' or '0' is written out",
            ),
            no(
                &["--groups", "4,$PGID", "node", "true"],
                "--groups '$PGID' is gid 0, and root's group is only taken where 'root' or '0' is written out",
            ),
            no(&["@$W/tree", "true"], "USER '@$W/tree': it belongs to uid 0, and root is only run as where it is written out")
                .hint(OWNER),
            no(&["@$W/g", "true"], "USER '@$W/g': it belongs to gid 0, and root is only run as where it is written out")
                .hint(OWNER),
        ],
    )
}

fn a_variable_that_is_no_account_is_named_with_its_value() -> Outcome {
    root_is_told(
        |jail| jail.variable("EMPTY", "").variable("SPACE", " 1000").variable("BOTH", "1000:50").variable("PATHLIKE", "@/data"),
        &[
            no(&["$NONE", "true"], "the variable NONE is unset or empty").hint("set it, or write '${NONE:-1000}'"),
            no(&["$EMPTY", "true"], "the variable EMPTY is unset or empty").hint("set it, or write '${EMPTY:-1000}'"),
            no(&["1000:$EMPTY", "true"], "the variable EMPTY is unset or empty").hint("set it, or write '${EMPTY:-1000}'"),
            no(&["${EMPTY:-}", "true"], "the default of EMPTY is '': a part is empty"),
            no(&["$SPACE", "true"], "the variable SPACE is ' 1000': a name has no white space, control character or colon"),
            no(&["$BOTH", "true"], "the variable BOTH is '1000:50': a name has no white space, control character or colon"),
            no(&["$PATHLIKE", "true"], "the variable PATHLIKE is '@/data', which is no account"),
            no(&["${NONE:-01}", "true"], "the default of NONE is '01': an id has no leading zero"),
        ],
    )
}

fn the_owner_of_a_path_is_somebody() -> Outcome {
    root_is_told(
        |jail| jail.setup("mkdir $W/theirs; ln -s ../tree $W/theirs/link; chown -h 1000 $W/theirs/link $W/theirs"),
        &[
            no(&["@$W/none", "true"], "USER '@$W/none': open(none): ENOENT: No such file or directory"),
            no(&["@$W/tree/below/none", "true"], "USER '@$W/tree/below/none': open(none): ENOENT: No such file or directory"),
            no(
                &["@$W/theirs/link", "true"],
                "USER '@$W/theirs/link': the symbolic link 'link' is not followed: it belongs to uid 1000 and its directory to uid \
                 1000, not to root",
            ),
        ],
    )
}

fn a_descriptor_to_be_kept_is_open_and_free() -> Outcome {
    root_is_told(
        |jail| jail.setup("exec 3</dev/null 4</dev/null"),
        &[
            no(&["--keep-fd", "9", "node", "true"], "--keep-fd 9: descriptor 9 is not open"),
            no(&["--keep-fd", "2147483647", "node", "true"], "--keep-fd 2147483647: descriptor 2147483647 is not open"),
            no(
                &["--listen", "@a", "--keep-fd", "3", "node", "true"],
                "--keep-fd 3: what --listen hands on takes descriptors 3 to 3",
            ),
            no(
                &["--keep-fd", "4", "--listen", "@a", "--listen", "@b", "node", "true"],
                "--keep-fd 4: what --listen hands on takes descriptors 3 to 4",
            ),
            no(
                &["--open", "/etc/passwd", "--keep-fd", "3", "node", "true"],
                "--keep-fd 3: what --open hands on takes descriptors 3 to 3",
            ),
            no(
                &["--open", "/etc/passwd", "--listen", "@b", "--keep-fd", "4", "node", "true"],
                "--keep-fd 4: what --listen and --open hand on takes descriptors 3 to 4",
            ),
            no(
                &["--listen", "@a", "node", "cat", "/dev/fd/3"],
                "an argument names /dev/fd/3, which is open: what --listen hands on takes descriptors 3 to 3",
            ),
        ],
    )
}

const START: &str =
    "add it where stepdown is started: Docker --cap-add, Kubernetes capabilities.add, systemd AmbientCapabilities=";

fn a_capability_to_be_kept_is_there() -> Outcome {
    root_is_told(
        |jail| jail.through(&["setpriv", "--bounding-set=-net_raw,-sys_time", "--inh-caps=-all"]),
        &[
            no(&["--keep-cap", "NET_RAW", "node", "true"], "--keep-cap: stepdown was started without CAP_NET_RAW").hint(START),
            no(
                &["--keep-cap", "net_raw,CAP_SYS_TIME,CHOWN", "node", "true"],
                "--keep-cap: stepdown was started without CAP_NET_RAW, CAP_SYS_TIME",
            )
            .hint(START),
        ],
    )
}

fn who_may_not_switch_is_told_so() -> Outcome {
    root_is_told(
        |jail| jail.through(&["setpriv", "--reuid=1000", "--regid=1000", "--groups=0,1000", "--inh-caps=-all"]),
        &[
            no(
                &["games", "true"],
                "started as uid 1000, gid 1000, which can't become games (uid 5, gid 60): CAP_SETGID, CAP_SETUID is missing",
            )
            .hint(
                "start as root with it (Docker: -u 0 --cap-add SETUID --cap-add SETGID; Kubernetes: runAsUser: 0, \
                 capabilities.add: [SETUID, SETGID]; systemd: no User=), start as 5:60 at once, or use --if-root",
            ),
            no(
                &["node", "true"],
                "started as node (uid 1000, gid 1000) already, but in groups [0] besides, and CAP_SETGID is missing to leave them",
            )
            .hint("start without these groups, name them with --groups, or use --if-root to keep them"),
        ],
    )
}

const SERVICE: &str = "name the directory of the service itself, such as /data or /var/lib/app";

fn a_tree_to_be_owned_is_there_and_no_system_directory() -> Outcome {
    let refused = [
        no(&["--chown", "/", "node", "true"], "--chown /: refused, / belongs to the system"),
        no(&["--chown", "//etc/.", "node", "true"], "--chown //etc/.: refused, /etc belongs to the system"),
        no(&["--chown", "/usr", "node", "true"], "--chown /usr: refused, /usr belongs to the system"),
        no(&["--chown", "/opt", "node", "true"], "--chown /opt: refused, /opt belongs to the system"),
        no(&["--chown", "/bin", "node", "true"], "--chown /bin: refused, /bin belongs to the system"),
        no(&["--chown", "/lib", "node", "true"], "--chown /lib: refused, /lib belongs to the system"),
        no(
            &["--chown", "/proc/self", "node", "true"],
            "--chown /proc/self: refused, proc, a file system of the kernel's own, belongs to the system",
        ),
        no(&["--chown", "/sys", "node", "true"], "--chown /sys: refused, /sys belongs to the system"),
        no(&["--chown", "/dev/null", "node", "true"], "--chown /dev/null: refused, /dev belongs to the system"),
        no(&["--chown", "etc", "node", "true"], "--chown etc: refused, /etc belongs to the system"),
        no(&["--chown", "$W/../../../etc", "node", "true"], "--chown $W/../../../etc: refused, /etc belongs to the system"),
        no(&["--chown", "$W/etc", "node", "true"], "--chown $W/etc: refused, /etc belongs to the system"),
        no(&["--chown-if-possible", "/etc", "node", "true"], "--chown-if-possible /etc: refused, /etc belongs to the system"),
    ];
    let furnish = |jail: Jail| {
        jail.setup("ln -s /etc $W/etc; mkdir $W/theirs; ln -s ../tree $W/theirs/link; chown -h 1000 $W/theirs/link $W/theirs")
    };
    root_is_told(furnish, &refused.map(|mistake| mistake.hint(SERVICE)))?;
    root_is_told(
        furnish,
        &[
            no(&["--chown", "$W/none", "node", "true"], "--chown $W/none: open(none): ENOENT: No such file or directory")
                .hint("create it first: --mkdir $W/none"),
            no(
                &["--chown", "$W/tree", "--chown", "$W/none/sub", "node", "true"],
                "--chown $W/none/sub: open(none): ENOENT: No such file or directory",
            )
            .hint("create it first: --mkdir $W/none/sub"),
            no(
                &["--chown", "$W/theirs/link", "node", "true"],
                "--chown $W/theirs/link: the symbolic link 'link' is not followed: it belongs to uid 1000 and its directory to uid \
                 1000, not to root",
            ),
        ],
    )
}

fn a_directory_to_be_made_is_no_file_and_no_system_directory() -> Outcome {
    let furnish = |jail: Jail| jail.setup("echo >$W/file; ln -s nowhere $W/dangling; ln -s /etc $W/etc");
    root_is_told(
        furnish,
        &[
            no(&["--mkdir", "$W/file", "node", "true"], "--mkdir $W/file: it exists and is no directory"),
            no(&["--mkdir", "$W/a", "--mkdir", "$W/file", "node", "true"], "--mkdir $W/file: it exists and is no directory"),
            no(&["--mkdir", "$W/file/sub", "node", "true"], "--mkdir $W/file/sub: open(sub): ENOTDIR: Not a directory"),
            no(
                &["--mkdir", "$W/dangling", "node", "true"],
                "--mkdir $W/dangling: open(nowhere): ENOENT: No such file or directory",
            )
            .late(),
            no(&["--mkdir", "$W/..", "node", "true"], "--mkdir $W/..: the path ends in '..'"),
        ],
    )?;
    let refused = [
        no(&["--mkdir", "/", "node", "true"], "--mkdir /: refused, / belongs to the system"),
        no(&["--mkdir", "/var/lib:0700", "node", "true"], "--mkdir /var/lib: refused, /var/lib belongs to the system"),
        no(
            &["--mkdir", "/proc/x", "node", "true"],
            "--mkdir /proc/x: refused, proc, a file system of the kernel's own, belongs to the system",
        ),
        no(&["--mkdir", "$W/etc", "node", "true"], "--mkdir $W/etc: refused, /etc belongs to the system"),
    ];
    root_is_told(furnish, &refused.map(|mistake| mistake.hint(SERVICE)))
}

fn a_socket_takes_no_files_place() -> Outcome {
    root_is_told(
        |jail| jail.setup("echo precious >$W/file"),
        &[
            no(&["--listen", "$W/file", "node", "true"], "--listen $W/file: the path exists and is no socket; it is left alone"),
            no(&["--listen", "$W/tree", "node", "true"], "--listen $W/tree: the path exists and is no socket; it is left alone"),
            no(&["--listen", "$W/none/s", "node", "true"], "--listen $W/none/s: open(none): ENOENT: No such file or directory")
                .hint("its directory has to be there: --mkdir makes one"),
            no(&["--listen", "$W/file/s", "node", "true"], "--listen $W/file/s: open(s): ENOTDIR: Not a directory"),
            no(
                &["--listen", "udp:$W/file", "node", "true"],
                "--listen udp:$W/file: the path exists and is no socket; it is left alone",
            ),
        ],
    )
}

fn a_socket_has_a_path_of_107_bytes_at_most() -> Outcome {
    let path: &'static str = format!("/mnt/{}", "x".repeat(103)).leak();
    let says = format!("--listen {path}: the path has 108 bytes; 107 are the most a Unix socket takes").leak();
    root_is_told(|jail| jail, &[no(vec!["--listen", path, "node", "true"].leak(), says)])
}

/// Whether an address is free is known when it is taken, which is after the other chores. Without /proc nobody can
/// be named.
fn an_address_that_is_not_to_be_had_is_named() -> Outcome {
    const IN_USE: &str = "the address is in use: stop what listens there, or choose another";
    let stepdown = jail::programs().stepdown.display();
    let taken = format!(
        "{stepdown} --listen $W/s --listen @taken --listen 127.0.0.1:8080 root sleep 60 &\n\
         until [ \"$(readlink /proc/$!/exe)\" != {stepdown} ] && [ -S $W/s ]; do sleep 0.01; done; mount -t tmpfs none /proc"
    );
    root_is_told(
        |jail| jail.network().setup(&taken),
        &[
            no(&["--listen", "$W/s", "node", "true"], "--listen $W/s: connect: EADDRINUSE: Address already in use")
                .hint(IN_USE)
                .late(),
            no(&["--listen", "@taken", "node", "true"], "--listen @taken: bind(@taken): EADDRINUSE: Address already in use")
                .hint(IN_USE)
                .late(),
            no(
                &["--listen", "127.0.0.1:8080", "node", "true"],
                "--listen 127.0.0.1:8080: bind(127.0.0.1:8080): EADDRINUSE: Address already in use",
            )
            .hint(IN_USE)
            .late(),
            no(&["--listen", "8080", "node", "true"], "--listen 8080: bind([::]:8080): EADDRINUSE: Address already in use")
                .hint(IN_USE)
                .late(),
            no(
                &["--listen", "192.0.2.1:80", "node", "true"],
                "--listen 192.0.2.1:80: bind(192.0.2.1:80): EADDRNOTAVAIL: Cannot assign requested address",
            )
            .hint("no interface of this host (or container) has the address")
            .late(),
            no(
                &["--listen", "[fe80::1%nosuch0]:80", "node", "true"],
                "--listen [fe80::1%nosuch0]:80: if_nametoindex(nosuch0): ENODEV: No such device",
            )
            .late(),
        ],
    )
}

fn a_port_below_1024_needs_its_capability() -> Outcome {
    root_is_told(
        |jail| jail.network().through(&["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-all"]),
        &[no(&["--listen", "80", "node", "true"], "--listen 80: bind([::]:80): EACCES: Permission denied")
            .hint(
                "CAP_NET_BIND_SERVICE is missing (Docker: --cap-add NET_BIND_SERVICE; systemd: \
                 AmbientCapabilities=CAP_NET_BIND_SERVICE)",
            )
            .late()],
    )
}

fn a_directory_to_start_in_is_there() -> Outcome {
    root_is_told(
        |jail| jail.setup("echo >$W/file; mkdir -m 700 $W/closed"),
        &[
            no(&["--chdir", "$W/none", "node", "true"], "--chdir $W/none: chdir: ENOENT: No such file or directory"),
            no(&["--chdir", "$W/file", "node", "true"], "--chdir $W/file: chdir: ENOTDIR: Not a directory"),
            no(&["--chdir", "$W/closed", "node", "true"], "--chdir $W/closed: chdir: EACCES: Permission denied").late(),
        ],
    )
}

const BEFORE_USER: &str = "options of stepdown stand before USER; what stands behind it is the command's";

fn a_command_that_does_not_exist_is_127() -> Outcome {
    root_is_told(
        |jail| jail.variable("PATH", "/usr/bin:/bin").setup("mkdir -m 700 $W/closed; cp /bin/true $W/closed; echo >$W/file"),
        &[
            no(&["node", "nosuch"], "COMMAND 'nosuch' is not found in PATH (/usr/bin:/bin)").code(127),
            no(&["node", ""], "COMMAND '' is not found in PATH (/usr/bin:/bin)").code(127),
            no(&["node", "./nosuch"], "COMMAND './nosuch' does not exist").code(127),
            no(&["node", "$W/none/sub"], "COMMAND '$W/none/sub' does not exist").code(127),
            no(&["node", "$W/file/sub"], "COMMAND '$W/file/sub' does not exist").code(127),
            no(
                &["--unset-env", "PATH", "node", "nosuch"],
                "COMMAND 'nosuch' is not found in PATH (/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)",
            )
            .code(127),
            no(&["--env", "PATH=/nowhere:.", "node", "true"], "COMMAND 'true' is not found in PATH (/nowhere:.)").code(127),
            no(&["--env", "PATH=", "node", "true"], "COMMAND 'true' is not found in PATH ()").code(127),
            no(
                &["--env", "PATH=$W/closed", "node", "true"],
                "COMMAND 'true' is not found in PATH ($W/closed; $W/closed/true is closed to uid 1000)",
            )
            .code(127)
            .late(),
            no(&["--dry-run", "node", "nosuch"], "COMMAND 'nosuch' is not found in PATH (/usr/bin:/bin)").code(127),
        ],
    )
}

fn options_behind_user_are_the_commands_and_a_hint_says_so() -> Outcome {
    let mistakes = [
        no(&["node", "--init", "x"], "COMMAND '--init' is not found in PATH (/usr/bin:/bin)"),
        no(&["node", "--chown", "/data", "true"], "COMMAND '--chown' is not found in PATH (/usr/bin:/bin)"),
        no(&["node", "--umask=027", "true"], "COMMAND '--umask=027' is not found in PATH (/usr/bin:/bin)"),
        no(&["node", "--", "--dry-run", "true"], "COMMAND '--dry-run' is not found in PATH (/usr/bin:/bin)"),
        no(&["node", "--", "--", "true"], "COMMAND '--' is not found in PATH (/usr/bin:/bin)"),
    ];
    root_is_told(|jail| jail.variable("PATH", "/usr/bin:/bin"), &mistakes.map(|mistake| mistake.code(127).hint(BEFORE_USER)))
}

/// Files that execve(2) refuses, each for its own reason.
const UNRUNNABLE: &str = r"
echo 'exit 0' >$W/plain; chmod 644 $W/plain
echo 'exit 0' >$W/roots; chmod 700 $W/roots
: >$W/empty; chmod 755 $W/empty
echo 'exit 0' >$W/text; chmod 755 $W/text
printf '#!/no/such/interpreter -x\n' >$W/script; chmod 755 $W/script
printf '#! /etc\n' >$W/etcscript; chmod 755 $W/etcscript
printf '#!'$W/roots'\n' >$W/closedscript; chmod 755 $W/closedscript
printf '\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\2\0\363\0\1\0\0\0' >$W/riscv; head -c 200 /dev/zero >>$W/riscv; chmod 755 $W/riscv
printf '\177ELF' >$W/torn; chmod 755 $W/torn
mkdir -m 700 $W/closed; cp /bin/true $W/closed/true
mkfifo -m 755 $W/fifo
ln -s loop $W/loop
mount -t tmpfs -o noexec,mode=755 none /mnt; cp /bin/true /mnt/true
";

const NOT_ALLOWED: &str = "EACCES: Permission denied";
const NO_FORMAT: &str = "ENOEXEC: Exec format error";

/// `stepdown node FILE`, and what is said of FILE.
fn unrunnable(file: &'static str, why: &str, errno: &str) -> Mistake {
    no(vec!["node", file].leak(), format!("{file} {why}: execve({file}): {errno}").leak()).code(126)
}

/// Scripts with something wrong before or behind `#!`. The arguments of an interpreter that is there are its own affair.
const SCRIPTS: &str = r"
printf '#!/bin/sh\r\nexit 0\r\n' >$W/crlf
printf '#! /bin/sh\r' >$W/cr
printf '#!/bin/sh -e\r\n' >$W/argument
printf '\357\273\277#!/bin/sh\nexit 0\n' >$W/bom
printf '\377\376#\0!\0' >$W/utf16
printf '\n#!/bin/sh\nexit 0\n' >$W/late
printf '#! \t\nexit 0\n' >$W/nothing
printf '#!\r\nexit 0\r\n' >$W/nothingcr
printf '#!/%0300d\n' 0 >$W/long
printf '#!/no/such/thing\n' >$W/two; printf '#!%s\n' $W/two >$W/one
printf '#!%s\n' $W/self >$W/self
printf '#!%s\n' $W/ring >$W/tied
chmod 755 $W/*
ln -s ring $W/ring
";

fn a_script_that_cannot_be_run_is_read_as_the_kernel_reads_it() -> Outcome {
    const MISSING: &str = "ENOENT: No such file or directory";
    const LOOP: &str = "ELOOP: Too many symbolic links encountered";
    const CRLF: &str = "ends its lines in CR LF, as Windows does: it needs the interpreter '/bin/sh\\r', which does not exist";
    let first = |what: &str| format!("{what}, and '#!' must be the first two bytes of a script");
    let sed = |name: &str| -> &'static str {
        format!("end them in LF alone: sed -i 's/\\r$//' $W/{name}; for git: text eol=lf in .gitattributes").leak()
    };
    root_is_told(
        |jail| jail.setup(SCRIPTS),
        &[
            unrunnable("$W/crlf", CRLF, MISSING).hint(sed("crlf")).late(),
            unrunnable("$W/cr", CRLF, MISSING).hint(sed("cr")).late(),
            unrunnable("$W/bom", &first("begins with a byte order mark (U+FEFF)"), NO_FORMAT)
                .hint(r"take it away: sed -i '1s/^\xef\xbb\xbf//' $W/bom")
                .late(),
            unrunnable("$W/utf16", &first("is text in UTF-16"), NO_FORMAT)
                .hint("write it as UTF-8 without a byte order mark: iconv -f UTF-16 -t UTF-8 $W/utf16")
                .late(),
            unrunnable("$W/late", &first("has white space before '#!'"), NO_FORMAT).late(),
            unrunnable("$W/nothing", "names no interpreter behind '#!'", NO_FORMAT).late(),
            unrunnable("$W/long", "names an interpreter that is longer than the 256 bytes the kernel reads", NO_FORMAT).late(),
            // Of a chain the link that is missing is named.
            no(
                &["node", "$W/one"],
                "$W/two needs the interpreter '/no/such/thing', which does not exist: execve($W/one): ENOENT: No such file or directory",
            )
            .code(126)
            .late(),
            unrunnable("$W/self", "needs the interpreter '$W/self', which needs an interpreter itself, and so on too often", LOOP).late(),
            unrunnable("$W/tied", "needs the interpreter '$W/ring', which is a loop of symbolic links", LOOP).late(),
        ],
    )?;
    let jail = Jail::new()?.setup(SCRIPTS);
    // '\r' is a name for the kernel; and an argument is for the interpreter to refuse, which stepdown has become by then.
    jail.run(&["node", &jail.at("nothingcr")])?.refused(126, "CR LF");
    let ran = jail.run(&["node", &jail.at("argument")])?;
    assert!(ran.code != 0 && !ran.stderr.contains("stepdown: "), "{ran:?}");
    // What sed(1) is told to do mends them.
    for (name, mend) in [("crlf", r"s/\r$//"), ("bom", r"1s/^\xef\xbb\xbf//")] {
        let jail = Jail::new()?.setup(SCRIPTS).setup(&format!("sed -i '{mend}' $W/{name}"));
        let ran = jail.run(&["node", &jail.at(name)])?;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{name}");
    }
    Ok(())
}

/// Of what nobody could run, the chores learn in time; of the rest, execve alone knows.
fn a_command_that_cannot_be_run_is_126() -> Outcome {
    let ours = if cfg!(target_arch = "aarch64") { "aarch64" } else { "x86_64" };
    let owner = |mode: &str| format!("(mode {mode}, owner 0:0) is not executable for uid 1000, gid 1000");
    let mistakes = [
        unrunnable("$W/tree", "is a directory", NOT_ALLOWED),
        unrunnable("$W/fifo", "is no regular file", NOT_ALLOWED),
        unrunnable("$W/plain", &owner("0644"), NOT_ALLOWED),
        unrunnable("$W/roots", &owner("0700"), NOT_ALLOWED).late(),
        unrunnable("/mnt/true", "is on a file system that is mounted noexec", NOT_ALLOWED).late(),
        unrunnable(
            "$W/closed/true",
            "can't be reached by uid 1000, gid 1000: something at or below $W/closed is closed to it",
            NOT_ALLOWED,
        )
        .late(),
        unrunnable("$W/etcscript", "needs the interpreter '/etc', which is a directory", NOT_ALLOWED).late(),
        unrunnable("$W/closedscript", "needs the interpreter '$W/roots', which uid 1000, gid 1000 can't run", NOT_ALLOWED).late(),
        unrunnable(
            "$W/script",
            "needs the interpreter '/no/such/interpreter', which does not exist",
            "ENOENT: No such file or directory",
        )
        .late(),
        unrunnable("$W/loop", "is a loop of symbolic links", "ELOOP: Too many symbolic links encountered").late(),
        unrunnable("$W/riscv", &format!("is a program for riscv, and this is {ours}"), NO_FORMAT).late(),
        unrunnable("$W/torn", "is an ELF file that this kernel can't run", NO_FORMAT).late(),
        unrunnable("$W/empty", "is empty", NO_FORMAT).late(),
        unrunnable(
            "$W/text",
            "is no program: it begins neither with '#!' and an interpreter nor as ELF (a shell script? run it by sh)",
            NO_FORMAT,
        )
        .late(),
        Mistake { arguments: &["--env", "PATH=$W", "node", "plain"], ..unrunnable("$W/plain", &owner("0644"), NOT_ALLOWED) },
    ];
    root_is_told(|jail| jail.setup(UNRUNNABLE), &mistakes)
}

/// What looks like a mistake before the directories are made, and is none.
fn what_mkdir_is_about_to_make_may_be_named_by_other_options() -> Outcome {
    for line in [
        "--mkdir $W/data --chown $W/data --listen $W/data/s --chdir $W/data",
        "--mkdir $W/a/b --chown $W/a --chdir $W/a/b/..",
        "--mkdir $W/a/b --chdir $W/a/. --listen $W/a/s",
        "--mkdir $W/real --chown $W/link --chdir $W/link --listen $W/link/s",
        "--mkdir $W/real --mkdir $W/link:0700",
    ] {
        let jail = Jail::new()?.setup("ln -s real $W/link");
        let work = jail.work().display().to_string();
        let arguments: Vec<String> = line.split(' ').chain(["node", "true"]).map(|word| word.replace("$W", &work)).collect();
        let ran = jail.run(&arguments)?;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{line}");
    }
    Ok(())
}

/// A stderr that takes no word, and the descriptor that keeps its other end from closing.
type Deaf = (&'static str, Stdio, Option<OwnedFd>);

fn deaf() -> Result<Vec<Deaf>, std::io::Error> {
    let (reader, without_reader) = nix::unistd::pipe()?;
    drop(reader);
    let (idle_reader, stuffed) = nix::unistd::pipe()?;
    nix::fcntl::fcntl(&stuffed, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    while nix::unistd::write(&stuffed, &[b'x'; 4096]).is_ok() {}
    nix::fcntl::fcntl(&stuffed, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(vec![
        ("full", Stdio::from(File::create("/dev/full")?), None),
        ("a pipe without a reader", Stdio::from(without_reader), None),
        ("a pipe that nobody empties", Stdio::from(stuffed), Some(idle_reader)),
    ])
}

fn exit_codes_do_not_depend_on_stderr() -> Outcome {
    let lines: [(&[&str], i32); 6] = [
        (&["--umask", "9", "node", "true"], 125),
        (&["nosuch", "true"], 125),
        (&["--chown", "/etc", "node", "true"], 125),
        (&["node", "nosuch"], 127),
        (&["node", "/etc/passwd"], 126),
        (&["node", "sh", "-c", "exit 7"], 7),
    ];
    let mut differences = Vec::new();
    for (arguments, expected) in lines {
        let closed = Jail::new()?.through(&["sh", "-c", "exec \"$@\" 2>&-", "sh"]).command(arguments).output()?;
        // As under LimitFSIZE= in systemd, and a log that is full by it.
        let no_file = Jail::new()?.setup("touch $W/log").through(&["sh", "-c", "exec \"$@\" 2>>log", "sh"]);
        let no_file = no_file.setup("cd $W; ulimit -f 0").command(arguments).output()?;
        let mut ended = vec![("closed", closed.status.code()), ("a file that may not grow", no_file.status.code())];
        for (how, stderr, _other_end) in deaf()? {
            ended.push((how, Jail::new()?.command(arguments).stderr(stderr).status()?.code()));
        }
        let wrong = ended.into_iter().filter(|(_, code)| *code != Some(expected));
        differences.extend(wrong.map(|(how, code)| format!("{arguments:?} with stderr {how}: {code:?}, not {expected}")));
    }
    none(&differences);
    Ok(())
}
