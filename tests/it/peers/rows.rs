//! The rows of the comparison: what is tried, and what stepdown makes of it. What the peers make of it is
//! found out, and what is claimed of them is in [`super`].

use crate::jail::Ran;
use crate::report::Report;

/// One thing that is tried with each program.
pub struct Row {
    /// What is tried, as the table has it; unique.
    pub what: &'static str,
    pub spec: &'static str,
    /// setpriv's words for the same, where [`setpriv`] has others.
    pub setpriv: Option<&'static [&'static str]>,
    /// Shell, run as root in the jail before.
    pub setup: &'static str,
    /// What the program is started through.
    pub through: &'static [&'static str],
    /// What is run, where it is not `report`.
    pub command: Option<&'static str>,
    pub look: fn(&Ran) -> String,
    /// stepdown's cell.
    pub stepdown: &'static str,
}

/// Groups as Docker and systemd start a service with: none.
const PLAIN: &[&str] = &["setpriv", "--clear-groups"];

const fn row(what: &'static str, spec: &'static str, stepdown: &'static str) -> Row {
    Row { what, spec, setpriv: None, setup: "", through: PLAIN, command: None, look: ids, stepdown }
}

/// A row whose name is the specification.
const fn spec(spec: &'static str, stepdown: &'static str) -> Row {
    row(spec, spec, stepdown)
}

impl Row {
    const fn setpriv(self, words: &'static [&'static str]) -> Self {
        Self { setpriv: Some(words), ..self }
    }

    const fn setup(self, setup: &'static str) -> Self {
        Self { setup, ..self }
    }

    const fn through(self, through: &'static [&'static str]) -> Self {
        Self { through, ..self }
    }

    const fn command(self, command: &'static str) -> Self {
        Self { command: Some(command), look: code, ..self }
    }

    const fn look(self, look: fn(&Ran) -> String) -> Self {
        Self { look, ..self }
    }

    /// The first cell of its line.
    pub fn title(&self) -> String {
        if self.what == self.spec { format!("`{}`", self.what) } else { self.what.to_owned() }
    }

    /// The specification in setpriv's words, as entrypoints write them; none where there is no way to say it.
    pub fn setpriv_words(&self) -> Option<Vec<String>> {
        if let Some(words) = self.setpriv {
            return Some(words.iter().map(ToString::to_string).collect());
        }
        let words = |user: &str, group: &str, groups: &str| {
            Some(vec![format!("--reuid={user}"), format!("--regid={group}"), groups.to_owned()])
        };
        match self.spec.split(':').collect::<Vec<_>>()[..] {
            [user] => words(user, user, "--init-groups"),
            [user, group] if !user.is_empty() && !group.is_empty() => words(user, group, "--clear-groups"),
            _ => None,
        }
    }
}

const REFUSED: &str = "refused (125)";

pub fn rows() -> Vec<Row> {
    [specs(), hostile(), command(), start()].into_iter().flatten().collect()
}

fn specs() -> Vec<Row> {
    vec![
        spec("node", "1000:1000 [1 4 100 1000]"),
        spec("1000", "1000:1000 [1 4 100 1000]"),
        spec("node:", REFUSED),
        spec("node:node", "1000:1000 [1000]"),
        spec("1000:1000", "1000:1000 [1000]"),
        spec("node:daemon", "1000:1 [1]"),
        spec("node:2000", "1000:2000 [2000]"),
        row("1001, and a user has that name", "1001", REFUSED),
        row("7777, not in passwd", "7777", REFUSED).setpriv(&["--reuid=7777", "--clear-groups"]),
        spec("7777:8888", "7777:8888 [8888]"),
        row("an empty USER, as of $UNSET", "", REFUSED).setpriv(&["--reuid=", "--clear-groups"]),
        spec(":", REFUSED),
        spec(":daemon", REFUSED),
        spec(":0", REFUSED),
        spec("node:daemon:adm", REFUSED),
        spec("bogus", REFUSED),
        spec("Node", REFUSED),
        spec("0day", REFUSED),
        spec("#1000", REFUSED),
        spec("0x3e8", REFUSED).setpriv(&["--reuid=0x3e8", "--clear-groups"]),
        spec("node:bogus", REFUSED),
        row("a space before 1000", " 1000", REFUSED).setpriv(&["--reuid= 1000", "--clear-groups"]),
        row("a space behind 1000", "1000 ", REFUSED).setpriv(&["--reuid=1000 ", "--clear-groups"]),
        spec("+1000", REFUSED).setpriv(&["--reuid=+1000", "--clear-groups"]),
        spec("01750", REFUSED).setpriv(&["--reuid=01750", "--clear-groups"]),
        spec("-1", REFUSED).setpriv(&["--reuid=-1", "--clear-groups"]),
        spec("-5", REFUSED).setpriv(&["--reuid=-5", "--clear-groups"]),
        spec("2147483648:1", "2147483648:1 [1]"),
        spec("4294967294:1", "4294967294:1 [1]"),
        spec("4294967295", REFUSED).setpriv(&["--reuid=4294967295", "--clear-groups"]),
        spec("4294967296", REFUSED).setpriv(&["--reuid=4294967296", "--clear-groups"]),
        spec("4294967297", REFUSED).setpriv(&["--reuid=4294967297", "--clear-groups"]),
        spec("node:4294967296", REFUSED),
        spec("99999999999999999999", REFUSED).setpriv(&["--reuid=99999999999999999999", "--clear-groups"]),
        row("toor, another name of uid 0", "toor", REFUSED).setpriv(&["--reuid=toor", "--clear-groups"]),
    ]
}

