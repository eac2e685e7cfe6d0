//! USER[:GROUP]: who the command runs as, and who may not switch.

use crate::cases;
use crate::harness::{Case, Outcome, Stop};
use crate::jail::{Jail, PASSWD};

pub fn cases() -> Vec<Case> {
    cases![
        a_name_or_an_id_gets_the_entrys_group_and_every_group_that_lists_the_user,
        a_group_that_is_given_is_the_only_one,
        digits_alone_are_an_id_never_a_name,
        an_id_without_an_entry_needs_a_group,
        a_path_stands_for_its_owner_and_group,
        a_path_of_roots_is_refused,
        links_in_a_path_are_followed_only_where_root_owns_them,
        variables_stand_for_ids_and_names,
        root_is_run_as_only_where_it_is_written_out,
        roots_group_is_taken_only_where_it_is_written_out,
        an_owner_of_a_socket_is_root_only_where_it_is_written_out,
        groups_replaces_the_list_and_the_primary_gid_is_added_all_the_same,
        a_user_may_be_in_as_many_groups_as_the_kernel_takes_and_no_more,
        without_account_files_numbers_work,
        an_account_file_that_is_no_regular_file_is_an_error_and_never_hangs,
        hostile_account_files_yield_no_root,
        an_entry_in_cr_lf_or_behind_a_byte_order_mark_is_told,
        a_value_that_ends_in_a_carriage_return_is_told,
        started_as_the_target_it_goes_on,
        started_as_the_target_in_fewer_groups_it_keeps_those,
        started_in_a_group_beyond_the_plans_it_is_refused,
        started_as_neither_it_says_who_it_is_and_what_is_missing,
        if_root_runs_as_whoever_started_it,
        if_root_never_runs_as_root_that_is_not_written_out,
        setuid_and_setgid_alone_are_enough,
        without_setgid_or_setuid_the_missing_one_is_named,
        run_set_user_id_it_refuses,
        started_as_the_target_it_keeps_the_groups_that_the_engine_gave,
        in_a_user_namespace_with_setgroups_denied_its_root_goes_on,
        and_so_does_a_user_of_it_who_could_set_groups_elsewhere,
        there_no_group_stays_that_nobody_named,
        an_images_own_proc_denies_nothing,
        in_a_user_namespace_without_the_id_it_says_so,
        in_a_user_namespace_a_path_whose_owner_it_lacks_is_nobodys,
    ]
}

const NODES: [u64; 4] = [1, 4, 100, 1000];

fn a_name_or_an_id_gets_the_entrys_group_and_every_group_that_lists_the_user() -> Outcome {
    let jail = Jail::new()?;
    for spec in ["node", "1000"] {
        jail.report(&[spec])?.is_exactly(1000, 1000, &NODES);
    }
    jail.report(&["games"])?.is_exactly(5, 60, &[4, 60]);
    Ok(())
}

fn a_group_that_is_given_is_the_only_one() -> Outcome {
    let jail = Jail::new()?;
    jail.report(&["node:staff"])?.is_exactly(1000, 50, &[50]);
    jail.report(&["node:50"])?.is_exactly(1000, 50, &[50]);
    jail.report(&["node:node"])?.is_exactly(1000, 1000, &[1000]);
    jail.report(&["7777:8888"])?.is_exactly(7777, 8888, &[8888]);
    jail.report(&["4294967294:4294967294"])?.is_exactly(4294967294, 4294967294, &[4294967294]);
    jail.report(&["node:0"])?.is_exactly(1000, 0, &[0]);
    Ok(())
}

fn digits_alone_are_an_id_never_a_name() -> Outcome {
    let jail = Jail::new()?;
    jail.run(&["1001", "true"])?.refused(125, "uid 1001 is not in /etc/passwd");
    jail.report(&["1001:1"])?.is_exactly(1001, 1, &[1]);
    Ok(())
}

fn an_id_without_an_entry_needs_a_group() -> Outcome {
    let ran = Jail::new()?.run(&["7777", "true"])?;
    ran.refused(125, "uid 7777 is not in /etc/passwd, so its group is unknown");
    ran.refused(125, "hint: write 7777:GID");
    Ok(())
}

fn a_path_stands_for_its_owner_and_group() -> Outcome {
    let jail = Jail::new()?.setup("mkdir -p $W/app; chown 1000:50 $W/app; ln -sfn app $W/link");
    jail.report(&[format!("@{}", jail.at("app"))])?.is_exactly(1000, 50, &[50]);
    let report = jail.report(&[format!("@{}", jail.at("link"))])?;
    report.is_exactly(1000, 50, &[50]);
    assert_eq!(report.variable("HOME").as_deref(), Some("/home/node"));
    Ok(())
}

