//! Mistakes that the command line alone shows: anybody is told of them, root or not, before anything is looked up.

use super::{Command, Mistake, OsStr, OsStrExt, Outcome, Ran, anybody_is_told, as_anybody, no};
use crate::cases;
use crate::harness::Case;

pub fn cases() -> Vec<Case> {
    cases![
        what_is_missing_is_named_and_the_usage_shown,
        an_option_without_its_value_is_named,
        an_empty_value_is_no_value,
        an_unknown_option_is_named_with_its_nearest_neighbour,
        what_takes_no_value_is_given_none,
        what_can_be_said_once_is_not_said_twice,
        a_mode_is_octal,
        a_umask_is_octal,
        a_group_list_has_no_holes,
        a_capability_has_a_name_of_capabilities_7,
        a_descriptor_is_a_number,
        a_variable_is_a_name_and_a_value,
        an_address_is_what_systemd_takes,
        a_word_in_front_of_an_address_is_refused_and_the_right_form_shown,
        a_path_that_begins_like_a_url_is_refused_and_the_right_form_shown,
        a_policy_or_a_format_is_one_of_those_there_are,
        what_init_is_to_do_is_spelled_as_in_the_manual,
        a_user_is_spelled_as_in_the_table,
        what_contradicts_itself_is_refused,
        what_is_no_text_is_refused_and_shown_harmless,
        help_shows_the_way_out_of_all_of_them,
    ]
}

const USAGE: &str = "stepdown [OPTIONS] USER[:GROUP] [--] COMMAND [ARG...]; see stepdown --help";

fn what_is_missing_is_named_and_the_usage_shown() -> Outcome {
    anybody_is_told(&[
        no(&[], "no USER is given").hint(USAGE),
        no(&["--"], "no USER is given").hint(USAGE),
        no(&["--if-root"], "no USER is given").hint(USAGE),
        no(&["--dry-run"], "no USER is given").hint(USAGE),
        no(&["node"], "no COMMAND is given for USER 'node'").hint(USAGE),
        no(&["node", "--"], "no COMMAND is given for USER 'node'").hint(USAGE),
        no(&["--", "node"], "no COMMAND is given for USER 'node'").hint(USAGE),
        no(&["--umask", "027", "node"], "no COMMAND is given for USER 'node'").hint(USAGE),
        no(&["--chdir", "node", "true"], "no COMMAND is given for USER 'true'").hint(USAGE),
    ])
}

fn an_option_without_its_value_is_named() -> Outcome {
    anybody_is_told(&[
        no(&["--groups"], "--groups needs a value"),
        no(&["--mkdir"], "--mkdir needs a value"),
        no(&["--chown"], "--chown needs a value"),
        no(&["--chown-if-possible"], "--chown-if-possible needs a value"),
        no(&["--chown-policy"], "--chown-policy needs a value"),
        no(&["--listen"], "--listen needs a value"),
        no(&["--keep-cap"], "--keep-cap needs a value"),
        no(&["--keep-fd"], "--keep-fd needs a value"),
        no(&["--env"], "--env needs a value"),
        no(&["--unset-env"], "--unset-env needs a value"),
        no(&["--chdir"], "--chdir needs a value"),
        no(&["--umask"], "--umask needs a value"),
        no(&["--rewrite"], "--rewrite needs a value"),
        no(&["--exit-as"], "--exit-as needs a value"),
        no(&["--grace"], "--grace needs a value"),
        no(&["--drain"], "--drain needs a value"),
        no(&["--kill-after"], "--kill-after needs a value"),
        no(&["--dry-run=", "1:1", "true"], "--dry-run=: the formats are text and json"),
    ])
}

const SIGNALS: &str = "write SIGNAL=SIGNAL or SIGNAL=none: TERM=QUIT, 15=3, HUP=none, USR1=RTMIN+3";

