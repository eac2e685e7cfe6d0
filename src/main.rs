//! Runs, reports once, and exits.
#![no_main]

stepdown::entry_point!(main_with);

fn main_with(start: stepdown::sys::Start) -> u8 {
    match stepdown::run(start) {
        Ok(()) => 0,
        Err(failure) => {
            failure.report();
            failure.exit_code()
        }
    }
}
