//! Mistakes about what is handed to the command: options of `--listen`, `--open`, `--secret`.

use super::{anybody_is_told, no, none, root_is_told};
use crate::cases;
use crate::harness::{Case, Outcome};
use crate::jail::Jail;

pub fn cases() -> Vec<Case> {
    cases![
        an_option_of_an_address_is_one_that_it_can_have,
        the_owner_of_a_socket_is_somebody,
        a_secret_has_the_name_of_a_variable_and_a_path,
        a_variable_of_a_secret_is_not_set_otherwise,
        a_secret_is_a_regular_file_that_can_be_read,
        a_file_to_be_opened_has_a_path_and_a_name,
        a_file_to_be_opened_is_there_and_no_directory_or_fifo,
        a_file_that_somebody_else_could_have_put_there_is_not_opened,
        a_descriptor_is_below_the_limit,
        a_secret_is_no_larger_than_a_file_may_be,
        without_proc_there_is_no_secret,
    ]
}

const OPTIONS: &str = "options are backlog=N, reuse-port, free-bind and v6only; of a path also mode=MODE and owner=USER[:GROUP]";

fn an_option_of_an_address_is_one_that_it_can_have() -> Outcome {
    let told = [
        no(
            &["--listen", "80,reuseport", "1:1", "true"],
            "--listen '80,reuseport': unknown option 'reuseport': did you mean reuse-port?",
        ),
        no(
            &["--listen", "80,Backlog=5", "1:1", "true"],
            "--listen '80,Backlog=5': unknown option 'Backlog': did you mean backlog?",
        ),
        no(&["--listen", "80,xyz", "1:1", "true"], "--listen '80,xyz': unknown option 'xyz'"),
        no(&["--listen", "80,443", "1:1", "true"], "--listen '80,443': unknown option '443'"),
        no(&["--listen", "80,", "1:1", "true"], "--listen '80,': unknown option ''"),
        no(&["--listen", "80,backlog=0", "1:1", "true"], "--listen '80,backlog=0': backlog '0': a backlog is a number from 1 on"),
        no(&["--listen", "80,backlog", "1:1", "true"], "--listen '80,backlog': backlog needs a value: backlog=..."),
        no(
            &["--listen", "udp:80,backlog=5", "1:1", "true"],
            "--listen 'udp:80,backlog=5': backlog: datagrams have no queue of connections",
        ),
        no(&["--listen", "80,reuse-port=yes", "1:1", "true"], "--listen '80,reuse-port=yes': reuse-port takes no value"),
        no(&["--listen", "@a,reuse-port", "1:1", "true"], "--listen '@a,reuse-port': reuse-port: a Unix socket has no port"),
        no(
            &["--listen", "80,free-bind", "1:1", "true"],
            "--listen '80,free-bind': free-bind: it is for an address that no interface has yet",
        ),
        no(&["--listen", "80,v6only=1", "1:1", "true"], "--listen '80,v6only=1': v6only is yes or no"),
        no(
            &["--listen", "127.0.0.1:80,v6only", "1:1", "true"],
            "--listen '127.0.0.1:80,v6only': v6only: it is for a port alone or an IPv6 address",
        ),
        no(
            &["--listen", "80,mode=0660", "1:1", "true"],
            "--listen '80,mode=0660': mode: it is for a Unix socket in the file system",
        ),
        no(
            &["--listen", "@a,owner=1:1", "1:1", "true"],
            "--listen '@a,owner=1:1': owner: it is for a Unix socket in the file system",
        ),
        no(
            &["--listen", "/run/s,mode=0999", "1:1", "true"],
            "--listen '/run/s,mode=0999': mode '0999': a mode is octal, 0 to 777",
        ),
        no(
            &["--listen", "/run/s,mode=4755", "1:1", "true"],
            "--listen '/run/s,mode=4755': mode '4755': a mode is octal, 0 to 777",
        ),
        no(
            &["--listen", "/run/s,owner=@/x", "1:1", "true"],
            "--listen '/run/s,owner=@/x': owner '@/x': write USER or USER:GROUP",
        ),
        no(&["--listen", "/run/s,owner=a:", "1:1", "true"], "--listen '/run/s,owner=a:': owner: USER 'a:': a part is empty"),
        no(&["--listen", "80,v6only,v6only", "1:1", "true"], "--listen '80,v6only,v6only': v6only is given twice"),
    ];
    anybody_is_told(&told.map(|mistake| mistake.hint(OPTIONS)))?;
    anybody_is_told(&[no(
        &["--listen", "80,reuse-port", "--listen", "80", "1:1", "true"],
        "--listen 80: the address is given twice",
    )])
}