fn what_init_is_to_do_is_spelled_as_in_the_manual() -> Outcome {
    let init = |option: &'static str, says| no(Vec::leak(vec!["--init", option, "1:1", "true"]), says);
    let bad = |option, says| init(option, says).hint(SIGNALS);
    anybody_is_told(&[
        bad("--rewrite=TERM", "--rewrite 'TERM': there is no '='"),
        bad("--rewrite=", "--rewrite '': there is no '='"),
        bad("--rewrite=TREM=QUIT", "--rewrite 'TREM=QUIT': there is no signal 'TREM'"),
        bad("--rewrite=TERM=", "--rewrite 'TERM=': there is no signal ''"),
        bad("--rewrite=0=3", "--rewrite '0=3': there is no signal '0'"),
        bad("--rewrite=3=65", "--rewrite '3=65': there is no signal '65'"),
        init("--rewrite=KILL=TERM", "--rewrite 'KILL=TERM': SIGKILL is never forwarded"),
        init("--rewrite=17=1", "--rewrite '17=1': SIGCHLD is never forwarded"),
        no(
            &["--init", "--rewrite=15=3", "--rewrite=TERM=none", "1:1", "true"],
            "--rewrite 'TERM=none': SIGTERM is rewritten twice",
        ),
        init("--exit-as=143", "--exit-as '143': write CODE=CODE, each 0 to 255: 143=0"),
        init("--exit-as=256=0", "--exit-as '256=0': write CODE=CODE, each 0 to 255: 143=0"),
        init("--exit-as=1=-1", "--exit-as '1=-1': write CODE=CODE, each 0 to 255: 143=0"),
        no(&["--init", "--exit-as=1=0", "--exit-as=1=2", "1:1", "true"], "--exit-as '1=2': 1 is given twice"),
        init("--grace=", "--grace '': write seconds, 0 to 86400: 10 or 0.5"),
        init("--grace=-1", "--grace '-1': write seconds, 0 to 86400: 10 or 0.5"),
        init("--drain=1s", "--drain '1s': write seconds, 0 to 86400: 10 or 0.5"),
        init("--drain=1.", "--drain '1.': write seconds, 0 to 86400: 10 or 0.5"),
        init("--kill-after=86400.001", "--kill-after '86400.001': write seconds, 0 to 86400: 10 or 0.5"),
        init("--kill-after=0.0001", "--kill-after '0.0001': write seconds, 0 to 86400: 10 or 0.5"),
        no(&["--init=1", "1:1", "true"], "--init takes no value"),
        no(&["--init", "--init", "1:1", "true"], "--init is given twice"),
    ])
}

fn an_empty_value_is_no_value() -> Outcome {
    anybody_is_told(&[
        no(&["--groups", "", "1:1", "true"], "--groups '': a part is empty"),
        no(&["--mkdir", "", "1:1", "true"], "--mkdir: the path is empty"),
        no(&["--mkdir", ":755", "1:1", "true"], "--mkdir: the path is empty"),
        no(&["--chown=", "1:1", "true"], "--chown: the path is empty"),
        no(&["--chown", "", "1:1", "true"], "--chown: the path is empty"),
        no(&["--chown-if-possible", "", "1:1", "true"], "--chown-if-possible: the path is empty"),
        no(&["--chown-policy", "", "1:1", "true"], "--chown-policy '': the policies are always and on-root-mismatch"),
        no(&["--listen", "", "1:1", "true"], "--listen '': the address is empty").hint(ADDR),
        no(&["--keep-cap", "", "1:1", "true"], "--keep-cap '': there is no capability ''").hint(CAPS),
        no(&["--keep-fd", "", "1:1", "true"], "--keep-fd '': a descriptor is a number from 0 on"),
        no(&["--env", "", "1:1", "true"], "--env '': write NAME=VALUE"),
        no(&["--unset-env", "", "1:1", "true"], "--unset-env '': write the NAME alone"),
        no(&["--chdir", "", "1:1", "true"], "--chdir: the path is empty"),
        no(&["--umask", "", "1:1", "true"], "--umask '': a mask is octal, 0 to 777"),
    ])
}

fn an_unknown_option_is_named_with_its_nearest_neighbour() -> Outcome {
    anybody_is_told(&[
        no(&["--chwon", "/data", "1:1", "true"], "unknown option --chwon").hint("did you mean --chown?"),
        no(&["--keep-caps", "CHOWN", "1:1", "true"], "unknown option --keep-caps").hint("did you mean --keep-cap?"),
        no(&["--user", "node", "true"], "unknown option --user").hint("see stepdown --help"),
        no(&["--mkdirs=/x", "1:1", "true"], "unknown option --mkdirs").hint("did you mean --mkdir?"),
        no(&["--dryrun", "1:1", "true"], "unknown option --dryrun").hint("did you mean --dry-run?"),
        no(&["--no-such-thing", "1:1", "true"], "unknown option --no-such-thing").hint("see stepdown --help"),
        no(&["-u", "node", "true"], "unknown option -u").hint("see stepdown --help"),
        no(&["-Vx"], "unknown option -x").hint("see stepdown --help"),
        no(&["--umask", "027", "-x", "1:1", "true"], "unknown option -x").hint("see stepdown --help"),
        no(&["-1", "true"], "unknown option -1").hint("see stepdown --help"),
        no(&["--chow", "/data", "1:1", "true"], "unknown option --chow").hint("did you mean --chown?"),
    ])
}

