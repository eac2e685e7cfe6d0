//! Stop requests that come in the first two milliseconds. A PID 1 that has not blocked or handled a signal loses it.

use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use crate::first::First;
use crate::idle::sleeps;
use crate::{Row, turns};

/// How many each gets: one at every ten microseconds of the two milliseconds.
pub const COUNT: u32 = 200;

const WITHIN: Duration = Duration::from_millis(2);

/// Who has not ended by then has not heard.
const PATIENCE: Duration = Duration::from_millis(300);

pub fn all(rows: &[Row]) -> Vec<usize> {
    let mut lost = vec![0; rows.len()];
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let mut seed = 1;
    // Or a sleep of 10 µs takes 60.
    // SAFETY: numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) }, 0, "prctl");
    for number in 0..COUNT {
        turns::shuffle(&mut order, &mut seed);
        let mut asked: Vec<(usize, First)> =
            order.iter().map(|&index| (index, ask(&rows[index], WITHIN * number / COUNT))).collect();
        sleep(PATIENCE);
        for (index, first) in &mut asked {
            lost[*index] += usize::from(first.0.try_wait().expect("wait").is_none());
        }
    }
    lost
}

/// Starts it, and asks it to end so long after its execve.
fn ask(row: &Row, after: Duration) -> First {
    let first = First::start(&row.line(&sleeps()), Stdio::null);
    sleep(after);
    first.signal(libc::SIGTERM);
    first
}