fn a_path_of_roots_is_refused() -> Outcome {
    let jail = Jail::new()?.setup("mkdir -p $W/a $W/b; chown 0:50 $W/a; chown 1000:0 $W/b");
    jail.run(&[format!("@{}", jail.at("a")), "true".into()])?.refused(125, "it belongs to uid 0");
    jail.run(&[format!("@{}", jail.at("b")), "true".into()])?.refused(125, "it belongs to gid 0");
    jail.run(&[format!("@{}", jail.at("none")), "true".into()])?.refused(125, "ENOENT");
    Ok(())
}

fn links_in_a_path_are_followed_only_where_root_owns_them() -> Outcome {
    let jail = Jail::new()?.setup(
        "mkdir $W/app $W/theirs; chown 1000:50 $W/app; ln -s ../app $W/theirs/link; chown -h 1000 $W/theirs/link $W/theirs",
    );
    jail.run(&[format!("@{}", jail.at("theirs/link")), "true".into()])?
        .refused(125, "the symbolic link 'link' is not followed: it belongs to uid 1000");
    let jail =
        Jail::new()?.setup("mkdir $W/app $W/theirs; chown 1000:50 $W/app; ln -s ../app $W/theirs/link; chown 1000 $W/theirs");
    jail.run(&[format!("@{}", jail.at("theirs/link")), "true".into()])?.refused(125, "its directory to uid 1000");
    Ok(())
}

fn variables_stand_for_ids_and_names() -> Outcome {
    let jail = Jail::new()?.variable("PUID", "1000").variable("PGID", "50").variable("NAME", "node").variable("EMPTY", "");
    jail.report(&["$PUID:$PGID"])?.is_exactly(1000, 50, &[50]);
    jail.report(&["${PUID:-7}"])?.is_exactly(1000, 1000, &NODES);
    jail.report(&["$NAME:staff"])?.is_exactly(1000, 50, &[50]);
    jail.report(&["${UNSET:-1000}:${EMPTY:-50}"])?.is_exactly(1000, 50, &[50]);
    jail.run(&["$UNSET", "true"])?.refused(125, "the variable UNSET is unset or empty");
    jail.run(&["$EMPTY", "true"])?.refused(125, "the variable EMPTY is unset or empty");
    for value in ["1000:0", " 1000", "4294967296", "@/", "$PUID", "-1"] {
        Jail::new()?.variable("V", value).run(&["$V", "true"])?.refused(125, "the variable V is");
    }
    Ok(())
}

fn root_is_run_as_only_where_it_is_written_out() -> Outcome {
    let jail = Jail::new()?.variable("PUID", "0").variable("NAME", "root").variable("PGID", "0");
    for spec in ["root", "0"] {
        jail.report(&[spec])?.is_exactly(0, 0, &[0]);
    }
    jail.report(&["0:0"])?.is_exactly(0, 0, &[0]);
    for spec in ["$PUID", "$NAME", "toor", "${UNSET:-0}", "$PUID:50", "toor:50"] {
        jail.run(&[spec, "true"])?.refused(125, "root is only run as where");
    }
    jail.run(&["node:$PGID", "true"])?.refused(125, "root's group is only taken where 'root' or '0' is written out");
    let passwd = PASSWD.replace("root:x:0:0", "root:x:1234:1234");
    Jail::new()?.accounts(Some(passwd.as_bytes()), Some(b""))?.report(&["root"])?.is_exactly(1234, 1234, &[1234]);
    Ok(())
}