fn hostile() -> Vec<Row> {
    vec![
        row("passwd: badid:x:abc:abc:…", "badid", REFUSED)
            .setup("echo 'badid:x:abc:abc::/:/bin/sh' >>/etc/passwd")
            .setpriv(&["--reuid=badid", "--clear-groups"]),
        row("passwd: short:x", "short", REFUSED)
            .setup("echo 'short:x' >>/etc/passwd")
            .setpriv(&["--reuid=short", "--clear-groups"]),
        row("passwd: empty:x::::/:/bin/sh", "empty", REFUSED)
            .setup("echo 'empty:x::::/:/bin/sh' >>/etc/passwd")
            .setpriv(&["--reuid=empty", "--clear-groups"]),
        row("passwd: +nis", "+nis", REFUSED).setup("echo '+nis' >>/etc/passwd").setpriv(&["--reuid=+nis", "--clear-groups"]),
        row("passwd: #comment:x:0:0:…", "#comment", REFUSED)
            .setup("echo '#comment:x:0:0::/:/bin/sh' >>/etc/passwd")
            .setpriv(&["--reuid=#comment", "--clear-groups"]),
        row("passwd: over:x:4294967296:4294967296:…", "over", REFUSED)
            .setup("echo 'over:x:4294967296:4294967296::/:/bin/sh' >>/etc/passwd")
            .setpriv(&["--reuid=over", "--clear-groups"]),
        row("passwd: a user named 99999999999999999999 with uid 0", "99999999999999999999", REFUSED)
            .setup("echo '99999999999999999999:x:0:0::/:/bin/sh' >>/etc/passwd")
            .setpriv(&["--reuid=99999999999999999999", "--clear-groups"]),
        row("passwd: a later line of 70000 bytes", "node", "1000:1000 [1 4 100 1000]")
            .setup("{ printf 'long:x:9:9:'; head -c 70000 /dev/zero | tr '\\0' x; echo ':/:/bin/sh'; } >>/etc/passwd"),
        row("passwd: a FIFO", "1000:1000", REFUSED).setup("mkfifo $W/fifo; mount --bind $W/fifo /etc/passwd").through(&[
            "timeout",
            "-s",
            "KILL",
            "2",
            "setpriv",
            "--clear-groups",
        ]),
        row("passwd: none, and a name", "node", REFUSED).setup("mount -t tmpfs none /etc"),
        row("passwd: none, and numbers", "1000:1000", "1000:1000 [1000]").setup("mount -t tmpfs none /etc"),
        row("group: badgrp:x:zz:node", "node", "1000:1000 [1 4 100 1000]").setup("echo 'badgrp:x:zz:node' >>/etc/group"),
        row("group: spaced:x:31:games, node", "node", "1000:1000 [1 4 100 1000]")
            .setup("echo 'spaced:x:31:games, node' >>/etc/group"),
        row("group: over:x:4294967296:node", "node", "1000:1000 [1 4 100 1000]")
            .setup("echo 'over:x:4294967296:node' >>/etc/group"),
    ]
}