fn the_owner_of_a_socket_is_somebody() -> Outcome {
    root_is_told(
        |jail| jail,
        &[
            no(
                &["--listen", "$W/s,owner=nosuch", "node", "true"],
                "--listen $W/s,owner=nosuch: owner: there is no user 'nosuch' in /etc/passwd",
            ),
            no(
                &["--listen", "$W/s,owner=node:nosuch", "node", "true"],
                "--listen $W/s,owner=node:nosuch: owner: there is no group 'nosuch' in /etc/group",
            ),
            no(
                &["--listen", "$W/s,owner=7777", "node", "true"],
                "--listen $W/s,owner=7777: owner: uid 7777 is not in /etc/passwd, so its group is unknown",
            )
            .hint("write 7777:GID"),
        ],
    )
}

const SECRET: &str = "write NAME=PATH: --secret TLS_KEY=/etc/tls/key.pem";
const NAME: &str = "a variable's name is letters, digits and _, and begins with no digit";

fn a_secret_has_the_name_of_a_variable_and_a_path() -> Outcome {
    let told = [
        no(&["--secret", "", "1:1", "true"], "--secret '': no '=' stands behind the name"),
        no(&["--secret", "/etc/key", "1:1", "true"], "--secret '/etc/key': no '=' stands behind the name"),
        no(&["--secret", "KEY=", "1:1", "true"], "--secret 'KEY=': the path is empty"),
        no(&["--secret", "=/k", "1:1", "true"], said("--secret '=/k': ")),
        no(&["--secret", "TLS-KEY=/k", "1:1", "true"], said("--secret 'TLS-KEY=/k': ")),
        no(&["--secret", "1KEY=/k", "1:1", "true"], said("--secret '1KEY=/k': ")),
        no(&["--secret", "KÄY=/k", "1:1", "true"], said("--secret 'KÄY=/k': ")),
    ];
    anybody_is_told(&told.map(|mistake| mistake.hint(SECRET)))?;
    anybody_is_told(&[
        no(&["--secret"], "--secret needs a value"),
        no(&["--secret", "K=/a", "--secret", "K=/b", "1:1", "true"], "--secret K is given twice"),
    ])
}

fn said(front: &str) -> &'static str {
    format!("{front}{NAME}").leak()
}

fn a_variable_of_a_secret_is_not_set_otherwise() -> Outcome {
    const ELSEWHERE: &str = "choose another name, or unset it where stepdown is started";
    root_is_told(
        |jail| jail.setup("echo x >$W/tree/key").variable("TLS_KEY", "x").variable("EMPTY", ""),
        &[
            no(&["--secret", "TLS_KEY=$W/tree/key", "node", "true"], "--secret TLS_KEY: the variable is set already")
                .hint(ELSEWHERE),
            no(&["--secret", "EMPTY=$W/tree/key", "node", "true"], "--secret EMPTY: the variable is set already").hint(ELSEWHERE),
            no(&["--secret", "HOME=$W/tree/key", "node", "true"], "--secret HOME: stepdown itself sets that variable"),
            no(
                &["--secret", "LISTEN_FDS=$W/tree/key", "node", "true"],
                "--secret LISTEN_FDS: stepdown itself sets that variable",
            ),
            no(&["--env", "K=v", "--secret", "K=$W/tree/key", "node", "true"], "K is given to --secret and to --env"),
            no(
                &["--unset-env", "TLS_KEY", "--secret", "TLS_KEY=$W/tree/key", "node", "true"],
                "TLS_KEY is given to --secret and to --unset-env",
            ),
        ],
    )
}

/// What stands at a path besides a file.
const KINDS: &str = "mkfifo $W/tree/fifo; ln -s nowhere $W/tree/dangling; python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('$W/tree/socket')\"";

const CLOSED: &str = "who starts stepdown must be allowed to open it; root that is not its owner needs CAP_DAC_OVERRIDE, or to read \
                      CAP_DAC_READ_SEARCH";

fn a_secret_is_a_regular_file_that_can_be_read() -> Outcome {
    root_is_told(
        |jail| jail.setup(KINDS).setup("truncate -s 16777217 $W/tree/large"),
        &[
            no(
                &["--secret", "K=$W/tree/none", "node", "true"],
                "--secret K $W/tree/none: open(none): ENOENT: No such file or directory",
            ),
            no(
                &["--secret", "K=$W/tree/dangling", "node", "true"],
                "--secret K $W/tree/dangling: open(nowhere): ENOENT: No such file or directory",
            ),
            no(&["--secret", "K=$W/tree", "node", "true"], "--secret K $W/tree: it is a directory, and no regular file"),
            no(&["--secret", "K=$W/tree/fifo", "node", "true"], "--secret K $W/tree/fifo: it is a FIFO, and no regular file"),
            no(
                &["--secret", "K=$W/tree/socket", "node", "true"],
                "--secret K $W/tree/socket: it is a socket, and no regular file",
            ),
            no(&["--secret", "K=/dev/zero", "node", "true"], "--secret K /dev/zero: it is a device, and no regular file"),
            no(
                &["--secret", "K=$W/tree/large", "node", "true"],
                "--secret K $W/tree/large: it has more than 16 MiB, the most that a secret may have",
            ),
        ],
    )?;
    root_is_told(
        |jail| {
            let through = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"];
            jail.setup("echo x >$W/tree/key; chown games $W/tree/key; chmod 400 $W/tree/key").through(&through)
        },
        &[no(&["--secret", "K=$W/tree/key", "node", "true"], "--secret K $W/tree/key: open: EACCES: Permission denied")
            .hint(CLOSED)],
    )
}