/// Every place that takes an id, by every way an id can come.
fn roots_group_is_taken_only_where_it_is_written_out() -> Outcome {
    const SAID: &str = "root's group is only taken where 'root' or '0' is written out";
    let passwd = PASSWD.to_owned() + "wheeled:x:1002:0::/:\nplain:x:1003:1003::/:\n";
    let group = "root:x:0:plain\nother:x:0:\nstaff:x:50:\nnode:x:1000:\n";
    let jail = Jail::new()?.accounts(Some(passwd.as_bytes()), Some(group.as_bytes()))?;
    let jail = jail.variable("ZERO", "0").variable("ROOT", "root").variable("OTHER", "other").variable("STAFF", "staff");
    let jail = jail.variable("WHEELED", "wheeled").variable("WHEELED_ID", "1002").variable("PLAIN", "plain");
    for group in ["$ZERO", "${ZERO}", "$ROOT", "$OTHER", "other", "${NONE:-0}", "${NONE:-root}", "${ZERO:-50}"] {
        jail.run(&[format!("node:{group}").as_str(), "true"])?.refused(125, SAID);
        jail.run(&["--groups", group, "node", "true"])?.refused(125, SAID);
        jail.run(&["--groups", &format!("50,{group},staff"), "node", "true"])?.refused(125, SAID);
        jail.run(&["--groups", group, "root", "true"])?.refused(125, SAID);
        jail.run(&["--dry-run", "--groups", group, "node", "true"])?.refused(125, SAID);
    }
    // What the account files say of a user counts as his word who named the user.
    for user in ["$WHEELED", "$WHEELED_ID", "$PLAIN", "${NONE:-wheeled}"] {
        jail.run(&[user, "true"])?.refused(125, SAID);
        jail.report(&[format!("{user}:50")])?;
    }
    jail.run(&["--groups", "50", "$WHEELED", "true"])?.refused(125, SAID);
    jail.report(&["--groups", "50", "$PLAIN"])?.is_exactly(1003, 1003, &[50, 1003]);
    jail.report(&["wheeled"])?.is_exactly(1002, 0, &[0]);
    jail.report(&["plain"])?.is_exactly(1003, 1003, &[0, 1003]);
    jail.report(&["$WHEELED:0"])?.is_exactly(1002, 0, &[0]);
    jail.report(&["--groups", "0,$STAFF", "node"])?.is_exactly(1000, 1000, &[0, 50, 1000]);
    jail.report(&["--groups", "root", "node"])?.is_exactly(1000, 1000, &[0, 1000]);
    Ok(())
}

fn an_owner_of_a_socket_is_root_only_where_it_is_written_out() -> Outcome {
    let passwd = PASSWD.to_owned() + "wheeled:x:1002:0::/:\n";
    let jail = Jail::new()?.accounts(Some(passwd.as_bytes()), Some(b"root:x:0:\nother:x:0:\n"))?;
    let jail = jail.variable("ZERO", "0").variable("WHEELED", "wheeled");
    let owned = |owner: &str| jail.run(&["--listen", &format!("{},owner={owner}", jail.at("s")), "1000:1000", "true"]);
    for owner in ["$ZERO", "$ZERO:50", "toor", "${NONE:-0}:1", "1000:$ZERO", "1000:${NONE:-0}", "1000:other", "$WHEELED"] {
        let ran = owned(owner)?;
        ran.refused(125, "owner: ");
        ran.refused(125, "'root' or '0' is written out");
    }
    for owner in ["root", "0:0", "1000:root", "wheeled", "$WHEELED:0"] {
        assert_eq!(owned(owner)?.code, 0, "{owner}");
    }
    Ok(())
}

fn groups_replaces_the_list_and_the_primary_gid_is_added_all_the_same() -> Outcome {
    let jail = Jail::new()?;
    jail.report(&["--groups", "staff,44", "node"])?.is_exactly(1000, 1000, &[44, 50, 1000]);
    jail.report(&["--groups=1000,44,44", "node:50"])?.is_exactly(1000, 50, &[44, 50, 1000]);
    jail.run(&["--groups", "nosuch", "node", "true"])?.refused(125, "there is no group 'nosuch' in /etc/group");
    Ok(())
}

fn a_user_may_be_in_as_many_groups_as_the_kernel_takes_and_no_more() -> Outcome {
    let listing = |count: u32| (0..count).map(|n| format!("g{n}:x:{}:other,node\n", 5000 + n)).collect::<String>();
    let expected: Vec<u64> = std::iter::once(1000).chain(5000..5300).collect();
    let jail = |count| Jail::new()?.accounts(Some(PASSWD.as_bytes()), Some(listing(count).as_bytes()));
    jail(300)?.report(&["node"])?.is_exactly(1000, 1000, &expected);
    assert_eq!(jail(65535)?.report(&["node"])?.groups().len(), 65536);
    jail(65536)?.run(&["node", "true"])?.refused(125, "has 65537 groups; the kernel takes 65536 at most");
    Ok(())
}

