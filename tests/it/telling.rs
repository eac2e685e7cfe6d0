//! How the command is found, what is said where it can't be, and what is told of the plan.

mod printed;

use std::fs;
use std::process::{Command, Stdio};

use crate::cases;
use crate::harness::{Case, Outcome};
use crate::jail::{Jail, Ran, owner, programs};

pub fn cases() -> Vec<Case> {
    let mut all = printed::cases();
    all.extend(cases![
        the_exit_code_is_the_commands_own,
        path_is_searched_as_the_target,
        elements_of_path_that_are_no_absolute_path_are_passed_over,
        without_path_dockers_default_is_searched,
        what_cant_be_run_is_126_and_says_why,
        options_behind_user_get_a_hint,
        dry_run_tells_the_plan_and_changes_nothing,
        dry_run_tells_what_will_be_bound,
        dry_run_refuses_what_a_run_would,
        help_fits_one_screen_and_version_says_one_line,
        help_names_every_option,
    ]);
    all
}

fn the_exit_code_is_the_commands_own() -> Outcome {
    let jail = Jail::new()?;
    for code in [0, 1, 42, 125, 126, 127, 255] {
        assert_eq!(jail.run(&["node", "sh", "-c", &format!("exit {code}")])?.code, code);
    }
    let ran = jail.run(&["node", "--", "sh", "-c", "echo $0 $*", "--", "--init"])?;
    assert_eq!(ran.stdout, "-- --init\n");
    Ok(())
}

fn path_is_searched_as_the_target() -> Outcome {
    let setup = "mkdir -p $W/closed $W/plain $W/good; chmod 700 $W/closed; for d in closed good; do printf '#!/bin/sh\\necho %s' $d >$W/$d/tool; chmod 755 $W/$d/tool; done; echo x >$W/plain/tool";
    let jail = Jail::new()?.setup(setup);
    let path = |names: &[&str]| format!("PATH={}", names.iter().map(|name| jail.at(name)).collect::<Vec<_>>().join(":"));
    assert_eq!(jail.run(&["--env", &path(&["closed", "none", "plain", "good"]), "node", "tool"])?.stdout, "good\n");
    jail.run(&["--env", &path(&["closed", "plain"]), "node", "tool"])?
        .refused(126, "plain/tool (mode 0644, owner 0:0) is not executable for uid 1000, gid 1000");
    let ran = jail.run(&["--env", &path(&["closed"]), "node", "tool"])?;
    ran.refused(127, "COMMAND 'tool' is not found in PATH (");
    ran.refused(127, "closed/tool is closed to uid 1000");
    Ok(())
}

fn elements_of_path_that_are_no_absolute_path_are_passed_over() -> Outcome {
    let jail = Jail::new()?.setup("printf '#!/bin/sh\\necho taken' >$W/tool; chmod 755 $W/tool; cd $W");
    for path in ["PATH=.:/bin", "PATH=", "PATH=::", "PATH=../work:/bin"] {
        jail.run(&["--env", path, "node", "tool"])?.refused(127, "COMMAND 'tool' is not found");
    }
    assert_eq!(jail.run(&["node", "./tool"])?.stdout, "taken\n", "a name with a slash is a path");
    Ok(())
}

