//! Mistakes about what the command may reach and call, and about its limits.

use super::{anybody_is_told, no, root_is_told};
use crate::cases;
use crate::harness::{Case, Outcome};

pub fn cases() -> Vec<Case> {
    cases![
        a_port_is_a_number_a_range_or_none,
        a_path_that_cant_be_opened_is_never_passed_over,
        a_profile_is_a_regular_file_that_can_be_read,
        a_limit_has_a_name_and_values,
        a_number_is_in_its_range,
        what_may_gain_rights_cant_be_confined,
        a_near_miss_is_named,
    ]
}

const PORTS: &str = "write a port, 0 to 65535, a range of them, or none: 80, 8000-8010, 80,443";

fn a_port_is_a_number_a_range_or_none() -> Outcome {
    let told = [
        no(&["--bind-tcp", "", "1:1", "true"], "--bind-tcp '': '' is no port"),
        no(&["--bind-tcp", "65536", "1:1", "true"], "--bind-tcp '65536': '65536' is no port"),
        no(&["--bind-tcp", "http", "1:1", "true"], "--bind-tcp 'http': 'http' is no port"),
        no(&["--bind-tcp", "80,", "1:1", "true"], "--bind-tcp '80,': '' is no port"),
        no(&["--bind-tcp", "90-80", "1:1", "true"], "--bind-tcp '90-80': '90-80' is no port"),
        no(&["--connect-tcp", "-1", "1:1", "true"], "--connect-tcp '-1': '-1' is no port"),
        no(&["--connect-tcp", "080", "1:1", "true"], "--connect-tcp '080': '080' is no port"),
        no(&["--connect-tcp", "udp:80", "1:1", "true"], "--connect-tcp 'udp:80': 'udp:80' is no port"),
    ];
    anybody_is_told(&told.map(|mistake| mistake.hint(PORTS)))?;
    anybody_is_told(&[
        no(&["--connect-tcp", "127.0.0.1:80", "1:1", "true"], "--connect-tcp '127.0.0.1:80': '127.0.0.1:80' is no port")
            .hint("a rule is for a port of TCP, whatever the address: write --connect-tcp 80"),
        no(&["--bind-tcp"], "--bind-tcp needs a value"),
        no(&["--bind-tcp", "none,80", "1:1", "true"], "--bind-tcp: none stands alone"),
        no(&["--bind-tcp", "none", "--bind-tcp", "80", "1:1", "true"], "--bind-tcp: none stands alone"),
    ])
}

fn a_path_that_cant_be_opened_is_never_passed_over() -> Outcome {
    crate::confine::landlock(5)?;
    anybody_is_told(&[no(&["--ro", "", "1:1", "true"], "--ro: the path is empty"), no(&["--rwx"], "--rwx needs a value")])?;
    root_is_told(
        |jail| jail.setup("ln -sfn nowhere $W/dangling; ln -sfn loop $W/tree/loop; echo x >$W/tree/file"),
        &[
            no(&["--ro", "$W/missing", "node", "true"], "--ro $W/missing: open(missing): ENOENT: No such file or directory"),
            no(
                &["--rox", "/usr", "--rw", "$W/dangling", "node", "true"],
                "--rw $W/dangling: open(nowhere): ENOENT: No such file or directory",
            )
            .late(),
            no(
                &["--rwx", "$W/tree/loop", "node", "true"],
                "--rwx $W/tree/loop: open(loop): ELOOP: Too many symbolic links encountered",
            ),
            no(&["--ro", "$W/tree/file/below", "node", "true"], "--ro $W/tree/file/below: open(below): ENOTDIR: Not a directory"),
        ],
    )
}

fn a_profile_is_a_regular_file_that_can_be_read() -> Outcome {
    anybody_is_told(&[
        no(&["--seccomp", "", "1:1", "true"], "--seccomp: the path is empty"),
        no(&["--seccomp"], "--seccomp needs a value"),
        no(&["--seccomp", "service", "--seccomp", "service", "1:1", "true"], "--seccomp is given twice"),
    ])?;
    root_is_told(
        |jail| jail.setup("mkfifo -m 666 $W/tree/fifo; truncate -s 17M $W/tree/large; touch $W/tree/empty"),
        &[
            no(&["--seccomp", "$W/none", "node", "true"], "--seccomp $W/none: open(none): ENOENT: No such file or directory"),
            no(&["--seccomp", "$W/tree", "node", "true"], "--seccomp $W/tree: it is a directory, and no regular file"),
            no(&["--seccomp", "$W/tree/fifo", "node", "true"], "--seccomp $W/tree/fifo: it is a FIFO, and no regular file"),
            no(&["--seccomp", "/dev/zero", "node", "true"], "--seccomp /dev/zero: it is a device, and no regular file"),
            no(
                &["--seccomp", "$W/tree/large", "node", "true"],
                "--seccomp $W/tree/large: it has more than 16 MiB, the most that is read",
            ),
        ],
    )
}