fn without_account_files_numbers_work() -> Outcome {
    let jail = Jail::new()?.setup("mount -t tmpfs none /etc");
    let report = jail.report(&["1000:1000"])?;
    report.is_exactly(1000, 1000, &[1000]);
    assert_eq!(report.variable("HOME").as_deref(), Some("/"));
    let ran = jail.run(&["node", "true"])?;
    ran.refused(125, "there is no user 'node' in /etc/passwd");
    ran.refused(125, "is missing or empty");
    Ok(())
}

fn an_account_file_that_is_no_regular_file_is_an_error_and_never_hangs() -> Outcome {
    for (setup, said) in [
        ("mkfifo /etc/passwd", "is no regular file"),
        ("mkdir /etc/passwd", "is no regular file"),
        ("ln -s /dev/zero /etc/passwd", "is no regular file"),
        ("ln -s passwd /etc/passwd", "ELOOP"),
        ("truncate -s 17M /etc/passwd", "16 MiB are the most"),
    ] {
        let jail = Jail::new()?.setup("mount -t tmpfs none /etc").setup(setup);
        jail.run(&["1000:1000", "true"])?.refused(125, said);
    }
    Ok(())
}

fn hostile_account_files_yield_no_root() -> Outcome {
    let passwd = include_bytes!("../fixtures/passwd-hostile");
    let group = include_bytes!("../fixtures/group-hostile");
    let jail = Jail::new()?.accounts(Some(passwd), Some(group))?;
    for spec in [
        "badid", "short", "+nis", "-nis", "empty", "over", "minus", "neg", "octal", "hex", "plus", "space", "eight", "#comment",
        "crlf",
    ] {
        let ran = jail.run(&["--", spec, "true"])?;
        assert_eq!(ran.code, 125, "{spec}: {ran:?}");
    }
    jail.run(&["short", "true"])?.refused(125, "line 5 of /etc/passwd begins so, but is malformed");
    jail.report(&["node"])?.is_exactly(1000, 1000, &[29, 40, 1000]);
    jail.report(&["last"])?.is_exactly(9, 9, &[9]);
    let report = jail.report(&["twin"])?;
    report.is_exactly(2000, 2000, &[31, 2000]);
    assert_eq!(report.variable("HOME").as_deref(), Some("/first"));
    Ok(())
}

const SAID: &str = "ends in a carriage return, as lines do that end in CR LF";
const MARK: &str = "begins with a byte order mark";

fn an_entry_in_cr_lf_or_behind_a_byte_order_mark_is_told() -> Outcome {
    // A group is lost, and with it a right, but never in silence.
    let jail = Jail::new()?.accounts(Some(PASSWD.as_bytes()), Some(b"node:x:1000:\ndialout:x:20:node\r\ntape:x:26:other\r\n"))?;
    let ran = jail.run(&["node", "id", "-G"])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "1000\n"));
    let told = format!(
        "stepdown: warning: without group dialout: line 2 of /etc/group {SAID}, and counts for nothing: \
         sed -i 's/\\r$//' /etc/group, or dos2unix /etc/group\n"
    );
    assert_eq!(ran.stderr, told);
    for quiet in [&["games"][..], &["node:1000"], &["--groups", "26", "node"], &["1000:1000"]] {
        let ran = jail.run(&[quiet, &["true"]].concat())?;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{quiet:?}: nothing is lost");
    }
    jail.run(&["node:dialout", "true"])?.refused(125, "hint: line 2 of /etc/group ends in a carriage return");
    // A user that is lost can't be run as; with a group that is given it is, but without its home.
    let crlf = PASSWD.replace('\n', "\r\n");
    let jail = Jail::new()?.accounts(Some(crlf.as_bytes()), Some(b""))?;
    for spec in ["node", "1000", "node:50"] {
        let ran = jail.run(&[spec, "true"])?;
        ran.refused(125, "hint: line 4 of /etc/passwd ends in a carriage return");
        ran.refused(125, "sed -i 's/\\r$//' /etc/passwd");
    }
    let ran = jail.run(&["1000:1000", "true"])?;
    assert!(ran.code == 0 && ran.stderr.starts_with("stepdown: warning: line 4 of /etc/passwd ends in"), "{ran:?}");
    // First match wins, and who would have been first is told.
    let twins = "node:x:7:7::/:\r\nnode:x:1000:1000::/:\n";
    let ran = Jail::new()?.accounts(Some(twins.as_bytes()), Some(b""))?.run(&["node", "id", "-u"])?;
    assert!(ran.stdout == "1000\n" && ran.stderr.contains("line 1 of /etc/passwd ends in"), "{ran:?}");
    let marked = ["\u{feff}node:x:1000:1000::/:\n", "\u{feff}audio:x:29:node\nnode:x:1000:\n"];
    let jail = Jail::new()?.accounts(Some(marked[0].as_bytes()), Some(b""))?;
    jail.run(&["node", "true"])?.refused(125, "hint: line 1 of /etc/passwd begins with a byte order mark");
    let jail = Jail::new()?.accounts(Some(PASSWD.as_bytes()), Some(marked[1].as_bytes()))?;
    let ran = jail.run(&["node", "id", "-G"])?;
    assert!(ran.stdout == "1000\n" && ran.stderr.contains(&format!("line 1 of /etc/group {MARK}")), "{ran:?}");
    Ok(())
}