fn without_path_dockers_default_is_searched() -> Outcome {
    let jail = Jail::new()?;
    assert_eq!(jail.run(&["--unset-env", "PATH", "node", "id", "-u"])?.stdout, "1000\n");
    jail.run(&["--clear-env", "node", "nosuch"])?.refused(127, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    Ok(())
}

fn what_cant_be_run_is_126_and_says_why() -> Outcome {
    let setup = "cd $W; printf '#!/no/such/thing -x\\n' >script; printf 'echo hi\\n' >text; : >empty; \
        head -c 64 /bin/true | sed 's/\\x3e\\x00/\\xb7\\x00/' >arm; mkdir -p dir; chmod 755 script text empty arm; echo >plain; \
        printf '#!/bin/cat' >secret; chmod 700 secret; mkdir -p closed; chmod 700 closed; cp /bin/true closed/true; \
        printf '#!%s' $W/secret >chain; chmod 755 chain; cd /";
    let jail = Jail::new()?.setup(setup);
    for (name, said) in [
        ("script", "needs the interpreter '/no/such/thing', which does not exist"),
        ("text", "is no program: it begins neither with '#!' and an interpreter nor as ELF"),
        ("empty", "is empty"),
        ("arm", "is a program for aarch64, and this is x86_64"),
        ("dir", "is a directory"),
        ("plain", "(mode 0644, owner 0:0) is not executable for uid 1000, gid 1000"),
        ("secret", "(mode 0700, owner 0:0) is not executable"),
        ("closed/true", "can't be reached by uid 1000"),
        ("chain", "needs the interpreter '"),
    ] {
        if name == "arm" && std::env::consts::ARCH != "x86_64" {
            continue;
        }
        jail.run(&["node", &jail.at(name)])?.refused(126, said);
    }
    jail.run(&["node", &jail.at("none")])?.refused(127, "does not exist");
    jail.run(&["node", &jail.at("plain/x")])?.refused(127, "does not exist");
    jail.run(&["node", ""])?.refused(127, "COMMAND '' is not found");
    let jail = Jail::new()?.setup("cp /bin/true $W/true; mount --bind $W $W; mount -o remount,bind,noexec $W");
    jail.run(&["node", &jail.at("true")])?.refused(126, "mounted noexec");
    // Found by PATH, and its interpreter is missing: execve says ENOENT, which is not "not found".
    let jail = Jail::new()?.setup("printf '#!/no/such' >$W/tool; chmod 755 $W/tool");
    jail.run(&["--env", &format!("PATH={}:/bin", jail.work().display()), "node", "tool"])?
        .refused(126, "needs the interpreter '/no/such'");
    Ok(())
}

fn options_behind_user_get_a_hint() -> Outcome {
    let ran = Jail::new()?.run(&["node", "--init", "x"])?;
    ran.refused(127, "COMMAND '--init' is not found");
    ran.refused(127, "hint: options of stepdown stand before USER");
    Ok(())
}

fn dry_run_tells_the_plan_and_changes_nothing() -> Outcome {
    let jail = Jail::new()?.setup("mkdir -p $W/data");
    let data = jail.at("data");
    let options = [
        "--mkdir",
        &jail.at("new:2770"),
        "--chown",
        &data,
        "--listen",
        "http=80",
        "--keep-cap",
        "KILL",
        "--umask",
        "27",
        "--chdir",
        "/",
    ];
    let line = |first: &'static str| [&[first][..], &options, &["node", "cat", "server.js", "\u{1b}[2J"]].concat();
    let ran = jail.run(&line("--dry-run"))?;
    let told = format!(
        "runs as       node (uid 1000, gid 1000)\n\
         groups        1, 4, 100, 1000\n\
         started       with the right to switch\n\
         capabilities  CAP_KILL in all five sets\n\
         no_new_privs  set\n\
         keyring       a session keyring of its own\n\
         mkdir         {} mode 2770\n\
         chown         {data} and all below\n\
         descriptor    3 http: listens on tcp [::]:80, both families\n\
         directory     /\n\
         umask         0027\n\
         command       cat server.js \\u{{1b}}[2J\n",
        jail.at("new")
    );
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, told.as_str(), ""));
    let ran = jail.run(&line("--dry-run=json"))?;
    let told: serde_json::Value = serde_json::from_str(&ran.stdout)?;
    assert_eq!(told["user"], serde_json::json!({ "name": "node", "uid": 1000, "gid": 1000, "groups": [1, 4, 100, 1000] }));
    let socket = &told["sockets"][0];
    assert_eq!((&socket["fd"], &socket["name"]), (&3.into(), &"http".into()));
    assert_eq!(socket["what"], "listens on tcp [::]:80, both families");
    assert_eq!((&told["capabilities"], &told["role"]), (&serde_json::json!(["CAP_KILL"]), &"switching".into()));
    assert_eq!(told["keyring"], "own");
    assert!(!ran.stdout.contains("/home/node"), "values of variables may be secrets");
    assert_eq!((owner(&data), jail.work().join("new").exists()), ((0, 0), false));
    Ok(())
}

