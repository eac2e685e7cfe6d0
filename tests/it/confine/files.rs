//! `--ro`, `--rox`, `--rw`, `--rwx`.

use super::{SYSTEM, become_of, landlock};
use crate::cases;
use crate::harness::{Case, Outcome};
use crate::jail::{Jail, programs};

pub fn cases() -> Vec<Case> {
    cases![
        one_rule_denies_all_else,
        each_word_gives_what_it_says,
        moves_between_directories_need_rw_on_both_sides,
        an_ioctl_of_a_device_needs_rw,
        a_rule_may_name_a_file,
        a_link_is_followed_where_root_owns_it_and_leads_nowhere_else,
        what_is_open_already_stays_so,
        a_directory_that_mkdir_makes_can_be_named,
        execution_needs_x_on_the_program_its_interpreter_and_its_loader,
        what_the_command_starts_is_confined_too,
        rules_are_resolved_as_root_and_give_the_user_no_more,
        the_supervisor_is_not_confined,
    ]
}

/// A tree of the target's, outside of what [`SYSTEM`] names.
fn jail() -> Result<Jail, crate::harness::Stop> {
    landlock(5)?;
    Ok(Jail::new()?.setup(
        "mkdir -p $W/a/sub $W/b/sub $W/c; echo x >$W/a/file; echo x >$W/b/file; echo x >$W/c/file; chmod 755 $W/*/file; chown -R 1000:1000 $W",
    ))
}

/// Lines of Python, with the test's directory in them.
fn at(jail: &Jail, lines: &[(&str, &str)]) -> Vec<(&'static str, &'static str)> {
    let work = jail.work().display().to_string();
    let leak = |text: &str| -> &'static str { text.replace("$W", &work).leak() };
    lines.iter().map(|(line, expected)| (leak(line), leak(expected))).collect()
}

fn one_rule_denies_all_else() -> Outcome {
    let jail = jail()?;
    let expected = at(
        &jail,
        &[
            ("os.listdir('/')", "EACCES"),
            ("os.listdir('/usr')", "ok"),
            ("open('/etc/passwd').read()", "ok"),
            ("open('$W/a/file').read()", "EACCES"),
            ("os.listdir('$W/a')", "EACCES"),
            ("open('$W/a/file', 'w')", "EACCES"),
            ("os.truncate('$W/a/file', 0)", "EACCES"),
            ("open('$W/a/new', 'w')", "EACCES"),
            ("os.unlink('$W/a/file')", "EACCES"),
            ("os.rmdir('$W/a/sub')", "EACCES"),
            ("os.mkdir('$W/a/new')", "EACCES"),
            ("os.symlink('x', '$W/a/new')", "EACCES"),
            ("os.mkfifo('$W/a/new')", "EACCES"),
            ("socket.socket(socket.AF_UNIX).bind('$W/a/new')", "EACCES"),
            ("os.rename('$W/a/file', '$W/a/new')", "EACCES"),
            ("os.execv('$W/a/file', ['x'])", "EACCES"),
            ("open('/dev/null')", "EACCES"),
            ("open('/proc/self/status')", "EACCES"),
        ],
    );
    become_of(&jail, &SYSTEM, &expected)
}

fn each_word_gives_what_it_says() -> Outcome {
    let tried = [
        "open('$W/a/file').read()",
        "os.listdir('$W/a')",
        "open('$W/a/file', 'a')",
        "os.truncate('$W/a/file', 1)",
        "os.mkdir('$W/a/dir')",
        "os.rmdir('$W/a/dir')",
        "os.symlink('x', '$W/a/link')",
        "os.mkfifo('$W/a/fifo')",
        "socket.socket(socket.AF_UNIX).bind('$W/a/socket')",
        "os.rename('$W/a/fifo', '$W/a/sub/fifo')",
        "os.unlink('$W/a/link')",
        "os.access('$W/a/run', os.X_OK) and os.posix_spawn('$W/a/run', ['run'], {})",
    ];
    for (word, changes, runs) in [("--ro", "", ""), ("--rox", "", "ok"), ("--rw", "ok", ""), ("--rwx", "ok", "ok")] {
        let jail = jail()?.setup("cp /bin/true $W/a/run; chmod 755 $W/a/run");
        let expected: Vec<(&str, &str)> = tried
            .iter()
            .enumerate()
            .map(|(index, line)| {
                let given = match index {
                    0 | 1 => "ok",
                    11 => runs,
                    _ => changes,
                };
                // What could not be made is not there to be taken away.
                (*line, if given.is_empty() { "EACCES" } else { given })
            })
            .collect();
        let expected = at(&jail, &expected);
        let named = jail.at("a");
        let options = [&SYSTEM[..], &[word, &named]].concat();
        // rmdir, rename and unlink of what is not there: the rule is looked at where the name is found.
        let expected: Vec<(&str, &str)> = expected
            .into_iter()
            .map(|(line, expected)| {
                let absent = ["os.rmdir", "os.rename", "os.unlink"].iter().any(|call| line.starts_with(call));
                (line, if absent && expected == "EACCES" { "ENOENT" } else { expected })
            })
            .collect();
        become_of(&jail, &options, &expected)?;
    }
    Ok(())
}

