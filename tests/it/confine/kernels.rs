//! What this kernel can't enforce: said in the right words, on each kernel that the tests are run on.

use nix::errno::Errno;

use super::{SYSTEM, become_of};
use crate::cases;
use crate::harness::{Case, Outcome};
use crate::jail::Jail;

pub fn cases() -> Vec<Case> {
    cases![
        strict_refuses_what_this_kernel_cant_enforce_and_names_the_kernel_that_can,
        best_effort_says_what_is_not_enforced_and_enforces_the_rest,
        dry_run_says_the_same,
    ]
}

/// The manual's table: the ABI, its kernel, and what it brought.
const LESSONS: [(u32, &str, &str); 6] = [
    (1, "5.13", "files"),
    (2, "5.19", "moves between directories (all are refused)"),
    (3, "6.2", "truncate(2)"),
    (5, "6.10", "ioctl(2) of devices"),
    (4, "6.7", "TCP ports"),
    (6, "6.12", "abstract sockets and signals"),
];

/// Each rule, and which of the lessons it takes.
const RULES: [(&[&str], std::ops::Range<usize>); 3] =
    [(&["--rox", "/"], 0..4), (&["--bind-tcp", "8080"], 4..5), (&["--scope"], 5..6)];

fn found() -> Result<u32, Errno> {
    stepdown::sys::landlock_abi()
}

fn has() -> String {
    found().map_or_else(|errno| format!("none ({errno})"), |abi| format!("ABI {abi}"))
}

fn lacking(lessons: &std::ops::Range<usize>) -> Vec<(u32, &'static str, &'static str)> {
    LESSONS[lessons.clone()].iter().copied().filter(|(abi, ..)| *abi > found().unwrap_or(0)).collect()
}

fn strict_refuses_what_this_kernel_cant_enforce_and_names_the_kernel_that_can() -> Outcome {
    let jail = Jail::new()?;
    for (rule, lessons) in &RULES {
        let ran = jail.run(&[rule, &["node", "id", "-u"][..]].concat())?;
        let lacking = lacking(lessons);
        let Some((_, linux, _)) = lacking.last() else {
            assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "1000\n", ""), "{rule:?}");
            continue;
        };
        let shown = rule.join(" ");
        let (why, hint) = match found() {
            Ok(abi) => {
                let all: Vec<String> =
                    lacking.iter().map(|(abi, linux, what)| format!("{what} (ABI {abi}, Linux {linux})")).collect();
                (format!("this kernel's Landlock, ABI {abi}, can't restrict {}", all.join(", ")), format!("Linux {linux} can"))
            }
            Err(Errno::ENOSYS) => (
                "this kernel has no Landlock, which came with Linux 5.13: landlock_create_ruleset: ENOSYS: Function not implemented"
                    .to_owned(),
                format!("this rule needs Linux {linux}"),
            ),
            Err(errno) => (format!("landlock_create_ruleset: {errno}"), "--best-effort".to_owned()),
        };
        ran.refused(125, &format!("{shown}: {why}\n"));
        ran.refused(125, &format!("stepdown: hint: {hint}; --best-effort goes on without, and says so\n"));
    }
    Ok(())
}

fn best_effort_says_what_is_not_enforced_and_enforces_the_rest() -> Outcome {
    let jail = Jail::new()?;
    let rules: Vec<&str> = RULES.iter().flat_map(|(rule, _)| rule.iter().copied()).collect();
    let ran = jail.run(&[&["--best-effort"], &rules[..], &["node", "id", "-u"]].concat())?;
    let has = has();
    let warned = RULES.iter().flat_map(|(_, lessons)| lacking(lessons));
    let warned: String = warned
        .map(|(abi, linux, what)| {
            format!("stepdown: warning: not enforced: {what}: Landlock ABI {abi} (Linux {linux}) is needed, and this kernel has {has}\n")
        })
        .collect();
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr), (0, "1000\n", warned));
    // A file that may not be read: from the first ABI on.
    let read = if found().is_ok() { "EACCES" } else { "ok" };
    let line = "open('/var/lib/dpkg/status').close()";
    let silent = jail.through(&["sh", "-c", "exec 2>/dev/null \"$@\"", "sh"]);
    become_of(&silent, &[&["--best-effort"], &SYSTEM[..]].concat(), &[(line, read)])
}

fn dry_run_says_the_same() -> Outcome {
    let jail = Jail::new()?;
    for (rule, lessons) in &RULES {
        let ran = jail.run(&[&["--dry-run", "--best-effort"][..], rule, &["node", "true"]].concat())?;
        let said = ran.stdout.lines().find(|line| line.starts_with("confined")).unwrap_or_default();
        let enforced = lacking(lessons).is_empty();
        let verdict = if enforced { ": enforced" } else { ": not enforced: " };
        assert!(said.starts_with(&format!("confined      {}{verdict}", rule.join(" "))), "{ran:?}");
        assert_eq!(jail.run(&[&["--dry-run"][..], rule, &["node", "true"]].concat())?.code, if enforced { 0 } else { 125 });
    }
    Ok(())
}