fn dry_run_tells_what_will_be_bound() -> Outcome {
    let jail = Jail::new()?.setup("mkdir -p $W/shared; chgrp games $W/shared; chmod 2755 $W/shared");
    let (plain, shared) = (jail.at("s"), jail.at("shared/s"));
    for (typed, told) in [
        ("80", "tcp [::]:80, both families".to_owned()),
        ("80,v6only", "tcp [::]:80, IPv6 alone".to_owned()),
        ("[::]:80", "tcp [::]:80, both families unless net.ipv6.bindv6only is set".to_owned()),
        ("[::]:80,v6only=no", "tcp [::]:80, both families".to_owned()),
        ("127.0.0.1:80,backlog=7,reuse-port", "tcp 127.0.0.1:80, backlog 7, reuse-port".to_owned()),
        ("[0:0::1]:80", "tcp [::1]:80".to_owned()),
        ("[fe80::1%lo]:80", "tcp [fe80::1%lo]:80".to_owned()),
        ("udp:53", "udp [::]:53, both families".to_owned()),
        ("@app", "unix @app".to_owned()),
        (&plain, format!("unix {plain}, 0660 root:node")),
        (&format!("udp:{plain},mode=600,owner=games"), format!("unix datagram {plain}, 0600 games:games")),
        (&shared, format!("unix {shared}, 0660 root:games")),
    ] {
        let ran = jail.run(&["--dry-run", "--listen", &format!("x={typed}"), "node", "true"])?;
        assert!(ran.code == 0 && ran.stdout.contains(&format!("3 x: listens on {told}\n")), "{typed}: {ran:?}");
        let ran = jail.run(&["--dry-run=json", "--listen", typed, "node", "true"])?;
        let json: serde_json::Value = serde_json::from_str(&ran.stdout)?;
        assert_eq!(json["sockets"][0]["what"], format!("listens on {told}"));
        assert!(told.contains(json["sockets"][0]["bind"]["address"].as_str().unwrap_or("none")), "{json}");
    }
    // What was told is what is bound.
    let ran = jail.run(&["--listen", &plain, "--chdir", "/", "node", "stat", "-c", "%a %U:%G", &plain])?;
    assert_eq!(ran.stdout, "660 root:node\n", "{ran:?}");
    Ok(())
}

fn dry_run_refuses_what_a_run_would() -> Outcome {
    let jail = Jail::new()?;
    for line in [
        &["nosuch", "true"][..],
        &["--keep-fd", "9", "node", "true"],
        &["--chown", "/etc", "node", "true"],
        &["--chown", "/none", "node", "true"],
    ] {
        let [told, ran] = [["--dry-run"].as_slice(), &[]].map(|first| jail.run(&[first, line].concat()));
        let (told, ran) = (told?, ran?);
        assert_eq!((told.code, &told.stderr, told.stdout.as_str()), (125, &ran.stderr, ""), "{line:?}");
    }
    let jail = Jail::new()?.through(&["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]);
    jail.run(&["--dry-run", "games", "true"])?.refused(125, "CAP_SETGID, CAP_SETUID is missing");
    let ran = jail.run(&["--dry-run", "node", "true"])?;
    assert!(
        ran.stdout.contains("started       as the target already\n") && ran.stdout.contains("groups        none, as found\n"),
        "{ran:?}"
    );
    assert!(ran.stdout.contains("bounding set  as found, for want of CAP_SETPCAP; idle under no_new_privs\n"), "{ran:?}");
    Ok(())
}

/// As anybody.
fn plainly(arguments: &[&str]) -> Result<Ran, crate::harness::Stop> {
    Ok(Ran::of(Command::new(&programs().stepdown).args(arguments).stdin(Stdio::null()).output()?))
}

fn help_fits_one_screen_and_version_says_one_line() -> Outcome {
    for flag in ["--help", "-h"] {
        let ran = plainly(&[flag])?;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert!(ran.stdout.lines().count() <= 60 && ran.stdout.lines().all(|line| line.chars().count() <= 82), "one screen");
        assert!(ran.stdout.contains("  stepdown --dry-run") && ran.stdout.contains("  ENTRYPOINT"), "with examples");
    }
    for flag in ["--version", "-V"] {
        assert_eq!(plainly(&[flag])?.stdout, format!("stepdown {}\n", env!("CARGO_PKG_VERSION")));
    }
    let mut full = Command::new(&programs().stepdown);
    let output = full.arg("--help").stdout(fs::OpenOptions::new().write(true).open("/dev/full")?).output()?;
    Ran::of(output).refused(125, "stdout: No space left on device");
    assert_eq!(plainly(&["--help", "--chown"])?.code, 125, "a mistake is a mistake");
    assert_eq!(plainly(&["--chown", "/x", "--help"])?.stdout, include_str!("../../src/help.txt"));
    Ok(())
}

fn help_names_every_option() -> Outcome {
    let help = plainly(&["--help"])?.stdout;
    let source = include_str!("../../src/cli/grammar.rs");
    let table = source.split("const OPTIONS").nth(1).and_then(|rest| rest.split("];").next()).unwrap_or_default();
    let names: Vec<&str> = table.split("(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(names.len() > 10);
    for name in names {
        assert!(help.contains(&format!("--{name}")), "--{name} is not in --help");
    }
    Ok(())
}
