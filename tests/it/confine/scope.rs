//! `--scope`.

use super::{become_of, landlock};
use crate::cases;
use crate::harness::{Case, Outcome};
use crate::jail::Jail;

pub fn cases() -> Vec<Case> {
    cases![abstract_sockets_and_signals_reach_only_what_the_command_started, the_supervisor_reaches_the_command_all_the_same]
}

/// A process of the same user outside: it listens on an abstract socket, and its number is in a file.
const OUTSIDE: &str = "rm -f $W/outside
setpriv --reuid=1000 --regid=1000 --clear-groups python3 -c '
import os, socket, time
s = socket.socket(socket.AF_UNIX); s.bind(b\"\\0outside\"); s.listen()
print(os.getpid(), flush=True); time.sleep(600)' >$W/outside & while ! [ -s $W/outside ]; do sleep 0.01; done; chmod 755 $W";

const REACH: [&str; 4] = [
    "socket.socket(socket.AF_UNIX).connect(b'\\0outside')",
    "os.kill(int(open('$W/outside').read()), 0)",
    "s = socket.socket(socket.AF_UNIX); s.bind(b'\\0inside'); s.listen(); socket.socket(socket.AF_UNIX).connect(b'\\0inside')",
    "pid = os.posix_spawn('/bin/sleep', ['sleep', '60'], {}); os.kill(pid, 9); os.waitpid(pid, 0)",
];

fn abstract_sockets_and_signals_reach_only_what_the_command_started() -> Outcome {
    landlock(6)?;
    let jail = Jail::new()?.network().setup(OUTSIDE);
    let lines = REACH.map(|line| &*line.replace("$W", &jail.work().display().to_string()).leak());
    let expect = |results: [&'static str; 4]| lines.iter().copied().zip(results).collect::<Vec<_>>();
    become_of(&jail, &[], &expect(["ok"; 4]))?;
    become_of(&jail, &["--scope"], &expect(["EPERM", "EPERM", "ok", "ok"]))
}

fn the_supervisor_reaches_the_command_all_the_same() -> Outcome {
    landlock(6)?;
    let jail = Jail::new()?;
    let line = "trap 'echo got; exit 4' TERM; sleep 0.1 & wait; kill -0 1 2>/dev/null && echo reached; echo ready; while :; do sleep 0.05; done";
    let line = format!("exec 3>&1; {line}");
    let script =
        "\"$@\" & stepdown=$!; sleep 1; while ! kill -TERM $stepdown 2>/dev/null; do sleep 0.1; done; wait $stepdown; exit $?";
    let ran = jail.through(&["sh", "-c", script, "sh"]).run(&["--init", "--scope", "node", "sh", "-c", &line])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (4, "ready\ngot\n"), "{ran:?}");
    Ok(())
}
