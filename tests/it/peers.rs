//! stepdown beside gosu, su-exec and setpriv: what each makes of the same line, and what we say of them.
//!
//! gosu and setpriv are the machine's; `SU_EXEC` says where su-exec is. The table goes to `peers.md` in
//! cargo's directory for tests, and to stdout with `--nocapture`; docs/peers.md holds one.

mod rows;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use rows::{Row, rows};

use crate::cases;
use crate::harness::{self, Case, Need, Outcome, Stop};
use crate::jail::{self, Jail, Ran};

pub fn cases() -> Vec<Case> {
    cases![
        stepdown_does_what_the_table_says,
        the_table_in_the_docs_is_what_these_versions_do,
        gosu_leaves_the_primary_gid_out_of_the_list,
        gosu_runs_malformed_lines_of_passwd_as_root,
        gosu_takes_group_0_from_a_malformed_line_of_group,
        gosu_fails_over_a_long_line_of_somebody_elses,
        su_exec_runs_4294967296_as_root,
        setpriv_stays_root_for_minus_one_and_its_like,
        gosu_and_su_exec_leave_an_unknown_uid_in_group_0,
        gosu_and_su_exec_run_an_empty_user_as_root,
        gosu_and_su_exec_leave_user_and_shell_as_roots,
        gosu_and_su_exec_fail_for_who_is_the_target_already,
        gosu_and_su_exec_say_1_of_a_missing_command,
        all_of_them_take_another_name_of_uid_0_for_an_answer,
        all_of_them_hand_on_open_descriptors,
        all_of_them_leave_capabilities_to_be_had_unless_told_otherwise,
        all_of_them_leave_dev_stdout_closed_to_the_command,
        all_of_them_hang_where_passwd_is_a_fifo,
    ]
}

/// A program that is compared.
struct Peer {
    /// Its column's head: the name, and the version where the program tells it.
    head: String,
    path: PathBuf,
    arguments: fn(&Row) -> Option<Vec<String>>,
}

/// What each program made of each row.
struct Table {
    peers: Vec<Peer>,
    rows: Vec<(Row, Vec<String>)>,
}

/// Found out once.
fn table() -> Result<&'static Table, Stop> {
    static TABLE: OnceLock<Result<Table, String>> = OnceLock::new();
    harness::root()?;
    Need::Peers.programs(&["gosu"])?;
    let fill = || {
        Table::fill().map_err(|stop| match stop {
            Stop::Skip(why) | Stop::Fail(why) => why,
        })
    };
    TABLE.get_or_init(fill).as_ref().map_err(|why| Stop::Fail(why.clone()))
}

impl Table {
    fn fill() -> Result<Self, Stop> {
        let peers = peers()?;
        let rows = rows()
            .into_iter()
            .map(|row| {
                let cells = peers.iter().map(|peer| peer.makes_of(&row)).collect::<Result<_, _>>()?;
                Ok((row, cells))
            })
            .collect::<Result<_, Stop>>()?;
        Ok(Self { peers, rows })
    }

    fn markdown(&self) -> String {
        let heads: Vec<&str> = self.peers.iter().map(|peer| peer.head.as_str()).collect();
        let mut text = format!("| | {} |\n|---{}|\n", heads.join(" | "), "|---".repeat(heads.len()));
        for (row, cells) in &self.rows {
            text += &format!("| {} | {} |\n", row.title(), cells.join(" | "));
        }
        text
    }
}

fn peers() -> Result<Vec<Peer>, Stop> {
    let by_spec = |row: &Row| Some(vec![row.spec.to_owned()]);
    let mut peers = vec![
        Peer {
            head: "stepdown".to_owned(),
            path: jail::programs().stepdown.clone(),
            arguments: |row| Some(vec!["--".to_owned(), row.spec.to_owned()]),
        },
        Peer { head: format!("gosu {}", version("gosu", 0)?), path: "gosu".into(), arguments: by_spec },
    ];
    match std::env::var_os("SU_EXEC") {
        None => eprintln!("peers: SU_EXEC is not set, so su-exec is left out"),
        Some(path) => {
            // Where every user can reach it, and it is removed with the programs under test.
            let copy = jail::programs().stepdown.with_file_name("su-exec");
            fs::copy(path, &copy)?;
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
            let head = format!("su-exec ({})", library(&fs::read(&copy)?));
            peers.push(Peer { head, path: copy, arguments: by_spec });
        }
    }
    peers.push(Peer {
        head: format!("setpriv {}", version("setpriv", 3)?),
        path: "setpriv".into(),
        arguments: Row::setpriv_words,
    });
    Ok(peers)
}

