//! A start with its end.

use std::time::{Duration, Instant};

use crate::first::Namespaces;
use crate::starts::{self, CONTAINER, WARM_UP};
use crate::{Place, Row, table, turns};

/// What there is to give up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Situation {
    AllCapabilities,
    AContainers,
    TheTargetAlready,
}

impl Situation {
    pub fn name(self) -> &'static str {
        match self {
            Self::AllCapabilities => "With all of root's capabilities",
            Self::AContainers => "With a container's fourteen capabilities",
            Self::TheTargetAlready => "As the target already",
        }
    }

    /// Becomes what the programs are to be started from; the right to make namespaces is left here, and not to them.
    fn enter(self) {
        const CAP_SYS_ADMIN: u64 = 1 << 21;
        const NOBODY: u32 = 65534;
        match self {
            Self::AllCapabilities => {}
            Self::AContainers => starts::bound_by(CONTAINER),
            Self::TheTargetAlready => {
                // SAFETY: a list of one group, and numbers.
                unsafe {
                    assert_eq!(libc::setgroups(1, [NOBODY].as_ptr()), 0, "setgroups");
                    assert_eq!(libc::setresgid(NOBODY, NOBODY, NOBODY), 0, "setresgid");
                    assert_eq!(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0), 0, "prctl");
                    assert_eq!(libc::setresuid(NOBODY, NOBODY, NOBODY), 0, "setresuid");
                }
                starts::hold(CAP_SYS_ADMIN);
            }
        }
    }
}

pub fn all(rows: &[Row], place: &Place, rounds: usize) {
    for situation in [Situation::AllCapabilities, Situation::AContainers, Situation::TheTargetAlready] {
        starts::in_a_child(|| {
            let namespaces = Namespaces::new();
            let terminal = starts::set_streams_aside();
            situation.enter();
            let rows: Vec<&Row> = rows.iter().filter(|row| !row.needs_root || situation != Situation::TheTargetAlready).collect();
            let took = measure(&rows, &namespaces, place, rounds);
            starts::bring_back(&terminal);
            print!("{}", table::time(situation, &rows, &took));
        });
    }
}

fn measure(rows: &[&Row], namespaces: &Namespaces, place: &Place, rounds: usize) -> Vec<Vec<Duration>> {
    let lines: Vec<_> = rows.iter().map(|row| row.line(std::slice::from_ref(&place.target))).collect();
    let mut took = vec![Vec::new(); rows.len()];
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let mut seed = 1;
    for round in 0..WARM_UP + rounds {
        turns::shuffle(&mut order, &mut seed);
        for &index in &order {
            let (begin, child) = namespaces.first(|| (Instant::now(), starts::spawn(&lines[index])));
            let status = starts::wait(child);
            let time = begin.elapsed();
            assert_eq!(status, 0, "{} failed", rows[index].name);
            if round >= WARM_UP {
                took[index].push(time);
            }
        }
    }
    took.iter_mut().for_each(|took| took.sort_unstable());
    took
}