fn a_file_to_be_opened_has_a_path_and_a_name() -> Outcome {
    const WRITE: &str = "write NAME=PATH, or NAME=PATH:rw or :append";
    anybody_is_told(&[
        no(&["--open"], "--open needs a value"),
        no(&["--open", "", "1:1", "true"], "--open: the path is empty"),
        no(&["--open", ":rw", "1:1", "true"], "--open: the path is empty"),
        no(&["--open", "/a/b:c", "1:1", "true"], "--open '/a/b:c': 'c' is not ro, rw or append").hint(WRITE),
        no(&["--open", "/a/b:RW", "1:1", "true"], "--open '/a/b:RW': 'RW' is not ro, rw or append: did you mean rw?").hint(WRITE),
        no(&["--open", "a/b:apend", "1:1", "true"], "--open 'a/b:apend': 'apend' is not ro, rw or append: did you mean append?")
            .hint(WRITE),
        no(&["--open", "/a/b:", "1:1", "true"], "--open '/a/b:': '' is not ro, rw or append").hint(WRITE),
        no(
            &["--open", "/a/\u{e4}", "1:1", "true"],
            "--open '/a/\u{e4}': a name is 1 to 255 printable ASCII characters without a colon",
        )
        .hint(WRITE),
        no(&["--open", "/a/", "1:1", "true"], "--open '/a/': a name is 1 to 255 printable ASCII characters without a colon")
            .hint(WRITE),
        no(&["--open", "=/a", "1:1", "true"], "--open '=/a': a name is 1 to 255 printable ASCII characters without a colon")
            .hint(WRITE),
    ])
}

fn a_file_to_be_opened_is_there_and_no_directory_or_fifo() -> Outcome {
    root_is_told(
        |jail| jail.setup(KINDS),
        &[
            no(&["--open", "$W/tree/none", "node", "true"], "--open $W/tree/none: open(none): ENOENT: No such file or directory"),
            no(
                &["--open", "x=$W/tree/none:wr", "node", "true"],
                "--open $W/tree/none:wr: open(none:wr): ENOENT: No such file or directory",
            )
            .hint("what a file is opened for stands behind its last colon: ro, rw or append"),
            no(&["--open", "$W/tree", "node", "true"], "--open $W/tree: it is a directory, and no regular file"),
            no(&["--open", "$W/tree/fifo:rw", "node", "true"], "--open $W/tree/fifo: it is a FIFO, and no regular file"),
            no(&["--open", "$W/tree/socket", "node", "true"], "--open $W/tree/socket: it is a socket, and no regular file"),
            no(
                &["--listen", "@file_to_be_opened", "--open", "/etc/passwd", "--keep-fd", "4", "node", "true"],
                "--keep-fd 4: descriptor 4 is not open",
            ),
        ],
    )
}