fn what_takes_no_value_is_given_none() -> Outcome {
    anybody_is_told(&[
        no(&["--if-root=yes", "1:1", "true"], "--if-root takes no value"),
        no(&["--allow-new-privs=no", "1:1", "true"], "--allow-new-privs takes no value"),
        no(&["--clear-env=1", "1:1", "true"], "--clear-env takes no value"),
        no(&["--help=umask"], "--help takes no value"),
        no(&["--version=1"], "--version takes no value"),
        no(&["-V=1"], "-V takes no value"),
        no(&["--if-root", "-h=umask", "1:1", "true"], "-h takes no value"),
    ])
}

fn what_can_be_said_once_is_not_said_twice() -> Outcome {
    anybody_is_told(&[
        no(&["--groups", "1", "--groups", "2", "1:1", "true"], "--groups is given twice"),
        no(&["--chown-policy=always", "--chown-policy=always", "1:1", "true"], "--chown-policy is given twice"),
        no(&["--chdir", "/", "--chdir", "/tmp", "1:1", "true"], "--chdir is given twice"),
        no(&["--umask=027", "--umask", "022", "1:1", "true"], "--umask is given twice"),
        no(&["--dry-run", "--dry-run=json", "1:1", "true"], "--dry-run is given twice"),
        no(&["--if-root", "--if-root", "1:1", "true"], "--if-root is given twice"),
        no(&["--allow-new-privs", "--allow-new-privs", "1:1", "true"], "--allow-new-privs is given twice"),
        no(&["--clear-env", "--clear-env", "1:1", "true"], "--clear-env is given twice"),
        no(&["--help", "--help"], "--help is given twice"),
        no(&["-V", "-V"], "-V is given twice"),
        no(&["-hh"], "-h is given twice"),
        no(&["-h", "--help"], "--help is given twice"),
    ])
}

fn a_mode_is_octal() -> Outcome {
    anybody_is_told(&[
        no(&["--mkdir", "$W/x:", "1:1", "true"], "--mkdir '$W/x:': behind the last colon stands a mode, octal, 0 to 7777"),
        no(&["--mkdir", "$W/x:800", "1:1", "true"], "--mkdir '$W/x:800': behind the last colon stands a mode, octal, 0 to 7777"),
        no(
            &["--mkdir", "$W/x:10000", "1:1", "true"],
            "--mkdir '$W/x:10000': behind the last colon stands a mode, octal, 0 to 7777",
        ),
        no(
            &["--mkdir", "$W/x:0o755", "1:1", "true"],
            "--mkdir '$W/x:0o755': behind the last colon stands a mode, octal, 0 to 7777",
        ),
        no(
            &["--mkdir", "$W/x:u=rwx", "1:1", "true"],
            "--mkdir '$W/x:u=rwx': behind the last colon stands a mode, octal, 0 to 7777",
        ),
        no(&["--mkdir", "$W/a:b", "1:1", "true"], "--mkdir '$W/a:b': behind the last colon stands a mode, octal, 0 to 7777"),
        no(&["--mkdir", "$W/x:-1", "1:1", "true"], "--mkdir '$W/x:-1': behind the last colon stands a mode, octal, 0 to 7777"),
    ])
}