/// The C library that reads the accounts for a program: glibc leaves its name in all that it is linked with.
fn library(program: &[u8]) -> &'static str {
    let has = |mark: &[u8]| program.windows(mark.len()).any(|bytes| bytes == mark);
    if has(b"GLIBC_") || has(b"GNU C Library") { "glibc" } else { "musl" }
}

/// A word of what `PROGRAM --version` prints.
fn version(program: &str, place: usize) -> Result<String, Stop> {
    let said = Command::new(program).arg("--version").output()?.stdout;
    Ok(String::from_utf8_lossy(&said).split_whitespace().nth(place).unwrap_or("of unknown version").to_owned())
}

impl Peer {
    fn makes_of(&self, row: &Row) -> Result<String, Stop> {
        let Some(mut arguments) = (self.arguments)(row) else { return Ok("no such form".to_owned()) };
        let jail = Jail::new()?.setup(row.setup).through(row.through).instead(&self.path);
        let jail = jail.variable("HOME", "/root").variable("USER", "root").variable("SHELL", "/bin/sh");
        arguments.push(match row.command {
            Some(command) => command.replace("$W", &jail.work().display().to_string()),
            None => jail::programs().report.display().to_string(),
        });
        Ok((row.look)(&Ran::of(jail.command(&arguments).output()?)))
    }
}