const ULIMIT: &str = "write NAME=SOFT or NAME=SOFT:HARD: nofile=65536, core=0:unlimited";

fn a_limit_has_a_name_and_values() -> Outcome {
    let told = [
        no(&["--ulimit", "nofile", "1:1", "true"], "--ulimit 'nofile': there is no '='"),
        no(&["--ulimit", "nofiles=1", "1:1", "true"], "--ulimit 'nofiles=1': there is no limit 'nofiles': did you mean nofile?"),
        no(&["--ulimit", "RLIMIT_CORE=1", "1:1", "true"], "--ulimit 'RLIMIT_CORE=1': there is no limit 'RLIMIT_CORE'"),
        no(&["--ulimit", "nofile=", "1:1", "true"], "--ulimit 'nofile=': '' is no limit"),
        no(&["--ulimit", "nofile=1k", "1:1", "true"], "--ulimit 'nofile=1k': '1k' is no limit"),
        no(&["--ulimit", "nofile=5:", "1:1", "true"], "--ulimit 'nofile=5:': '' is no limit"),
        no(&["--ulimit", "nofile=5:4", "1:1", "true"], "--ulimit 'nofile=5:4': the soft limit is above the hard one"),
        no(
            &["--ulimit", "nofile=unlimited:4", "1:1", "true"],
            "--ulimit 'nofile=unlimited:4': the soft limit is above the hard one",
        ),
    ];
    anybody_is_told(&told.map(|mistake| mistake.hint(ULIMIT)))?;
    anybody_is_told(&[no(&["--ulimit", "core=0", "--ulimit", "core=1", "1:1", "true"], "--ulimit core is given twice")])
}

fn a_number_is_in_its_range() -> Outcome {
    anybody_is_told(&[
        no(&["--nice", "20", "1:1", "true"], "--nice '20': write a number from -20 to 19"),
        no(&["--nice", "-21", "1:1", "true"], "--nice '-21': write a number from -20 to 19"),
        no(&["--nice", "low", "1:1", "true"], "--nice 'low': write a number from -20 to 19"),
        no(&["--nice", "+5", "1:1", "true"], "--nice '+5': write a number from -20 to 19"),
        no(&["--nice", "--5", "1:1", "true"], "--nice '--5': write a number from -20 to 19"),
        no(&["--oom-score-adj", "1001", "1:1", "true"], "--oom-score-adj '1001': write a number from -1000 to 1000"),
        no(&["--oom-score-adj", "", "1:1", "true"], "--oom-score-adj '': write a number from -1000 to 1000"),
        no(&["--pdeathsig", "65", "1:1", "true"], "--pdeathsig '65': there is no such signal").hint("write TERM, SIGTERM or 15"),
        no(&["--pdeathsig", "TREM", "1:1", "true"], "--pdeathsig 'TREM': there is no such signal")
            .hint("write TERM, SIGTERM or 15"),
    ])
}

fn what_may_gain_rights_cant_be_confined() -> Outcome {
    const WHY: &str = ": a program that may gain rights can't be confined by one that has them not";
    let says = |rule: &str| -> &'static str { format!("{rule}{WHY}").leak() };
    let told = [
        no(&["--allow-new-privs", "--ro", "/usr", "node", "true"], says("--ro /usr")),
        no(&["--allow-new-privs", "--bind-tcp", "8080", "node", "true"], says("--bind-tcp 8080")),
        no(&["--allow-new-privs", "--scope", "node", "true"], says("--scope")),
        no(&["--allow-new-privs", "--seccomp", "service", "--best-effort", "node", "true"], says("--seccomp service")),
    ];
    root_is_told(|jail| jail, &told.map(|mistake| mistake.hint("leave --allow-new-privs out: confinement needs no_new_privs")))
}

fn a_near_miss_is_named() -> Outcome {
    anybody_is_told(&[
        no(&["--bind-tpc", "80", "1:1", "true"], "unknown option --bind-tpc").hint("did you mean --bind-tcp?"),
        no(&["--sec-comp", "service", "1:1", "true"], "unknown option --sec-comp").hint("did you mean --seccomp?"),
        no(&["--besteffort", "1:1", "true"], "unknown option --besteffort").hint("did you mean --best-effort?"),
        no(&["--ulimits", "core=0", "1:1", "true"], "unknown option --ulimits").hint("did you mean --ulimit?"),
        no(&["--scope=all", "1:1", "true"], "--scope takes no value"),
    ])
}