fn moves_between_directories_need_rw_on_both_sides() -> Outcome {
    let jail = jail()?;
    let expected = at(
        &jail,
        &[
            ("os.rename('$W/a/file', '$W/b/moved')", "ok"),
            ("os.link('$W/b/moved', '$W/a/linked')", "ok"),
            ("os.rename('$W/b/moved', '$W/c/moved')", "EACCES"),
            ("os.link('$W/c/file', '$W/a/got')", "EXDEV"),
            ("os.rename('$W/a/sub', '$W/b/sub2')", "ok"),
        ],
    );
    let (a, b, c) = (jail.at("a"), jail.at("b"), jail.at("c"));
    become_of(&jail, &[&SYSTEM[..], &["--rw", &a, "--rw", &b, "--ro", &c]].concat(), &expected)
}

fn an_ioctl_of_a_device_needs_rw() -> Outcome {
    const FIONBIO_OF_NULL: &str = "fcntl.ioctl(os.open('/dev/null', os.O_RDONLY), 0x1260)";
    let jail = jail()?;
    become_of(
        &jail,
        &[&SYSTEM[..], &["--ro", "/dev/null"]].concat(),
        &[(FIONBIO_OF_NULL, "EACCES"), ("open('/dev/null', 'w')", "EACCES")],
    )?;
    become_of(
        &jail,
        &[&SYSTEM[..], &["--rw", "/dev/null"]].concat(),
        &[(FIONBIO_OF_NULL, "ENOTTY"), ("open('/dev/null', 'w')", "ok")],
    )
}

fn a_rule_may_name_a_file() -> Outcome {
    let jail = jail()?;
    let file = jail.at("a/file");
    let expected = at(
        &jail,
        &[
            ("open('$W/a/file', 'r+').read()", "ok"),
            ("os.truncate('$W/a/file', 0)", "ok"),
            ("os.listdir('$W/a')", "EACCES"),
            ("open('$W/b/file')", "EACCES"),
        ],
    );
    become_of(&jail, &[&SYSTEM[..], &["--rw", &file]].concat(), &expected)
}

fn a_link_is_followed_where_root_owns_it_and_leads_nowhere_else() -> Outcome {
    let jail = jail()?.setup("chown 0:0 $W; ln -sfn a $W/roots; ln -sfn $W/b $W/a/way; mkdir -p $W/theirs; ln -sfn $W/b $W/theirs/link; chown -hR 1000 $W/theirs");
    let expected =
        at(&jail, &[("open('$W/a/file')", "ok"), ("open('$W/roots/file')", "ok"), ("open('$W/a/way/file')", "EACCES")]);
    become_of(&jail, &[&SYSTEM[..], &["--ro", &jail.at("roots")]].concat(), &expected)?;
    jail.run(&["--ro", &jail.at("theirs/link"), "node", "true"])?
        .refused(125, "the symbolic link 'link' is not followed: it belongs to uid 1000");
    Ok(())
}

