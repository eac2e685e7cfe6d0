//! What a start costs: `cargo bench --bench startup -- [ROUNDS]`, as root.
//!
//! Every program starts the same target, which exits at once, in turn with the others and in another order each
//! round, so that whatever else the machine does falls on all alike. Told are the median and the tenth percentile, what of the median lies
//! above the target started alone, and how that compares with su-exec and with the floor (`floor.rs`: the
//! system calls alone). In two situations: with all of root's capabilities, and with the fourteen that a
//! container has by default.
//!
//! | variable | which program | where unset |
//! |---|---|---|
//! | `STEPDOWN_BIN` | stepdown; several with colons between, to compare them | the release build for musl |
//! | `SU_EXEC` | su-exec, linked statically with musl | not measured |
//! | `GOSU`, `SETPRIV` | gosu, util-linux's setpriv | looked for in PATH |
#![allow(missing_docs, unsafe_code, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

mod starts;
mod turns;

use std::env;
use std::ffi::CString;
use std::path::Path;
use std::time::{Duration, Instant};

use starts::{CONTAINER, WARM_UP, c_string, install, percentile};

struct Row {
    name: String,
    /// Nothing where the program is not here.
    command: Option<Vec<CString>>,
    took: Vec<Duration>,
}

fn main() {
    // SAFETY: takes nothing.
    if unsafe { libc::geteuid() } != 0 {
        println!("startup: not measured: giving root up needs root");
        return;
    }
    let rounds = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1000);
    starts::leave_cargos_environment();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut rows = rows(directory.path());
    for situation in ["all of root's capabilities", "a container's fourteen capabilities"] {
        let set = if situation.starts_with("all") { None } else { Some(CONTAINER) };
        starts::in_a_child(|| {
            let terminal = starts::set_streams_aside();
            if let Some(set) = set {
                starts::bound_by(set);
            }
            measure(&mut rows, rounds);
            starts::bring_back(&terminal);
            print!("{}", table(situation, rounds, &rows));
        });
    }
}

fn rows(directory: &Path) -> Vec<Row> {
    starts::set_open(directory);
    let floor = starts::build_floor(directory);
    let target = c_string(&install(&floor, directory, "target"));
    let found = |variable: &str, name: &str| starts::find(variable, name).map(|from| install(&from, directory, name));
    let row = |name: &str, program: Option<&Path>, options: &str| Row {
        name: name.to_owned(),
        command: program.map(|program| [starts::command(program, options), vec![target.clone()]].concat()),
        took: Vec::new(),
    };
    let mut rows = vec![
        Row { name: "target alone".to_owned(), command: Some(vec![target.clone()]), took: Vec::new() },
        row("floor", Some(&floor), "65534 65534"),
    ];
    for (index, from) in turns::stepdown().into_iter().enumerate() {
        let program = install(&from, directory, &format!("stepdown{index}"));
        let tag = if index == 0 { String::new() } else { format!(" ({})", index + 1) };
        rows.push(row(&format!("stepdown{tag}"), Some(&program), "nobody"));
        rows.push(row(&format!("stepdown{tag} --umask 027 --env A=B"), Some(&program), "--umask 027 --env A=B nobody"));
    }
    let su_exec = env::var_os("SU_EXEC").map(|from| install(Path::new(&from), directory, "su-exec"));
    rows.push(row("su-exec", su_exec.as_deref(), "nobody"));
    rows.push(row("gosu", found("GOSU", "gosu").as_deref(), "nobody"));
    rows.push(row("setpriv", found("SETPRIV", "setpriv").as_deref(), starts::SETPRIV));
    rows
}

fn measure(rows: &mut [Row], rounds: usize) {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let mut seed = 1;
    for round in 0..WARM_UP + rounds {
        turns::shuffle(&mut order, &mut seed);
        for &place in &order {
            let row = &mut rows[place];
            let Some(command) = &row.command else { continue };
            // From the call that starts it until its end has been seen.
            let begin = Instant::now();
            let status = starts::wait(starts::spawn(command));
            let took = begin.elapsed();
            assert_eq!(status, 0, "{} failed", row.name);
            if round >= WARM_UP {
                row.took.push(took);
            }
        }
    }
    rows.iter_mut().for_each(|row| row.took.sort_unstable());
}

fn table(situation: &str, rounds: usize, rows: &[Row]) -> String {
    let above = |row: &Row, percent| Some(percentile(&row.took, percent)? - percentile(&rows[0].took, percent)?);
    let named = |name| rows.iter().find(|row| row.name == name).and_then(|row| above(row, 50));
    let (su_exec, floor) = (named("su-exec"), named("floor"));
    let mut text = format!("\nWith {situation}, {rounds} rounds, µs:\n\n");
    text += "| | median | p10 | above the target | p10 | of su-exec | of the floor |\n|---|--:|--:|--:|--:|--:|--:|\n";
    for (place, row) in rows.iter().enumerate() {
        let (Some(median), Some(tenth)) = (percentile(&row.took, 50), percentile(&row.took, 10)) else {
            text += &format!("| {} | not given | | | | | |\n", row.name);
            continue;
        };
        let cell = |value: Option<f64>, digits| value.filter(|_| place > 0).map_or(String::new(), |v| format!("{v:.digits$}"));
        let (cost, cost_tenth) = (above(row, 50), above(row, 10));
        let ratio = |of: Option<f64>| cell(cost.zip(of).map(|(cost, of)| cost / of), 2);
        text += &format!("| {} | {median:.0} | {tenth:.0} | {} | {} |", row.name, cell(cost, 0), cell(cost_tenth, 0));
        text += &format!(" {} | {} |\n", ratio(su_exec), ratio(floor));
    }
    text
}
