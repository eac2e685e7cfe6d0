//! How the walk goes about it: by which calls, and with how many threads, none of which outlives it with root's rights.

use std::fs;

use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{Jail, Ran};

pub fn cases() -> Vec<Case> {
    cases![
        what_others_could_swap_is_changed_by_descriptor,
        all_threads_of_a_walk_are_gone_before_the_drop,
        a_small_tree_takes_no_thread,
        where_no_thread_is_to_be_had_one_does_all_the_work,
        a_thread_that_does_not_end_is_an_error,
    ]
}

/// Enough entries that the walk asks for help, in directories that threads can share.
const LARGE: &str = "mkdir -p $W/d/a $W/d/b $W/d/c; for i in a b c; do seq -f $W/d/$i/%g 1 1500 | xargs touch; done";

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn trace(setup: &str, options: &[&str]) -> Result<(Ran, String), Stop> {
    Need::Strace.programs(&["strace"])?;
    let jail = Jail::new()?.setup(setup).setup("touch $W/trace");
    let file = jail.at("trace");
    let mut prefix = vec!["strace", "-f", "-qq", "-o", &file];
    prefix.extend(options);
    let jail = jail.through(&prefix);
    let ran = jail.run(&["--chown", &jail.at("d"), "node", "find", &jail.at("d"), "!", "-user", "1000"])?;
    Ok((ran, fs::read_to_string(file)?))
}

fn what_others_could_swap_is_changed_by_descriptor() -> Outcome {
    if fs::read_to_string("/proc/sys/fs/protected_hardlinks")?.trim() != "1" {
        return Err(Stop::Skip("hard links are not protected here: all are changed by descriptor".into()));
    }
    let directories = "for m in 755 700 775 757 1777; do mkdir -m $m -p $W/d/$m; touch $W/d/$m/in-$m; done; \
                       mkdir $W/d/theirs; touch $W/d/theirs/in-theirs; chown 1000 $W/d/theirs";
    let (ran, trace) = trace(directories, &["-e", "trace=fchownat"])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
    let mut by_name: Vec<&str> = trace.split('"').filter(|name| name.starts_with("in-")).collect();
    by_name.sort_unstable();
    assert_eq!(by_name, ["in-700", "in-755"], "{trace}");
    assert_eq!(trace.matches("\"\", 1000, 1000, AT_EMPTY_PATH) = 0").count(), 4 + 7, "files and directories: {trace}");
    Ok(())
}

fn all_threads_of_a_walk_are_gone_before_the_drop() -> Outcome {
    let (ran, trace) = trace(LARGE, &["-e", "trace=clone,clone3,exit,setgroups"])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
    let line =
        |what: &str| trace.lines().enumerate().filter(|(_, line)| line.contains(what)).map(|(at, _)| at).collect::<Vec<_>>();
    let (ends, drop) = (line(" exit("), line("setgroups("));
    assert_eq!(ends.len(), processors().min(8) - 1, "{trace}");
    assert!(drop.len() == 1 && ends.iter().all(|&end| end < drop[0]), "{trace}");
    Ok(())
}

fn a_small_tree_takes_no_thread() -> Outcome {
    let (ran, trace) = trace("mkdir -p $W/d/e; touch $W/d/f", &["-e", "trace=clone,clone3,setgroups"])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
    assert!(!trace.contains("clone"), "{trace}");
    Ok(())
}

fn where_no_thread_is_to_be_had_one_does_all_the_work() -> Outcome {
    let (ran, trace) = trace(LARGE, &["-e", "trace=clone,clone3", "-e", "inject=clone,clone3:error=EAGAIN:when=1"])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
    assert!(processors() == 1 || trace.contains("EAGAIN"), "{trace}");
    Ok(())
}

fn a_thread_that_does_not_end_is_an_error() -> Outcome {
    if processors() == 1 {
        return Err(Stop::Skip("needs two processors".into()));
    }
    let (ran, _) = trace(LARGE, &["-e", "trace=tgkill", "-e", "inject=tgkill:retval=0"])?;
    ran.refused(125, "a thread of the walk does not end: tgkill: ETIMEDOUT");
    let (ran, _) = trace(LARGE, &["-e", "trace=tgkill", "-e", "inject=tgkill:error=EPERM"])?;
    ran.refused(125, "a thread of the walk does not end: tgkill: EPERM");
    Ok(())
}