fn a_umask_is_octal() -> Outcome {
    anybody_is_told(&[
        no(&["--umask", "9", "1:1", "true"], "--umask '9': a mask is octal, 0 to 777"),
        no(&["--umask", "1000", "1:1", "true"], "--umask '1000': a mask is octal, 0 to 777"),
        no(&["--umask", "-1", "1:1", "true"], "--umask '-1': a mask is octal, 0 to 777"),
        no(&["--umask", "+7", "1:1", "true"], "--umask '+7': a mask is octal, 0 to 777"),
        no(&["--umask", "0o27", "1:1", "true"], "--umask '0o27': a mask is octal, 0 to 777"),
        no(&["--umask", "u=rwx", "1:1", "true"], "--umask 'u=rwx': a mask is octal, 0 to 777"),
        no(&["--umask", "--if-root", "1:1", "true"], "--umask '--if-root': a mask is octal, 0 to 777"),
        no(&["--umask", "77777777777777777777", "1:1", "true"], "--umask '77777777777777777777': a mask is octal, 0 to 777"),
    ])
}

fn a_group_list_has_no_holes() -> Outcome {
    anybody_is_told(&[
        no(&["--groups", "1,,2", "1:1", "true"], "--groups '1,,2': a part is empty"),
        no(&["--groups", "1,", "1:1", "true"], "--groups '1,': a part is empty"),
        no(&["--groups", "1:2", "1:1", "true"], "--groups '1:2': a group has no colon"),
        no(&["--groups", "1, 2", "1:1", "true"], "--groups '1, 2': a name has no white space, control character or colon"),
        no(&["--groups", "+1", "1:1", "true"], "--groups '+1': neither an id nor a name begins with a sign"),
        no(&["--groups", "4294967295", "1:1", "true"], "--groups '4294967295': ids are 0 to 4294967294"),
        no(&["--groups", "007", "1:1", "true"], "--groups '007': an id has no leading zero"),
        no(&["--groups", "$", "1:1", "true"], "--groups '$': '$' names no environment variable"),
    ])
}

const CAPS: &str = "names are those of capabilities(7): NET_BIND_SERVICE,CHOWN";

fn a_capability_has_a_name_of_capabilities_7() -> Outcome {
    anybody_is_told(&[
        no(&["--keep-cap", "ALL", "1:1", "true"], "--keep-cap 'ALL': there is no capability 'ALL'").hint(CAPS),
        no(&["--keep-cap", "NET_BIND", "1:1", "true"], "--keep-cap 'NET_BIND': there is no capability 'NET_BIND'").hint(CAPS),
        no(&["--keep-cap", "CHOWN,", "1:1", "true"], "--keep-cap 'CHOWN,': there is no capability ''").hint(CAPS),
        no(&["--keep-cap", "CHOWN, KILL", "1:1", "true"], "--keep-cap 'CHOWN, KILL': there is no capability ' KILL'").hint(CAPS),
        no(&["--keep-cap", "+chown", "1:1", "true"], "--keep-cap '+chown': there is no capability '+chown'").hint(CAPS),
        no(&["--keep-cap", "10", "1:1", "true"], "--keep-cap '10': there is no capability '10'").hint(CAPS),
    ])
}

fn a_descriptor_is_a_number() -> Outcome {
    anybody_is_told(&[
        no(&["--keep-fd", "stdin", "1:1", "true"], "--keep-fd 'stdin': a descriptor is a number from 0 on"),
        no(&["--keep-fd", "-1", "1:1", "true"], "--keep-fd '-1': a descriptor is a number from 0 on"),
        no(&["--keep-fd", "3,4", "1:1", "true"], "--keep-fd '3,4': a descriptor is a number from 0 on"),
        no(&["--keep-fd", "03", "1:1", "true"], "--keep-fd '03': a descriptor is a number from 0 on"),
        no(&["--keep-fd", "2147483648", "1:1", "true"], "--keep-fd '2147483648': a descriptor is a number from 0 on"),
    ])
}

fn a_variable_is_a_name_and_a_value() -> Outcome {
    anybody_is_told(&[
        no(&["--env", "NODE_ENV", "1:1", "true"], "--env 'NODE_ENV': write NAME=VALUE"),
        no(&["--env", "=production", "1:1", "true"], "--env '=production': write NAME=VALUE"),
        no(&["--unset-env", "A=1", "1:1", "true"], "--unset-env 'A=1': write the NAME alone"),
    ])
}

const ADDR: &str = "write [NAME=]ADDR, ADDR one of 80, 127.0.0.1:80, [::1]:80, /run/app.sock, @name, or udp: in front of these";