fn command() -> Vec<Row> {
    vec![
        row("descriptor 7, opened by root on a file of root's", "node", "closed")
            .setup("umask 077; echo >$W/secret; exec 7<$W/secret")
            .look(descriptor_7),
        row("inheritable capabilities", "node", "none")
            .through(&["setpriv", "--clear-groups", "--inh-caps=+net_raw,+chown"])
            .look(inheritable),
        row("bounding set", "node", "none").look(bounding),
        row("no_new_privs", "node", "set").look(no_new_privs),
        row("HOME, USER, SHELL (root's before)", "node", "/home/node, node, /bin/bash").look(account),
        row("HOME, USER, SHELL where passwd has an empty HOME", "bare", "/, bare, unset")
            .setpriv(&["--reuid=bare", "--regid=3000", "--clear-groups"])
            .look(account),
        row("HOME, USER, SHELL of 7777:8888", "7777:8888", "/, unset, unset").look(account),
        row("/dev/stdout, where stdout is a pipe", "node", "opens").look(stdout),
        row("a COMMAND that does not exist", "node", "127").command("/no/such/command"),
        row("a COMMAND that is not in PATH", "node", "127").command("no-such-command"),
        row("a COMMAND that is not executable", "node", "126").command("/etc/passwd"),
        row("a COMMAND that ends with 7", "node", "7")
            .setup("printf '#!/bin/sh\\nexit 7\\n' >$W/seven; chmod 755 $W/seven")
            .command("$W/seven"),
    ]
}

const AS_NODE: &[&str] = &["setpriv", "--reuid=1000", "--regid=1000", "--groups=1,4,100,1000", "--inh-caps=-all"];

fn start() -> Vec<Row> {
    vec![
        row("started as node already", "node", "1000:1000 [1 4 100 1000]").through(AS_NODE),
        row("started as node already, for 1000:1000 in its group alone", "1000:1000", "1000:1000 [1000]").through(&[
            "setpriv",
            "--reuid=1000",
            "--regid=1000",
            "--groups=1000",
            "--inh-caps=-all",
        ]),
        row("started as node, for another user", "games", REFUSED).through(AS_NODE),
        row("started with SETUID and SETGID alone", "node", "1000:1000 [1 4 100 1000]").through(&[
            "setpriv",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all,+setuid,+setgid",
        ]),
        row("started as root, for root", "root", "0:0 [0]"),
    ]
}

fn reported(ran: &Ran, tell: impl Fn(&Report) -> String) -> String {
    match serde_json::from_str(&ran.stdout) {
        Ok(value) if ran.code == 0 => tell(&Report(value)),
        // timeout(1) with KILL.
        _ if ran.code == 137 => "hangs".to_owned(),
        _ => format!("refused ({})", ran.code),
    }
}

fn ids(ran: &Ran) -> String {
    reported(ran, |report| {
        let groups: Vec<String> = report.groups().iter().map(u64::to_string).collect();
        format!("{}:{} [{}]", report.uids()[0], report.gids()[0], groups.join(" "))
    })
}

fn descriptor_7(ran: &Ran) -> String {
    reported(ran, |report| if report.descriptor(7).is_some() { "open" } else { "closed" }.to_owned())
}

fn inheritable(ran: &Ran) -> String {
    reported(ran, |report| if report.capabilities("inheritable").is_empty() { "none" } else { "kept" }.to_owned())
}

fn bounding(ran: &Ran) -> String {
    reported(ran, |report| if report.capabilities("bounding").is_empty() { "none" } else { "kept" }.to_owned())
}

fn no_new_privs(ran: &Ran) -> String {
    reported(ran, |report| if report.number("no_new_privs") == 1 { "set" } else { "not set" }.to_owned())
}

fn account(ran: &Ran) -> String {
    reported(ran, |report| {
        let value = |name| match report.variable(name) {
            Some(value) if value.is_empty() => "empty".to_owned(),
            Some(value) => value,
            None => "unset".to_owned(),
        };
        ["HOME", "USER", "SHELL"].map(value).join(", ")
    })
}

fn stdout(ran: &Ran) -> String {
    reported(ran, |report| {
        let opens = report.descriptor(1).is_some_and(|one| one["can_be_opened_again"] == true);
        if opens { "opens" } else { "EACCES" }.to_owned()
    })
}

fn code(ran: &Ran) -> String {
    ran.code.to_string()
}