fn a_file_that_somebody_else_could_have_put_there_is_not_opened() -> Outcome {
    let furnish = |jail: Jail| {
        jail.setup("mkdir $W/theirs; echo theirs >$W/tree/key; ln $W/tree/key $W/theirs/key; ln -s $W/tree/key $W/theirs/link")
            .setup("chown -h node:node $W/theirs $W/theirs/link")
            // As /tmp is, and where links of all kinds are not protected: root's file and root's link by names of theirs.
            .setup("mkdir -m 1777 $W/sticky; ln $W/tree/key $W/sticky/key; ln -s tree/key $W/way; ln $W/way $W/sticky/way")
            .setup("mkdir $W/sticky/tree; echo x >$W/sticky/tree/key; ln -s tree/key $W/sticky/own")
    };
    const LINK: &str =
        "the symbolic link 'link' is not followed: it belongs to uid 1000 and its directory to uid 1000, not to root";
    const WAY: &str = "the symbolic link 'way' is not followed: it has 2 names, and others than root may have given it this one";
    const BY_TARGET: &str = "it belongs to uid 0, and uid 1000 may have put it there in place of what was meant";
    const BY_OTHERS: &str = "it belongs to uid 0, and others than root may have put it there in place of what was meant";
    const MEND: &str = "a name counts only in directories that root alone may write to (POSIX ACLs count, too): name a path in such a \
                        one, or take the others' right to write to this one";
    let says = |option: &str, name: &str, why: &str| -> &'static str { format!("{option} $W/theirs/{name}: {why}").leak() };
    let sticky = |option: &str, name: &str, why: &str| -> &'static str { format!("{option} $W/sticky/{name}: {why}").leak() };
    root_is_told(
        furnish,
        &[
            no(&["--secret", "K=$W/theirs/link", "node", "true"], says("--secret K", "link", LINK)),
            no(&["--open", "$W/theirs/link", "node", "true"], says("--open", "link", LINK)),
            no(&["--secret", "K=$W/theirs/key", "node", "true"], says("--secret K", "key", BY_TARGET)).hint(MEND),
            no(&["--open", "$W/theirs/key:rw", "node", "true"], says("--open", "key", BY_TARGET)).hint(MEND),
            no(&["--secret", "K=$W/sticky/key", "node", "true"], sticky("--secret K", "key", BY_OTHERS)).hint(MEND),
            no(&["--open", "$W/sticky/key:append", "node", "true"], sticky("--open", "key", BY_OTHERS)).hint(MEND),
            no(&["--secret", "K=$W/sticky/way", "node", "true"], sticky("--secret K", "way", WAY)),
            no(&["--chown", "$W/sticky/way", "node", "true"], sticky("--chown", "way", WAY)),
        ],
    )?;
    // By its other name, which only root could have made, the same file is as good as any.
    let jail = furnish(Jail::new()?.setup("mkdir -p $W/tree"));
    let (tree, own) = (format!("K={}", jail.at("tree/key")), format!("L={}", jail.at("sticky/own")));
    // And a link of root's own, by its only name, is followed in a sticky directory as anywhere.
    let ran = jail.run(&["--secret", &tree, "--secret", &own, "node", "/bin/sh", "-c", "cat $K $L"])?;
    none(&if ran.stdout == "theirs\nx\n" { vec![] } else { vec![format!("{ran:?}")] });
    Ok(())
}

fn a_descriptor_is_below_the_limit() -> Outcome {
    const RAISE: &str =
        "raise it where stepdown is started: ulimit -n, docker run --ulimit nofile=1024, systemd LimitNOFILE=1024";
    root_is_told(
        |jail| jail.setup("echo x >$W/tree/key; ulimit -n 64"),
        &[no(
            &["--secret", "K=$W/tree/key", "node", "true"],
            "descriptors up to 65 are needed, and the limit of open files (RLIMIT_NOFILE) is 64",
        )
        .hint(RAISE)],
    )
}

fn a_secret_is_no_larger_than_a_file_may_be() -> Outcome {
    const RAISE: &str = "raise it where stepdown is started: ulimit -f, systemd LimitFSIZE=";
    // In /bin/sh a block is 512 bytes.
    let furnish = |jail: Jail| jail.setup("truncate -s 513 $W/tree/key; truncate -s 512 $W/tree/fits; ulimit -f 1");
    root_is_told(
        furnish,
        &[
            no(
                &["--secret", "K=$W/tree/key", "node", "true"],
                "--secret K $W/tree/key: the copy would be larger than a file may be: 512 bytes (RLIMIT_FSIZE)",
            )
            .hint(RAISE),
            // Its size is known when it was read.
            no(
                &["--secret", "K=/proc/self/mountinfo", "node", "true"],
                "--secret K /proc/self/mountinfo: the copy would be larger than a file may be: 512 bytes (RLIMIT_FSIZE)",
            )
            .hint(RAISE)
            .late(),
        ],
    )?;
    let jail = furnish(Jail::new()?.setup("mkdir $W/tree"));
    let ran = jail.run(&["--secret", &format!("K={}", jail.at("tree/fits")), "node", "/bin/sh", "-c", "wc -c <$K"])?;
    assert_eq!((ran.code, ran.stdout.trim()), (0, "512"), "{ran:?}");
    Ok(())
}

fn without_proc_there_is_no_secret() -> Outcome {
    let another = "mkdir -p $W/self/fd; for i in $(seq 20); do echo >$W/self/fd/$i; done; mount --bind $W /proc";
    for (what, why) in [("mount -t tmpfs none /proc", "ENOENT: No such file or directory"), (another, "another file is there")] {
        let jail = Jail::new()?.setup("echo x >$W/key").setup(what);
        let ran = jail.run(&["--mkdir", &jail.at("made"), "--secret", &format!("K={}", jail.at("key")), "node", "true"])?;
        ran.refused(125, "the command is to open it as /proc/self/fd/");
        ran.refused(125, &format!("and can't: {why}"));
        ran.refused(125, "hint: mount /proc");
        assert!(!jail.work().join("made").exists(), "nothing was done before");
    }
    Ok(())
}
