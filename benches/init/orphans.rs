//! Orphans: what it takes to reap them.

use std::ffi::CString;
use std::io::{Read, Write};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::first::{First, median, number};
use crate::{Place, Row, turns};

const ROUNDS: usize = 5;

/// How many there are at a time.
pub const COUNT: u32 = 5000;

/// How many are made by each process that leaves them.
const BROOD: u32 = 50;

/// Microseconds of processor time for one; medians.
pub struct Cost {
    /// All wait to be reaped when it begins.
    pub at_once: f64,
    /// One after the other, while they are made.
    pub as_they_come: f64,
}

pub fn all(rows: &[Row], place: &Place) -> Vec<Cost> {
    let mut costs: Vec<(Vec<f64>, Vec<f64>)> = rows.iter().map(|_| Default::default()).collect();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let mut seed = 1;
    for _ in 0..ROUNDS {
        turns::shuffle(&mut order, &mut seed);
        for &index in &order {
            let count = CString::new(COUNT.to_string()).expect("no null");
            let line = rows[index].line(&[place.own.clone(), c"orphans".into(), count]);
            let mut first = First::start(&line, Stdio::piped).settled("own");
            costs[index].0.push(cost(&mut first, true));
            costs[index].1.push(cost(&mut first, false));
        }
    }
    costs.into_iter().map(|(at_once, others)| Cost { at_once: median(at_once), as_they_come: median(others) }).collect()
}

fn cost(first: &mut First, at_once: bool) -> f64 {
    let before = busy(first);
    if at_once {
        // From outside its namespace this can be done to a PID 1 as well.
        first.signal(libc::SIGSTOP);
    }
    first.0.stdin.as_mut().expect("piped").write_all(b"!").expect("it listens");
    first.0.stdout.as_mut().expect("piped").read_exact(&mut [0]).expect("they are made");
    if at_once {
        // The last ones are dead by then.
        sleep(Duration::from_millis(200));
        first.signal(libc::SIGCONT);
    }
    let since = Instant::now();
    while first.children().len() > 1 {
        assert!(since.elapsed() < Duration::from_secs(60), "orphans are left");
        sleep(Duration::from_millis(20));
    }
    // Until it sleeps again.
    sleep(Duration::from_millis(50));
    (busy(first) - before) / 1e3 / f64::from(COUNT)
}

/// Nanoseconds on a processor.
fn busy(first: &First) -> f64 {
    number(&first.read("schedstat"))
}

/// The command: each byte that comes makes so many.
pub fn play(count: u32) {
    let (mut asked, mut told) = (std::io::stdin(), std::io::stdout());
    while asked.read_exact(&mut [0]).is_ok() {
        for _ in 0..count / BROOD {
            let parent = fork(|| {
                for _ in 0..BROOD {
                    fork(|| {});
                }
            });
            assert_eq!(crate::starts::wait(parent), 0, "they are left");
        }
        told.write_all(b".").and_then(|()| told.flush()).expect("somebody listens");
    }
}

fn fork(child: impl FnOnce()) -> libc::pid_t {
    // SAFETY: there is one thread; the child makes system calls alone.
    unsafe {
        match libc::fork() {
            0 => {
                child();
                libc::_exit(0)
            }
            pid => {
                assert!(pid > 0, "fork");
                pid
            }
        }
    }
}
