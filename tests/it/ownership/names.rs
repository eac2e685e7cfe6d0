//! Names of every kind, files of every kind, and paths longer than any call takes.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, mkdirat, mknod};

use nix::unistd::mkfifo;

use super::NODE;
use super::inside::{Part, Place, inside};
use super::tree::{build, look, wrong};
use crate::harness::{Case, Outcome};
use crate::jail::{Jail, Ran, owner};
use crate::{cases, parts};

pub fn cases() -> Vec<Case> {
    cases![
        names_of_every_kind_are_changed,
        files_of_every_kind_are_changed_and_none_is_opened,
        messages_print_no_raw_control_character,
        links_to_anywhere_are_changed_and_nothing_behind_them,
        three_thousand_levels_of_200_bytes_need_few_descriptors,
        a_tree_deeper_than_its_descriptors_with_much_at_every_level,
        as_many_descriptors_as_there_are_decide_how_many_threads_there_are,
    ]
}

pub fn parts() -> Vec<Part> {
    parts![deep, bushy]
}

fn names_of_every_kind_are_changed() -> Outcome {
    let jail = Jail::new()?;
    let top = jail.work().join("d");
    fs::create_dir(&top)?;
    let mut names: Vec<Vec<u8>> =
        [&b"new\nline"[..], b"\xff\xfe", b"-rf", b"  ", b"--", b"...", b"a'b\"c\\", b"\xed\xa0\x80"].map(<[u8]>::to_vec).into();
    names.extend([vec![b'x'; 255], vec![0xff; 255], vec![b'\n'; 255]]);
    // Every byte that a name may have.
    names.extend((1..=255).filter(|&byte| byte != b'/' && byte != b'.').map(|byte| vec![byte]));
    for name in &names {
        let directory = top.join(OsStr::from_bytes(&[name.get(..254).unwrap_or(name), b"d"].concat()));
        fs::create_dir(&directory)?;
        fs::write(directory.join(OsStr::from_bytes(name)), "")?;
    }
    assert_eq!(look(&top).len(), 1 + 2 * names.len());
    let ran = jail.run(&["--chown", &jail.at("d"), "node", "true"])?;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    assert!(wrong(&top).is_empty());
    Ok(())
}

fn files_of_every_kind_are_changed_and_none_is_opened() -> Outcome {
    let jail = Jail::new()?;
    let top = jail.work().join("d");
    fs::create_dir(&top)?;
    // To open it for reading would wait for a writer; to open the device (1, 9 is urandom, 250, 250 nobody's) act or fail.
    mkfifo(&top.join("fifo"), Mode::S_IRWXU)?;
    drop(UnixListener::bind(top.join("socket"))?);
    for (name, kind, device) in [
        ("char", SFlag::S_IFCHR, nix::libc::makedev(1, 9)),
        ("nobodys", SFlag::S_IFCHR, nix::libc::makedev(250, 250)),
        ("block", SFlag::S_IFBLK, nix::libc::makedev(250, 250)),
        ("whiteout", SFlag::S_IFCHR, nix::libc::makedev(0, 0)),
    ] {
        mknod(&top.join(name), kind, Mode::S_IRUSR, device)?;
    }
    for mode in [0o4755, 0o2755, 0o000] {
        let path = top.join(format!("mode{mode:o}"));
        fs::write(&path, "")?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    }
    let count = look(&top).len();
    assert_eq!(count, 10);
    let ran = jail.run(&["--chown", &jail.at("d"), "node", "true"])?;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    assert!(wrong(&top).is_empty());
    // Each as the PATH itself.
    for name in ["fifo", "socket", "char", "nobodys", "block"] {
        let ran = jail.run(&["--chown", &top.join(name).display().to_string(), "games", "true"])?;
        assert_eq!((ran.code, owner(top.join(name))), (0, (5, 60)), "{name}: {ran:?}");
    }
    Ok(())
}

fn messages_print_no_raw_control_character() -> Outcome {
    let jail = Jail::new()?.setup("mount --bind $W $W; mount -o remount,bind,ro $W");
    let name = b"\x1b]0;title\x07\n\r\x7f\x9b31m\xc2\x9b\xff";
    let directory = jail.work().join(OsStr::from_bytes(name));
    fs::create_dir(&directory)?;
    fs::write(directory.join(OsStr::from_bytes(name)), "")?;
    for options in [&["--chown"][..], &["--chown-if-possible"]] {
        let line: Vec<&OsStr> =
            options.iter().map(OsStr::new).chain([directory.as_os_str(), "node".as_ref(), "true".as_ref()]).collect();
        let output = jail.command(&line).output()?;
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(said.contains("1 of 2 entries") && said.contains("EROFS"), "{said:?}");
        let raw: Vec<char> = said.chars().filter(|letter| letter.is_control() && *letter != '\n').collect();
        assert!(raw.is_empty(), "{raw:?} in {said:?}");
        assert!(said.lines().all(|line| line.starts_with("stepdown: ") || line.trim_start().starts_with("hint: ")), "{said:?}");
    }
    Ok(())
}

