//! It is small, and stays so.

use super::{ROLES, Running, children, path, until};
use crate::cases;
use crate::harness::{Case, Outcome, Stop};
use crate::jail::programs;

pub fn cases() -> Vec<Case> {
    cases![it_does_nothing_while_nothing_happens, its_memory_is_small_and_does_not_grow]
}

fn it_does_nothing_while_nothing_happens() -> Outcome {
    for role in ROLES {
        let running =
            Running::start(&role.jail()?, &["--init", "--drain=5", "--kill-after=5", "node", path(&programs().signals)])?;
        running.ready()?;
        let switches =
            || Ok::<_, Stop>((running.status("voluntary_ctxt_switches")?, running.status("nonvoluntary_ctxt_switches")?));
        until("it does not sleep", || running.status("State").ok()?.starts_with('S').then_some(()))?;
        let before = switches()?;
        std::thread::sleep(std::time::Duration::from_secs(2));
        assert_eq!(switches()?, before, "{role:?}");
    }
    Ok(())
}

/// What it has written to, in KB: pages of its own, which nobody shares and no file holds.
fn memory(running: &Running) -> Result<u64, Stop> {
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", running.pid))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// What is promised of the release build; another one may take more, but does not grow either.
const PROMISED: u64 = 32;

fn its_memory_is_small_and_does_not_grow() -> Outcome {
    let most = if std::env::var_os("STEPDOWN_BIN").is_some() { PROMISED } else { 1024 };
    for role in ROLES {
        for option in ["--grace=5", "--verbose"] {
            let script = "while read count; do \"$0\" orphans $count; echo made; done";
            let mut running =
                Running::start(&role.jail()?, &["--init", option, "node", "sh", "-c", script, path(&programs().signals)])?;
            let mut storm = |orphans: u32, signals: usize| -> Result<u64, Stop> {
                running.type_in(&format!("{orphans}\n"))?;
                assert_eq!(running.line()?, "made");
                // The shell pays no heed to these.
                running.send(&vec![28; signals])?;
                until("orphans are left", || (children(running.pid).len() == 1).then_some(()))?;
                until("it does not sleep", || running.status("State").ok()?.starts_with('S').then_some(()))?;
                memory(&running)
            };
            let (first, later) = (storm(1, 1)?, storm(3000, 1000)?);
            assert!((1..=most).contains(&first), "{role:?} {option}: {first} KB");
            assert_eq!(later, first, "{role:?} {option}: it has grown");
            assert_eq!(running.end()?.0, 0, "{role:?}");
        }
    }
    Ok(())
}