fn an_address_is_what_systemd_takes() -> Outcome {
    let mistakes = [
        no(&["--listen", "0", "1:1", "true"], "--listen '0': '0' is no port: ports are 1 to 65535"),
        no(&["--listen", "65536", "1:1", "true"], "--listen '65536': '65536' is no port: ports are 1 to 65535"),
        no(&["--listen", "-80", "1:1", "true"], "--listen '-80': '-80' is no port: ports are 1 to 65535"),
        no(&["--listen", "http", "1:1", "true"], "--listen 'http': 'http' is no port: ports are 1 to 65535"),
        no(&["--listen", "http=", "1:1", "true"], "--listen 'http=': the address is empty"),
        no(&["--listen", "=80", "1:1", "true"], "--listen '=80': a name is 1 to 255 printable ASCII characters without a colon"),
        no(
            &["--listen", "a:b=80", "1:1", "true"],
            "--listen 'a:b=80': a name is 1 to 255 printable ASCII characters without a colon",
        ),
        no(
            &["--listen", "localhost:80", "1:1", "true"],
            "--listen 'localhost:80': 'localhost' is no IP address, and names are not looked up",
        ),
        no(&["--listen", "127.0.0.1", "1:1", "true"], "--listen '127.0.0.1': no port stands behind the address"),
        no(&["--listen", "127.0.0.1:", "1:1", "true"], "--listen '127.0.0.1:': '' is no port: ports are 1 to 65535"),
        no(
            &["--listen", "1.2.3:80", "1:1", "true"],
            "--listen '1.2.3:80': '1.2.3' is no IP address, and names are not looked up",
        ),
        no(&["--listen", "::1:80", "1:1", "true"], "--listen '::1:80': an IPv6 address stands in brackets, its port behind them"),
        no(&["--listen", "::1", "1:1", "true"], "--listen '::1': an IPv6 address stands in brackets, its port behind them"),
        no(&["--listen", "[::1]", "1:1", "true"], "--listen '[::1]': no port stands behind the address"),
        no(&["--listen", "[1.2.3.4]:80", "1:1", "true"], "--listen '[1.2.3.4]:80': '1.2.3.4' is no IPv6 address"),
        no(&["--listen", "[fe80::1%]:80", "1:1", "true"], "--listen '[fe80::1%]:80': no interface stands behind the %"),
        no(&["--listen", "@", "1:1", "true"], "--listen '@': an abstract name is 1 to 107 bytes"),
        no(&["--listen", "run/app.sock", "1:1", "true"], "--listen 'run/app.sock': a path begins with '/'"),
        no(&["--listen", "./app.sock", "1:1", "true"], "--listen './app.sock': a path begins with '/'"),
        no(&["--listen", "udp:", "1:1", "true"], "--listen 'udp:': the address is empty"),
        no(
            &["--listen", "tcp:", "1:1", "true"],
            "--listen 'tcp:': 'tcp:' is no part of an address: udp: alone may stand in front",
        ),
        no(
            &["--listen", "vsock:2:80", "1:1", "true"],
            "--listen 'vsock:2:80': 'vsock:2' is no IP address, and names are not looked up",
        ),
        no(&["--listen", "*:80", "1:1", "true"], "--listen '*:80': '*' is no IP address, and names are not looked up"),
        no(&["--listen", ":80", "1:1", "true"], "--listen ':80': no address stands before the colon"),
    ];
    anybody_is_told(&mistakes.map(|mistake| mistake.hint(ADDR)))
}