fn links_to_anywhere_are_changed_and_nothing_behind_them() -> Outcome {
    let jail = Jail::new()?;
    let (top, out) = (jail.work().join("d"), jail.work().join("out"));
    fs::create_dir_all(out.join("directory/below"))?;
    fs::write(out.join("file"), "")?;
    mkfifo(&out.join("fifo"), Mode::S_IRWXU)?;
    fs::create_dir(&top)?;
    for (name, target) in [
        ("dangling", "nowhere"),
        ("itself", "itself"),
        ("up", ".."),
        ("here", "."),
        ("root", "/"),
        ("file", "../out/file"),
        ("directory", "../out/directory"),
        ("fifo", "../out/fifo"),
        ("shadow", "/etc/shadow"),
        ("descriptor", "/proc/self/fd/1"),
        ("long", &"x/".repeat(2000)),
    ] {
        symlink(target, top.join(name))?;
    }
    let before = look(&out);
    assert_eq!(jail.run(&["--chown", &jail.at("d"), "node", "true"])?.code, 0);
    assert!(wrong(&top).is_empty());
    assert_eq!(look(&out), before);
    assert_eq!((owner(jail.work()), owner("/etc/shadow").0), ((0, 0), 0));
    Ok(())
}

fn three_thousand_levels_of_200_bytes_need_few_descriptors() -> Outcome {
    let jail = Jail::new()?.setup("mkdir -p $W/d; mount -t tmpfs none $W/d; ulimit -n 128");
    inside(jail, "deep", &["3000", "200", "0"])
}

fn a_tree_deeper_than_its_descriptors_with_much_at_every_level() -> Outcome {
    let jail = Jail::new()?.setup("mkdir -p $W/d; mount -t tmpfs none $W/d; ulimit -n 128");
    inside(jail, "deep", &["400", "20", "3"])
}

fn as_many_descriptors_as_there_are_decide_how_many_threads_there_are() -> Outcome {
    // Enough for one thread, for two, for three; and where most are taken already.
    for (limit, taken) in [(24, 0), (40, 0), (72, 0), (76, 0), (112, 0), (300, 250)] {
        let jail = Jail::new()?.setup(&format!("mkdir $W/d; mount -t tmpfs none $W/d; ulimit -n {limit}"));
        inside(jail, "bushy", &[&limit.to_string(), &taken.to_string()])?;
    }
    Ok(())
}

/// Two directories in each, further down than a thread holds them open.
fn bushy(place: &Place) {
    let top = place.at("d");
    build(&top, 2, 11);
    let take = format!("for ((i = 10; i < 10 + {}; i++)); do eval \"exec $i</dev/null\"; done; exec \"$@\"", place.words[1]);
    let ran = Ran::of(place.command(&["bash", "-c", &take, "bash"], &[], &top).output().expect("stepdown"));
    assert_eq!(ran.code, 0, "{:?}: {ran:?}", place.words);
    assert!(wrong(&top).is_empty(), "{:?}: {:?}", place.words, wrong(&top));
}

/// Builds a chain of directories and looks at it from one descriptor to the next, as no path leads there.
fn deep(place: &Place) {
    let [levels, length, beside] = [0, 1, 2].map(|index| place.words[index].parse::<usize>().expect("a number"));
    let name = "n".repeat(length);
    let top = place.at("d");
    let open = || fs::File::open(&top).expect("the top").into();
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let mut at: std::os::fd::OwnedFd = open();
    let names: Vec<String> = (0..beside).map(|index| format!("beside{index}")).collect();
    for _ in 0..levels {
        for name in &names {
            mkdirat(&at, name.as_str(), Mode::S_IRWXU).expect("mkdir");
            let below = openat(&at, name.as_str(), flags, Mode::empty()).expect("open");
            openat(below, "file", OFlag::O_CREAT, Mode::S_IRWXU).expect("a file");
        }
        mkdirat(&at, name.as_str(), Mode::S_IRWXU).expect("mkdir");
        at = openat(&at, name.as_str(), flags, Mode::empty()).expect("open");
        openat(&at, "file", OFlag::O_CREAT, Mode::S_IRWXU).expect("a file");
    }
    let ran = place.chown(&[], &top);
    assert_eq!(ran.code, 0, "{ran:?}");
    let right = |facts: FileStat| assert_eq!((facts.st_uid, facts.st_gid), NODE);
    at = open();
    right(fstatat(&at, "", AtFlags::AT_EMPTY_PATH).expect("stat"));
    for _ in 0..levels {
        for name in &names {
            right(fstatat(&at, format!("{name}/file").as_str(), AtFlags::empty()).expect("stat"));
            right(fstatat(&at, name.as_str(), AtFlags::empty()).expect("stat"));
        }
        at = openat(&at, name.as_str(), flags, Mode::empty()).expect("open");
        right(fstatat(&at, "", AtFlags::AT_EMPTY_PATH).expect("stat"));
        right(fstatat(&at, "file", AtFlags::AT_SYMLINK_NOFOLLOW).expect("stat"));
    }
}