fn stepdown_does_what_the_table_says() -> Outcome {
    let table = table()?;
    let wrong: Vec<String> = table
        .rows
        .iter()
        .filter(|(row, cells)| row.stepdown != cells[0])
        .map(|(row, cells)| format!("{}: expected {:?}, got {:?}", row.what, row.stepdown, cells[0]))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn the_table_in_the_docs_is_what_these_versions_do() -> Outcome {
    let table = table()?;
    let text = table.markdown();
    fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/peers.md"), &text)?;
    if std::env::args().any(|argument| argument == "--nocapture") {
        println!("{text}");
    }
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/peers.md"))?;
    let lines: Vec<Vec<&str>> = docs.lines().filter(|line| line.starts_with('|')).map(cells_of).collect();
    for (column, peer) in table.peers.iter().enumerate() {
        let Some(place) = lines.first().and_then(|heads| heads.iter().position(|head| *head == peer.head)) else { continue };
        for (row, cells) in &table.rows {
            let line = lines.iter().find(|line| line[0] == row.title());
            let said = line.and_then(|line| line.get(place)).copied();
            assert_eq!(said, Some(cells[column].as_str()), "{} of {} in docs/peers.md", row.what, peer.head);
        }
    }
    Ok(())
}

/// Asserts what each of the peers makes of each row; su-exec is passed over where it is not here.
fn claim(peers: &[&str], what: &[&str], expected: &str) -> Outcome {
    let table = table()?;
    let mut tried = 0;
    for (column, peer) in table.peers.iter().enumerate() {
        if !peers.iter().any(|name| peer.head.split(' ').next() == Some(name)) {
            continue;
        }
        tried += 1;
        for what in what {
            let found = table.rows.iter().find(|(row, _)| row.what == *what);
            let (_, cells) = found.unwrap_or_else(|| panic!("no row '{what}'"));
            assert_eq!(cells[column], expected, "{}: {what}", peer.head);
        }
    }
    if tried == 0 { Err(Stop::Skip("SU_EXEC is not set".to_owned())) } else { Ok(()) }
}

const BOTH: [&str; 2] = ["gosu", "su-exec"];
const ALL: [&str; 3] = ["gosu", "su-exec", "setpriv"];

fn gosu_leaves_the_primary_gid_out_of_the_list() -> Outcome {
    claim(&["gosu"], &["node", "1000"], "1000:1000 [1 4 100]")?;
    claim(&["gosu"], &["node:node", "1000:1000"], "1000:1000 []")
}

fn gosu_runs_malformed_lines_of_passwd_as_root() -> Outcome {
    let lines = ["passwd: badid:x:abc:abc:…", "passwd: short:x", "passwd: empty:x::::/:/bin/sh", "passwd: +nis"];
    claim(&["gosu"], &lines, "0:0 []")?;
    claim(&["gosu"], &["passwd: #comment:x:0:0:…", "passwd: over:x:4294967296:4294967296:…"], "0:0 []")
}

fn gosu_takes_group_0_from_a_malformed_line_of_group() -> Outcome {
    claim(&["gosu"], &["group: badgrp:x:zz:node", "group: over:x:4294967296:node"], "1000:1000 [0 1 4 100]")
}

fn gosu_fails_over_a_long_line_of_somebody_elses() -> Outcome {
    claim(&["gosu"], &["passwd: a later line of 70000 bytes"], "refused (1)")
}

fn su_exec_runs_4294967296_as_root() -> Outcome {
    claim(&["su-exec"], &["4294967296"], "0:0 [0]")?;
    claim(&["su-exec"], &["node:4294967296"], "1000:0 [0]")
}

fn setpriv_stays_root_for_minus_one_and_its_like() -> Outcome {
    claim(&["setpriv"], &["-1", "4294967295", "4294967296"], "0:0 []")
}

fn gosu_and_su_exec_leave_an_unknown_uid_in_group_0() -> Outcome {
    claim(&["gosu"], &["7777, not in passwd"], "7777:0 []")?;
    claim(&["su-exec"], &["7777, not in passwd"], "7777:0 [0]")
}

fn gosu_and_su_exec_run_an_empty_user_as_root() -> Outcome {
    claim(&["gosu"], &["an empty USER, as of $UNSET", ":"], "0:0 []")?;
    claim(&["su-exec"], &["an empty USER, as of $UNSET", ":"], "0:0 [0]")
}

fn gosu_and_su_exec_leave_user_and_shell_as_roots() -> Outcome {
    claim(&BOTH, &["HOME, USER, SHELL (root's before)"], "/home/node, root, /bin/sh")
}

fn gosu_and_su_exec_fail_for_who_is_the_target_already() -> Outcome {
    let already = ["started as node already", "started as node already, for 1000:1000 in its group alone"];
    claim(&BOTH, &already, "refused (1)")?;
    claim(&["setpriv"], &already, "refused (127)")
}

fn gosu_and_su_exec_say_1_of_a_missing_command() -> Outcome {
    let commands = ["a COMMAND that does not exist", "a COMMAND that is not in PATH", "a COMMAND that is not executable"];
    claim(&BOTH, &commands, "1")
}

fn all_of_them_take_another_name_of_uid_0_for_an_answer() -> Outcome {
    claim(&["gosu", "setpriv"], &["toor, another name of uid 0"], "0:0 []")?;
    claim(&["su-exec"], &["toor, another name of uid 0"], "0:0 [0]")
}

fn all_of_them_hand_on_open_descriptors() -> Outcome {
    claim(&ALL, &["descriptor 7, opened by root on a file of root's"], "open")
}

/// setpriv has options for each of these three.
fn all_of_them_leave_capabilities_to_be_had_unless_told_otherwise() -> Outcome {
    claim(&ALL, &["inheritable capabilities", "bounding set"], "kept")?;
    claim(&ALL, &["no_new_privs"], "not set")
}

fn all_of_them_leave_dev_stdout_closed_to_the_command() -> Outcome {
    claim(&ALL, &["/dev/stdout, where stdout is a pipe"], "EACCES")
}

fn all_of_them_hang_where_passwd_is_a_fifo() -> Outcome {
    claim(&ALL, &["passwd: a FIFO"], "hangs")
}

fn cells_of(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}