/// A word in front is never dropped, nor made part of a name.
fn a_word_in_front_of_an_address_is_refused_and_the_right_form_shown() -> Outcome {
    for (typed, word, right) in [
        ("tcp://0.0.0.0:80", "tcp://", "0.0.0.0:80"),
        ("udp://0.0.0.0:80", "udp://", "udp:0.0.0.0:80"),
        ("tcp:80", "tcp:", "80"),
        ("http=tcp:80,backlog=5", "tcp:", "http=80,backlog=5"),
        ("http://0.0.0.0:80", "http://", "0.0.0.0:80"),
        ("unix:/run/s", "unix:", "/run/s"),
        ("a=unix:///run/x\\,y,mode=0600", "unix://", "a=/run/x\\,y,mode=0600"),
        ("unix:@a", "unix:", "@a"),
        ("udp:unix:/run/s", "unix:", "udp:/run/s"),
        ("//0.0.0.0:80", "//", "0.0.0.0:80"),
        ("UDP:53", "UDP:", "udp:53"),
        ("80/tcp", "/tcp", "80"),
    ] {
        let ran = Ran::of(as_anybody(None).args(["--listen", typed, "1:1", "true"]).output()?);
        let expected = format!(
            "stepdown: --listen '{typed}': '{word}' is no part of an address: udp: alone may stand in front\n\
             stepdown: hint: write {right}\n"
        );
        assert_eq!((ran.code, ran.stderr), (125, expected));
    }
    for (typed, says) in [
        ("tcp:80", "write --bind-tcp 80\n"),
        ("0.0.0.0:80", "write --bind-tcp 80\n"),
        ("80/tcp", "write --bind-tcp 80\n"),
        ("udp:53", "write a port"),
    ] {
        let ran = Ran::of(as_anybody(None).args(["--bind-tcp", typed, "1:1", "true"]).output()?);
        assert!(ran.code == 125 && ran.stderr.contains("is no port\n") && ran.stderr.contains(says), "{typed}: {ran:?}");
    }
    Ok(())
}

/// `file:/data` is no directory called `file:`.
fn a_path_that_begins_like_a_url_is_refused_and_the_right_form_shown() -> Outcome {
    for option in ["--chown", "--chown-if-possible", "--mkdir", "--open", "--ro", "--rwx", "--seccomp", "--chdir"] {
        for (typed, right) in
            [("file:///x/data", "/x/data, or ./file:///x/data if"), ("foo:bar/x", "./foo:bar/x if"), ("unix:/x", "/x, or")]
        {
            let ran = Ran::of(as_anybody(None).args([option, typed, "1:1", "true"]).output()?);
            let word = typed.split_once(':').map_or("", |(word, _)| word);
            assert!(
                ran.stderr.starts_with(&format!("stepdown: {option} '{typed}': '{word}:' stands in front of the path")),
                "{ran:?}"
            );
            assert!(ran.code == 125 && ran.stderr.contains(&format!("hint: write {right}")), "{ran:?}");
        }
    }
    for line in [&["--secret", "KEY=file:/x", "1:1", "true"][..], &["@file:/x", "true"]] {
        let ran = Ran::of(as_anybody(None).args(line).output()?);
        assert!(ran.code == 125 && ran.stderr.contains("hint: write /x, or ./file:/x if"), "{ran:?}");
    }
    Ok(())
}

fn a_policy_or_a_format_is_one_of_those_there_are() -> Outcome {
    anybody_is_told(&[
        no(&["--chown-policy=never", "1:1", "true"], "--chown-policy 'never': the policies are always and on-root-mismatch"),
        no(
            &["--chown-policy", "OnRootMismatch", "1:1", "true"],
            "--chown-policy 'OnRootMismatch': the policies are always and on-root-mismatch",
        ),
        no(&["--dry-run=yaml", "1:1", "true"], "--dry-run=yaml: the formats are text and json"),
        no(&["--dry-run=JSON", "1:1", "true"], "--dry-run=JSON: the formats are text and json"),
    ])
}

const FORMS: &str = "write a name, an id, USER:GROUP, UID:GID, @PATH or '$VARIABLE'";