fn a_value_that_ends_in_a_carriage_return_is_told() -> Outcome {
    let jail = Jail::new()?.variable("PUID", "1000\r").variable("PGID", "node\r").variable("BOM", "\u{feff}1000");
    for spec in ["$PUID", "1000:$PGID", "${NONE:-1000\r}:1"] {
        let ran = jail.run(&[spec, "true"])?;
        ran.refused(125, &format!("\\r': it {SAID}"));
        ran.refused(125, "hint: mend the file that it comes from: sed -i 's/\\r$//' FILE");
    }
    jail.run(&["--groups", "$PGID", "node", "true"])?.refused(125, SAID);
    jail.run(&["$BOM:1", "true"])?.refused(125, MARK);
    let socket = jail.at("s");
    let owner = format!("{socket},owner=$PUID");
    for line in [
        &["node\r", "true"][..],
        &["@/work\r", "true"],
        &["1000:1000\r", "true"],
        &["--listen", "80\r", "node", "true"],
        &["--listen", &owner, "node", "true"],
        &["--umask", "027\r", "node", "true"],
        &["--chown", "/data\r", "node", "true"],
        &["--mkdir=/data\r", "node", "true"],
        &["--seccomp", "service\r", "node", "true"],
        &["--keep-cap", "KILL\r", "node", "true"],
        &["--ulimit", "nofile=5\r", "node", "true"],
        &["--unset-env", "A\r", "node", "true"],
    ] {
        let ran = jail.run(line)?;
        ran.refused(125, SAID);
        ran.refused(125, "hint: mend the file that it comes from");
    }
    jail.run(&["--init\r", "node", "true"])?.refused(125, "hint: mend the file that it comes from");
    jail.run(&["node", "true\r"])?.refused(127, &format!("hint: its name {SAID}"));
    let path = ["--env", "PATH=/none\r", "node", "true"];
    jail.run(&path)?.refused(127, &format!("hint: PATH {SAID}"));
    // The command's own words are its own, and so is the value of a variable.
    let ran = jail.run(&["--env", "A=x\r", "node", "sh", "-c", "printf '%s%s' \"$A\" \"$0\"", "y\r"])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "x\ry\r"), "{ran:?}");
    // A service manager's variables out of such a file are dropped with a word.
    let jail = Jail::new()?.variable("LISTEN_PID", "1\r").variable("LISTEN_FDS", "1\r");
    let ran = jail.run(&["node", "true"])?;
    assert!(ran.code == 0 && ran.stderr.contains("a LISTEN_* variable ends in a carriage return"), "{ran:?}");
    // A profile may have CR LF, which JSON takes for white space, but no byte order mark.
    let jail = Jail::new()?
        .setup("printf '\\357\\273\\277{}' >$W/marked; printf '{\"defaultAction\":\"SCMP_ACT_ALLOW\"}\\r\\n' >$W/crlf");
    jail.run(&["--seccomp", &jail.at("marked"), "node", "true"])?.refused(125, "it begins with a byte order mark");
    let ran = jail.run(&["--seccomp", &jail.at("crlf"), "node", "true"])?;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    Ok(())
}

const AS_NODE: [&str; 5] = ["setpriv", "--reuid=1000", "--regid=1000", "--groups=1,4,100,1000", "--inh-caps=-all"];

/// Like `docker run -u`: the bounding set is full, and nothing can be dropped from it.
fn target_without_bounding(jail: &Jail, spec: &[&str], groups: &[u64]) -> Outcome {
    let report = jail.report(spec)?;
    assert_eq!((report.uids(), report.gids(), report.groups()), (vec![1000; 3], vec![1000; 3], groups.to_vec()));
    for set in ["effective", "permitted", "inheritable", "ambient"] {
        assert!(report.capabilities(set).is_empty(), "{set}");
    }
    assert_eq!(report.number("no_new_privs"), 1);
    assert_eq!(report.0["can_become_root"], false);
    Ok(())
}

