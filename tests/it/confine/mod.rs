//! What the command may reach and call, tried by the command; and what it may not, by an attacker in its place.

mod files;
mod kernels;
mod lies;
mod limits;
mod peers;
mod ports;
pub mod profiles;
mod scope;
mod service;
mod telling;
mod terminal;

use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{Jail, Ran};

pub fn cases() -> Vec<Case> {
    [
        files::cases(),
        ports::cases(),
        scope::cases(),
        terminal::cases(),
        limits::cases(),
        kernels::cases(),
        lies::cases(),
        peers::cases(),
        telling::cases(),
        profiles::cases(),
        service::cases(),
    ]
    .concat()
}

/// Skips the test on a kernel whose Landlock knows less.
pub fn landlock(abi: u32) -> Outcome {
    match stepdown::sys::landlock_abi() {
        Ok(found) if found >= abi => Ok(()),
        found => Err(Stop::Skip(format!("needs Landlock ABI {abi}, and this kernel has {found:?}"))),
    }
}

/// Has Python try each line, and say what became of it: `LINE: ok`, or the name of the error.
fn tries(jail: &Jail, options: &[&str], lines: &[&str]) -> Result<Vec<String>, Stop> {
    Need::Root.programs(&["python3"])?;
    const PROGRAM: &str = "
import ctypes, errno, fcntl, os, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == 'x86_64'
def call(*words):
    if libc.syscall(*words) < 0: raise OSError(ctypes.get_errno(), '')
for line in sys.argv[1:]:
    try: exec(line); print('ok')
    except OSError as error: print(errno.errorcode[error.errno])
    sys.stdout.flush()
";
    let words = [options, &["node", "/usr/bin/python3", "-c", PROGRAM], lines].concat();
    let Ran { code, stdout, stderr } = jail.run(&words)?;
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    Ok(stdout.lines().map(str::to_owned).collect())
}

/// Asserts what becomes of each line.
#[track_caller]
fn become_of(jail: &Jail, options: &[&str], expected: &[(&str, &str)]) -> Outcome {
    let lines: Vec<&str> = expected.iter().map(|(line, _)| *line).collect();
    let found = tries(jail, options, &lines)?;
    let found: Vec<(&str, &str)> = lines.iter().copied().zip(found.iter().map(String::as_str)).collect();
    assert_eq!(found, expected, "{options:?}");
    Ok(())
}

/// What a dynamic program needs to start at all, and nothing that is written to.
const SYSTEM: [&str; 10] = ["--rox", "/usr", "--rox", "/bin", "--rox", "/lib", "--rox", "/lib64", "--ro", "/etc"];