fn a_user_is_spelled_as_in_the_table() -> Outcome {
    let mistakes: [Mistake; 26] = [
        no(&["", "true"], "USER '': a part is empty"),
        no(&[":", "true"], "USER ':': a part is empty"),
        no(&["node:", "true"], "USER 'node:': a part is empty"),
        no(&[":50", "true"], "USER ':50': a part is empty"),
        no(&["a:b:c", "true"], "USER 'a:b:c': there is more than one colon"),
        no(&[" 1000", "true"], "USER ' 1000': a name has no white space, control character or colon"),
        no(&["1000 ", "true"], "USER '1000 ': a name has no white space, control character or colon"),
        no(&["+1000", "true"], "USER '+1000': neither an id nor a name begins with a sign"),
        no(&["--", "-1", "true"], "USER '-1': neither an id nor a name begins with a sign"),
        no(&["01750", "true"], "USER '01750': an id has no leading zero"),
        no(&["0x10", "true"], "USER '0x10': an id is written in decimal digits alone"),
        no(&["4294967295", "true"], "USER '4294967295': ids are 0 to 4294967294"),
        no(&["4294967296", "true"], "USER '4294967296': ids are 0 to 4294967294"),
        no(&["99999999999999999999", "true"], "USER '99999999999999999999': ids are 0 to 4294967294"),
        no(&["node:4294967296", "true"], "USER 'node:4294967296': ids are 0 to 4294967294"),
        no(&["1000:-1", "true"], "USER '1000:-1': neither an id nor a name begins with a sign"),
        no(&["@", "true"], "USER '@': no path stands behind the @"),
        no(&["$", "true"], "USER '$': '$' names no environment variable"),
        no(&["$1", "true"], "USER '$1': '$1' names no environment variable"),
        no(&["${}", "true"], "USER '${}': '$' names no environment variable"),
        no(&["${PUID", "true"], "USER '${PUID': '${' is never closed"),
        no(&["u$PUID", "true"], "USER 'u$PUID': a part is one variable or a literal, not both"),
        no(&["${PUID}0", "true"], "USER '${PUID}0': a part is one variable or a literal, not both"),
        no(&["$PUID-1", "true"], "USER '$PUID-1': '$PUID-1' names no environment variable"),
        no(&["1000:$", "true"], "USER '1000:$': '$' names no environment variable"),
        no(&["a\tb", "true"], "USER 'a\\tb': a name has no white space, control character or colon"),
    ];
    anybody_is_told(&mistakes.map(|mistake| mistake.hint(FORMS)))
}

fn what_contradicts_itself_is_refused() -> Outcome {
    anybody_is_told(&[
        no(&["--env", "A=1", "--unset-env", "A", "1:1", "true"], "A is given to --env and to --unset-env"),
        no(&["--env", "A=1", "--env", "A=2", "1:1", "true"], "--env A is given twice"),
        no(&["--listen", "9000", "--listen", "http=9000", "1:1", "true"], "--listen http=9000: the address is given twice"),
        no(&["--listen", "@a", "--listen", "@a", "1:1", "true"], "--listen @a: the address is given twice"),
        no(&["--env", "LISTEN_FDS=1", "1:1", "true"], "--env LISTEN_FDS: only --listen says what sockets are handed on"),
        no(&["--env", "LISTEN_PID=1", "1:1", "true"], "--env LISTEN_PID: only --listen says what sockets are handed on"),
        no(&["--env", "LISTEN_FDNAMES=x", "1:1", "true"], "--env LISTEN_FDNAMES: only --listen says what sockets are handed on"),
    ])
}

fn what_is_no_text_is_refused_and_shown_harmless() -> Outcome {
    let forms = format!("stepdown: hint: {FORMS}\n");
    let lines: [(&[&[u8]], String); 5] = [
        (&[b"no\xffde", b"true"], format!("stepdown: USER 'no\u{fffd}de': it is not UTF-8\n{forms}")),
        (
            &[b"a\x1b[31mb", b"true"],
            format!("stepdown: USER 'a\\u{{1b}}[31mb': a name has no white space, control character or colon\n{forms}"),
        ),
        (&[b"--groups", b"\xff", b"1:1", b"true"], "stepdown: --groups '\u{fffd}': it is not UTF-8\n".to_owned()),
        (&[b"--umask", b"\xff", b"1:1", b"true"], "stepdown: --umask '\u{fffd}': it is not UTF-8\n".to_owned()),
        (
            &[b"--\xff\x1b[2J", b"1:1", b"true"],
            "stepdown: unknown option --\u{fffd}\\u{1b}[2J\nstepdown: hint: see stepdown --help\n".to_owned(),
        ),
    ];
    let mut differences = Vec::new();
    for (arguments, expected) in lines {
        let mut command: Command = as_anybody(None);
        let ran = Ran::of(command.args(arguments.iter().map(|bytes| OsStr::from_bytes(bytes))).output()?);
        if (ran.code, &ran.stderr) != (125, &expected) {
            differences.push(format!("{arguments:?}: {ran:?}"));
        }
    }
    super::none(&differences);
    Ok(())
}

fn help_shows_the_way_out_of_all_of_them() -> Outcome {
    for option in ["--help", "-h"] {
        let ran = Ran::of(as_anybody(None).arg(option).output()?);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert!(ran.stdout.lines().count() <= 48 && ran.stdout.contains("Exit code:"), "one screen: {}", ran.stdout);
    }
    Ok(())
}
