//! Runs, reports once, and exits.
#![no_main]

// SAFETY: threads are started for `--chown` alone, by `with_threads`; every open says O_CLOEXEC; the only statics are in
// `sys`, and own nothing; `unowned` goes to `acquire::perform`, which gives it away when all that it opened has gone into
// what is handed on; and no output is buffered where `--init` goes on.
stepdown::entry_point!(unsafe main_with);

fn main_with(start: stepdown::sys::Start) -> u8 {
    match stepdown::run(start) {
        Ok(()) => 0,
        Err(failure) => {
            failure.report();
            failure.exit_code()
        }
    }
}