fn what_is_open_already_stays_so() -> Outcome {
    let jail = jail()?.setup("echo hush >$W/c/key; chown 0:0 $W $W/c $W/c/key; chmod 600 $W/c/key; exec 7<$W/b/file");
    let (key, listed) = (format!("KEY={}", jail.at("c/key")), jail.at("b/file"));
    let expected = [
        ("assert open(os.environ['KEY']).read() == 'hush\\n'", "ok"),
        ("assert os.read(3, 9) == b'x\\n'", "ok"),
        ("assert os.read(7, 9) == b'x\\n'", "ok"),
        // A link of /dev's, which no rule names; what it leads to is open to whoever has it.
        ("open('/dev/stdout', 'a').close()", "ok"),
        ("open('/proc/self/fd/1', 'a').close()", "ok"),
    ];
    become_of(&jail, &[&SYSTEM[..], &["--secret", &key, "--open", &listed, "--keep-fd", "7"]].concat(), &expected)
}

fn a_directory_that_mkdir_makes_can_be_named() -> Outcome {
    let jail = jail()?;
    let made = jail.at("new/dir");
    let expected = at(&jail, &[("open('$W/new/dir/file', 'w')", "ok"), ("open('$W/new/file', 'w')", "EACCES")]);
    become_of(&jail, &[&SYSTEM[..], &["--mkdir", &made, "--rw", &made]].concat(), &expected)
}

fn execution_needs_x_on_the_program_its_interpreter_and_its_loader() -> Outcome {
    let jail = jail()?.setup("cp /bin/true $W/a/run; printf '#!/bin/sh\\necho ran' >$W/a/script; chmod 755 $W/a/*");
    let (run, script, a) = (jail.at("a/run"), jail.at("a/script"), jail.at("a"));
    jail.run(&["--ro", "/", "node", &run])?.refused(126, "hint: all but what --rox and --rwx name is closed to execution");
    jail.run(&["--ro", "/", "--rox", &a, "node", &run])?.refused(126, "the loader of a dynamic program");
    assert_eq!(jail.run(&["--ro", "/", "--rox", &a, "--rox", "/lib64", "--rox", "/usr/lib", "node", &run])?.code, 0);
    jail.run(&["--ro", "/", "--rox", &a, "--rox", "/lib64", "node", &script])?.refused(126, "script");
    assert_eq!(jail.run(&["--rox", "/", "node", &script])?.stdout, "ran\n");
    Ok(())
}

fn what_the_command_starts_is_confined_too() -> Outcome {
    let jail = jail()?;
    let line = format!("sh -c 'exec setsid -w cat {}'", jail.at("a/file"));
    let ran = jail.run(&[&SYSTEM[..], &["node", "sh", "-c", &line]].concat())?;
    assert!(ran.code == 1 && ran.stderr.contains("Permission denied") && ran.stdout.is_empty(), "{ran:?}");
    Ok(())
}

fn rules_are_resolved_as_root_and_give_the_user_no_more() -> Outcome {
    let jail = jail()?.setup(
        "mkdir -p $W/closed; chmod 700 $W/closed; echo x >$W/closed/file; chmod 644 $W/closed/file; chown -R 0:0 $W/closed",
    );
    let expected = at(&jail, &[("open('$W/closed/file')", "EACCES")]);
    become_of(&jail, &[&SYSTEM[..], &["--rw", &jail.at("closed/file"), "--rw", &jail.at("closed")]].concat(), &expected)?;
    // Known to the kernel by what they are, not by name.
    let jail = jail.setup("chown 1000 $W/closed");
    let moved = at(&jail, &[("os.rename('$W/a', '$W/c/away')", "EACCES"), ("open('$W/a/file')", "ok")]);
    become_of(&jail, &[&SYSTEM[..], &["--ro", &jail.at("a")]].concat(), &moved)
}

fn the_supervisor_is_not_confined() -> Outcome {
    landlock(6)?;
    let jail = jail()?;
    let report = jail.report(&[
        "--init",
        "--rox",
        &programs().report.display().to_string(),
        "--ro",
        "/proc",
        "--seccomp",
        "service",
        "--scope",
        "node",
    ])?;
    assert_eq!((report.number("seccomp"), &report.0["can_list_root"]), (2, &false.into()));
    // The command ends what is left of it; the supervisor, whom no rule holds, can still signal it and look around.
    let line = "grep -E '^(Seccomp|Uid)' /proc/1/status; sleep 60 & exit 3";
    let ran = jail.run(&["--init", "--grace=20", "--rox", "/", "--scope", "--seccomp", "service", "node", "sh", "-c", line])?;
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (3, "Uid:\t1000\t1000\t1000\t1000\nSeccomp:\t0\nSeccomp_filters:\t0\n", "")
    );
    Ok(())
}