fn started_as_the_target_it_goes_on() -> Outcome {
    let jail = Jail::new()?.through(&AS_NODE);
    target_without_bounding(&jail, &["node"], &NODES)?;
    target_without_bounding(&jail, &["--if-root", "node"], &NODES)?;
    jail.run(&["--allow-new-privs", "node", "true"])?
        .refused(125, "CAP_SETPCAP is missing, so the bounding set can't be dropped");
    Ok(())
}

fn started_as_the_target_in_fewer_groups_it_keeps_those() -> Outcome {
    let jail = Jail::new()?.through(&["setpriv", "--reuid=1000", "--regid=1000", "--groups=1000"]);
    target_without_bounding(&jail, &["node"], &[1000])?;
    let jail = Jail::new()?.through(&["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]);
    target_without_bounding(&jail, &["node"], &[])
}

fn started_in_a_group_beyond_the_plans_it_is_refused() -> Outcome {
    let jail = Jail::new()?.through(&["setpriv", "--reuid=1000", "--regid=1000", "--groups=0,1000"]);
    jail.run(&["node", "true"])?
        .refused(125, "started as node (uid 1000, gid 1000) already, but in groups [0] besides, and CAP_SETGID is missing");
    target_without_bounding(&jail, &["--if-root", "node"], &[0, 1000])?;
    target_without_bounding(&jail, &["--groups", "0", "node"], &[0, 1000])
}

fn started_as_neither_it_says_who_it_is_and_what_is_missing() -> Outcome {
    let ran = Jail::new()?.through(&AS_NODE).run(&["games", "true"])?;
    ran.refused(
        125,
        "started as uid 1000, gid 1000, which can't become games (uid 5, gid 60): CAP_SETGID, CAP_SETUID is missing",
    );
    for word in ["Docker: -u 0 --cap-add SETUID --cap-add SETGID", "Kubernetes: runAsUser: 0", "systemd: no User=", "--if-root"] {
        ran.refused(125, word);
    }
    Ok(())
}

fn if_root_runs_as_whoever_started_it() -> Outcome {
    let jail = Jail::new()?.through(&["setpriv", "--reuid=1234", "--regid=0", "--groups=5678"]).variable("HOME", "/opt/app");
    let report = jail.report(&["--if-root", "node"])?;
    assert_eq!((report.uids(), report.gids(), report.groups()), (vec![1234; 3], vec![0; 3], vec![5678]));
    assert_eq!(report.variable("HOME").as_deref(), Some("/opt/app"), "who does not switch keeps the environment");
    assert_eq!(report.number("no_new_privs"), 1);
    Jail::new()?.report(&["--if-root", "node"])?.is_exactly(1000, 1000, &NODES);
    Ok(())
}

/// `docker run --cap-drop ALL` without a USER: root's files are still root's.
fn if_root_never_runs_as_root_that_is_not_written_out() -> Outcome {
    let without = |set: &'static str| Jail::new().map(|jail| jail.through(&["setpriv", set, "--inh-caps=-all"]));
    for (set, missing) in [
        ("--bounding-set=-all", "CAP_SETGID, CAP_SETUID"),
        ("--bounding-set=-setgid", "CAP_SETGID"),
        ("--bounding-set=-setuid", "CAP_SETUID"),
    ] {
        let jail = without(set)?.variable("ME", "1000");
        for spec in ["1000:1000", "node", "1000:0", "$ME:1000"] {
            for options in [&["--if-root"][..], &["--if-root", "--dry-run"], &["--if-root", "--init"]] {
                let ran = jail.run(&[options, &[spec, "true"]].concat())?;
                ran.refused(125, "started as uid 0, gid 0, which can't become");
                ran.refused(125, missing);
                ran.refused(125, "in the Dockerfile");
                assert!(!ran.stderr.contains("use --if-root"), "{ran:?}");
            }
        }
    }
    without("--bounding-set=-all")?
        .run(&["--if-root", "node", "true"])?
        .refused(125, "Docker: --cap-add SETUID --cap-add SETGID;");
    // Written out, it is what was asked for: the groups can't be changed, and stay.
    for spec in ["root", "0", "0:0"] {
        let report = without("--bounding-set=-all")?.report(&["--if-root", spec])?;
        assert_eq!((report.uids(), report.capabilities("effective")), (vec![0; 3], vec![]), "{spec}");
    }
    // One id of root's is root.
    for ids in ["--ruid=0 --euid=1000", "--ruid=1000 --euid=0"] {
        let words: Vec<&str> = std::iter::once("setpriv")
            .chain(ids.split(' '))
            .chain(["--regid=1000", "--clear-groups", "--bounding-set=-all"])
            .collect();
        assert_eq!(Jail::new()?.through(&words).run(&["--if-root", "node", "true"])?.code, 125, "{ids}");
    }
    Ok(())
}

fn setuid_and_setgid_alone_are_enough() -> Outcome {
    let jail = Jail::new()?.through(&["setpriv", "--bounding-set=-all,+setuid,+setgid", "--inh-caps=-all"]);
    let report = jail.report(&["node"])?;
    assert_eq!((report.uids(), report.gids(), report.groups()), (vec![1000; 3], vec![1000; 3], NODES.to_vec()));
    assert!(report.capabilities("permitted").is_empty() && report.capabilities("effective").is_empty());
    assert_eq!(report.number("no_new_privs"), 1, "which makes the bounding set idle");
    jail.run(&["--allow-new-privs", "node", "true"])?.refused(125, "the command could regain CAP_SETGID, CAP_SETUID");
    Ok(())
}

fn without_setgid_or_setuid_the_missing_one_is_named() -> Outcome {
    let without = |set: &'static str| Jail::new().map(|jail| jail.through(&["setpriv", set, "--inh-caps=-all"]));
    without("--bounding-set=-setgid")?.run(&["node", "true"])?.refused(125, "CAP_SETGID is missing");
    without("--bounding-set=-setuid")?.run(&["node", "true"])?.refused(125, "CAP_SETUID is missing");
    without("--bounding-set=-all")?.run(&["node", "true"])?.refused(125, "CAP_SETGID, CAP_SETUID is missing");
    Ok(())
}

fn run_set_user_id_it_refuses() -> Outcome {
    let stepdown = &crate::jail::programs().stepdown;
    for bits in ["4755", "2755"] {
        // The copy replaces the binary itself in this mount namespace.
        let setup = format!("cp {0} $W/s; chmod {bits} $W/s; mount --bind $W/s {0}", stepdown.display());
        let jail = Jail::new()?.setup(&setup).through(&["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]);
        jail.run(&["root", "true"])?.refused(125, "refusing to run set-user-ID");
    }
    Ok(())
}

/// As fsGroup, supplementalGroups and `group_add` do. The plan names each.
fn started_as_the_target_it_keeps_the_groups_that_the_engine_gave() -> Outcome {
    let jail = Jail::new()?.through(&["setpriv", "--reuid=1000", "--regid=1000", "--groups=7777,50,1000"]);
    for spec in ["node", "1000:1000"] {
        target_without_bounding(&jail, &[spec], &[50, 1000, 7777])?;
        let plan = jail.run(&["--dry-run", spec, "true"])?.stdout;
        assert!(plan.contains("50, 1000, 7777, as found"), "{plan}");
    }
    // What is listed in so many words is all.
    jail.run(&["--groups", "50", "node", "true"])?.refused(125, "but in groups [7777] besides");
    target_without_bounding(&jail, &["--groups", "50,7777", "node"], &[50, 1000, 7777])
}

/// `unshare --user --map-root-user`: root of it has every capability there, and may not call setgroups(2).
fn namespace(groups: &'static str) -> Result<Jail, Stop> {
    let jail = Jail::new()?.through(&["setpriv", "--reuid=1000", "--regid=1000", groups]);
    Ok(jail.through(&["unshare", "--user", "--map-root-user"]))
}

fn in_a_user_namespace_with_setgroups_denied_its_root_goes_on() -> Outcome {
    let listen = ["--listen", "@in_a_user_namespace_with_setgroups_denied_its_root_goes_on"];
    for init in [&[][..], &["--init"], &listen, &["--if-root"], &["--groups", "0"]] {
        for spec in ["root", "0:0", "0"] {
            let line = [init, &[spec]].concat();
            // What it wants, and fewer.
            namespace("--groups=1000")?.report(&line)?.is_exactly(0, 0, &[0]);
            namespace("--clear-groups")?.report(&line)?.is_exactly(0, 0, &[]);
        }
    }
    // As root out here it has root's group already.
    let jail = Jail::new()?.through(&["setpriv", "--groups=0", "unshare", "--user", "--map-root-user"]);
    jail.report(&["0:0"])?.is_exactly(0, 0, &[0]);
    // What is not mapped can't be left, and reads as 65534.
    namespace("--groups=50,1000")?.report(&["0:0"])?.is_exactly(0, 0, &[65534, 0]);
    let plan = namespace("--groups=50,1000")?.run(&["--dry-run", "0:0", "true"])?.stdout;
    assert!(plan.contains("0, 65534, as found"), "{plan}");
    Ok(())
}

fn and_so_does_a_user_of_it_who_could_set_groups_elsewhere() -> Outcome {
    let jail = Jail::new()?.through(&["setpriv", "--reuid=1000", "--regid=1000", "--groups=1000"]);
    let jail = jail.through(&["unshare", "--user", "--map-user=1000", "--map-group=1000", "--keep-caps"]);
    jail.report(&["1000:1000"])?.is_exactly(1000, 1000, &[1000]);
    jail.report(&["node"])?.is_exactly(1000, 1000, &[1000]);
    Ok(())
}

fn there_no_group_stays_that_nobody_named() -> Outcome {
    let ran = namespace("--groups=50,1000")?.run(&["--groups", "0", "0:0", "true"])?;
    ran.refused(125, "setgroups([0]): EPERM");
    ran.refused(125, "this user namespace has setgroups denied");
    let listen = "@there_no_group_stays_that_nobody_named";
    namespace("--groups=50,1000")?
        .run(&["--listen", listen, "--groups", "0", "0:0", "true"])?
        .refused(125, "the groups can't be set here");
    // Who would have to switch has other groups to set.
    namespace("--groups=1000")?.run(&["1:1", "true"])?.refused(125, "setgroups([1]): EPERM");
    Ok(())
}

fn an_images_own_proc_denies_nothing() -> Outcome {
    let fake = "mount -t tmpfs none /proc; mkdir /proc/self; echo deny >/proc/self/setgroups";
    let jail = Jail::new()?.setup(fake).through(&["setpriv", "--groups=0,50"]);
    jail.report(&["0:0"])?.is_exactly(0, 0, &[0]);
    Ok(())
}

fn in_a_user_namespace_a_path_whose_owner_it_lacks_is_nobodys() -> Outcome {
    let sub = "echo root:100000:65536 >$W/sub; mount --bind $W/sub /etc/subuid; mount --bind $W/sub /etc/subgid";
    let own =
        "mkdir -p $W/app $W/group $W/mapped; chown 1000:1000 $W/app; chown 100004:1000 $W/group; chown 100004:100049 $W/mapped";
    let jail = Jail::new()?.setup(sub).setup(own).through(&["unshare", "--user", "--map-root-user", "--map-auto"]);
    // 1000 shows as 65534, which is an id of this namespace.
    jail.run(&[format!("@{}", jail.at("app")), "true".into()])?.refused(125, "it belongs to uid 65534, or to an id that");
    jail.run(&[format!("@{}", jail.at("group")), "true".into()])?.refused(125, "it belongs to gid 65534, or to an id that");
    jail.report(&[format!("@{}", jail.at("mapped"))])?.is_exactly(5, 50, &[50]);
    let jail = Jail::new()?.setup("mkdir $W/app; chown 65534:65534 $W/app");
    jail.report(&[format!("@{}", jail.at("app"))])?.is_exactly(65534, 65534, &[65534]);
    Ok(())
}

fn in_a_user_namespace_without_the_id_it_says_so() -> Outcome {
    let sub = "echo root:100000:65536 >$W/sub; mount --bind $W/sub /etc/subuid; mount --bind $W/sub /etc/subgid";
    let jail = Jail::new()?.setup(sub).through(&["unshare", "--user", "--map-root-user", "--map-auto"]);
    jail.report(&["5:5"])?.is_exactly(5, 5, &[5]);
    let ran = jail.run(&["5:70000", "true"])?;
    ran.refused(125, "setgroups([70000]): EINVAL");
    ran.refused(125, "does not map that id");
    jail.run(&["70000:5", "true"])?.refused(125, "setresuid(70000, 70000, 70000): EINVAL");
    jail.run(&["--listen", "@in_a_user_namespace_without_the_id_it_says_so", "70000:5", "true"])?
        .refused(125, "uid 70000 can't be had here");
    Ok(())
}
