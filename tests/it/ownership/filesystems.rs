//! File systems and mounts of every kind that a volume may be on.

use std::fs;
use std::path::Path;

use super::NODE;
use super::inside::{self, Part, Place, inside};
use super::kernel;
use super::tree::{build, look, wrong};
use crate::harness::{self, Case, Need, Outcome, Stop};
use crate::jail::{Jail, Ran, owner, programs};
use crate::{cases, parts};

pub fn cases() -> Vec<Case> {
    cases![
        on_ext4,
        on_xfs,
        on_btrfs_with_a_subvolume,
        on_tmpfs,
        on_overlayfs_nothing_is_copied_up_where_all_is_right,
        on_overlayfs_only_what_is_wrong_is_copied_up,
        on_a_bind_mount,
        no_mount_below_path_is_entered,
        through_an_idmapped_mount_owners_are_what_is_seen_through_it,
        an_id_that_an_idmapped_mount_has_no_place_for_is_an_error_with_a_hint,
        on_a_read_only_mount_what_is_wrong_is_an_error_with_the_count_and_the_first_path,
        on_a_read_only_file_system_too,
        on_a_read_only_mount_where_all_is_right_nothing_is_an_error,
        an_immutable_file_is_named_and_all_but_what_is_above_it_is_changed,
    ]
}

pub fn parts() -> Vec<Part> {
    parts![whole, idmap, mapped, unmapped, mounts, read_only, read_only_but_right, immutable]
}

/// A jail with a fresh file system on `$W/m`.
fn on(kind: &str) -> Result<Jail, Stop> {
    harness::root()?;
    let make = match kind {
        "tmpfs" => return Ok(Jail::new()?.setup("mkdir $W/m; mount -t tmpfs -o mode=755 none $W/m")),
        "xfs" => "mkfs.xfs -q",
        "btrfs" => "mkfs.btrfs -q",
        _ => "mkfs.ext4 -q",
    };
    let program = make.split(' ').next().unwrap_or_default();
    // They stand in sbin, which an ordinary PATH may lack.
    if !["/usr/sbin", "/sbin"].iter().any(|directory| Path::new(directory).join(program).exists()) {
        return Err(Need::Filesystems.missing(format!("needs {program}")));
    }
    let line = format!("truncate -s 320M $W/image; {make} $W/image; mkdir $W/m; mount -o loop $W/image $W/m || exit 77");
    Ok(Jail::new()?.setup(&line))
}

fn on_ext4() -> Outcome {
    inside(on("ext4")?, "whole", &[])
}

fn on_xfs() -> Outcome {
    inside(on("xfs")?, "whole", &[])
}

fn on_btrfs_with_a_subvolume() -> Outcome {
    let jail = on("btrfs")?.setup("mkdir $W/m/d; btrfs -q subvolume create $W/m/d/subvolume; touch $W/m/d/subvolume/file");
    inside(jail, "whole", &[])
}

fn on_tmpfs() -> Outcome {
    inside(on("tmpfs")?, "whole", &[])
}

fn on_a_bind_mount() -> Outcome {
    inside(on("tmpfs")?.setup("mkdir $W/m/d $W/m/real; mount --bind $W/m/real $W/m/d"), "whole", &[])
}

/// All becomes the target's; afterwards nothing is written any more, not even a change time.
fn whole(place: &Place) {
    let top = place.at("m/d");
    build(&top, 3, 2);
    let count = look(&top).len();
    std::os::unix::fs::symlink("nowhere", top.join("d0/link")).expect("a link");
    nix::unistd::mkfifo(&top.join("d1/fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    fs::hard_link(top.join("d0/f0"), top.join("d1/hard")).expect("a hard link");
    place.owns(&[], &top);
    assert!(wrong(&top).is_empty(), "{:?}", wrong(&top));
    let before = look(&top);
    assert_eq!(before.len(), count + 3);
    place.owns(&[], &top);
    assert_eq!(look(&top), before, "nothing is written where all is right");
    // One deep down, another time.
    std::os::unix::fs::lchown(top.join("d2/d2/f2"), Some(0), None).expect("chown");
    place.owns(&[], &top);
    let changed: Vec<_> = look(&top).into_iter().filter(|(path, facts)| before[path] != *facts).map(|(path, _)| path).collect();
    assert_eq!(changed, [top.join("d2/d2/f2")]);
}

fn overlay() -> Result<Jail, Stop> {
    let jail = Jail::new()?
        .setup("mkdir -p $W/m $W/d $W/lower/d/e $W/lower/d/fine; head -c 1000000 /dev/zero >$W/lower/d/e/big")
        .setup("touch $W/lower/d/e/wrong $W/lower/d/fine/file $W/lower/top; ln -s nowhere $W/lower/d/link; chown -hR 1000:1000 $W/lower")
        .setup("mount -t tmpfs none $W/m; mkdir $W/m/upper $W/m/work; chown 1000:1000 $W/m/upper");
    Ok(jail)
}

const MOUNT_OVERLAY: &str = "mount -t overlay -o lowerdir=$W/lower,upperdir=$W/m/upper,workdir=$W/m/work none $W/d";

/// The entries of the upper directory, with what changes when they are written to.
const LIST_UPPER: &str = "find $W/m/upper -printf '%P %i %C@\\n' | sort";

fn on_overlayfs_nothing_is_copied_up_where_all_is_right() -> Outcome {
    for policy in ["always", "on-root-mismatch"] {
        let jail = overlay()?.setup(MOUNT_OVERLAY).setup(&format!("{LIST_UPPER} >$W/before"));
        let list = format!("W={}; {LIST_UPPER}", jail.work().display());
        let ran = jail.run(&["--chown-policy", policy, "--chown", &jail.at("d"), "node", "sh", "-c", &list])?;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
        assert_eq!(ran.stdout, fs::read_to_string(jail.at("before"))?, "not one byte");
        assert_eq!(ran.stdout.lines().count(), 1);
    }
    Ok(())
}

fn on_overlayfs_only_what_is_wrong_is_copied_up() -> Outcome {
    let jail = overlay()?.setup("chown 0:0 $W/lower/d/e/wrong").setup(MOUNT_OVERLAY).instead(Path::new("env"));
    let list = format!("W={}; {LIST_UPPER}", jail.work().display());
    let again = format!("{} --chown {} 1000:1000 true && ", programs().stepdown.display(), jail.at("d"));
    let first = jail.at("first");
    let script = format!("{again} ({list}) >{first}; sleep 0.01; {again} ({list})");
    let ran = Ran::of(jail.command(&["sh", "-c", &script]).output()?);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let names: Vec<&str> = ran.stdout.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(names, ["", "d", "d/e", "d/e/wrong"], "the one that is wrong, and the directories that it stands in");
    assert_eq!(ran.stdout, fs::read_to_string(first)?, "the second run writes nothing");
    Ok(())
}

fn no_mount_below_path_is_entered() -> Outcome {
    let jail = on("tmpfs")?
        .setup("mkdir -p $W/m/d/bind/x $W/m/d/tmp $W/m/d/deep/itself $W/m/other/sub; touch $W/m/d/file $W/m/one $W/m/d/f0; mkfifo $W/m/d/fifo")
        .setup("mount --bind $W/m/other $W/m/d/bind; mount -t tmpfs -o mode=755 none $W/m/d/tmp; mount --bind $W/m/one $W/m/d/file")
        .setup("mount --bind $W/m/d/deep $W/m/d/deep/itself; mount -t proc proc $W/m/d/bind/sub; mount --bind /dev/null $W/m/d/fifo");
    inside(jail, "mounts", &[])
}

fn mounts(place: &Place) {
    let top = place.at("m/d");
    let names = ["bind", "tmp", "file", "fifo", "bind/sub"];
    let facts = || names.map(|name| (name, owner(top.join(name))));
    let before = facts();
    place.owns(&[], &top);
    assert_eq!(facts(), before, "what is mounted below PATH is left alone, of the same file system or not");
    for name in ["", "f0", "deep"] {
        assert_eq!(owner(top.join(name)), NODE, "{name}");
    }
    assert_eq!((owner(place.at("m/other")), owner(place.at("m/one"))), ((0, 0), (0, 0)));
    place.owns(&[], &top.join("bind"));
    assert_eq!((owner(top.join("bind")), owner(top.join("bind/sub"))), (NODE, (0, 0)), "what is mounted can be named");
}

/// Mounts `$W/m/d` on `$W/mapped`, with ids mapped as the words say.
fn idmapped(map: &str) -> Result<Jail, Stop> {
    harness::linux((5, 12), "mounts with mapped ids")?;
    let line = inside::line("idmap", map);
    Ok(on("ext4")?.setup(&format!("mkdir $W/m/d $W/mapped; WORK=$W {line}")))
}

fn idmap(place: &Place) {
    let map: String = place.words.chunks(3).map(|words| words.join(" ") + "\n").collect();
    match kernel::mount_idmapped(&place.at("m/d"), &place.at("mapped"), &map) {
        Ok(()) => {}
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EPERM)) => {
            eprintln!("needs mounts with mapped ids: {error}");
            std::process::exit(77);
        }
        Err(error) => panic!("{error}"),
    }
}

fn through_an_idmapped_mount_owners_are_what_is_seen_through_it() -> Outcome {
    inside(idmapped("0 0 1 5000 1000 1")?, "mapped", &[])
}

/// 5000 on the disk is 1000 through the mount.
fn mapped(place: &Place) {
    let (disk, seen) = (place.at("m/d"), place.at("mapped"));
    build(&disk, 2, 1);
    place.owns(&[], &seen);
    assert!(wrong(&seen).is_empty(), "{:?}", wrong(&seen));
    assert!(look(&disk).values().all(|facts| facts.owner == (5000, 5000)), "{:?}", look(&disk));
    let before = look(&seen);
    place.owns(&[], &seen);
    assert_eq!(look(&seen), before, "right through the mount is right");
    // 1000 on the disk is nobody's through the mount, so it is wrong there, and becomes 5000.
    std::os::unix::fs::chown(disk.join("f0"), Some(1000), Some(1000)).expect("chown");
    assert_eq!(owner(seen.join("f0")), (65534, 65534));
    place.owns(&[], &seen);
    assert_eq!((owner(disk.join("f0")), owner(seen.join("f0"))), ((5000, 5000), NODE));
}

fn an_id_that_an_idmapped_mount_has_no_place_for_is_an_error_with_a_hint() -> Outcome {
    inside(idmapped("0 0 1")?, "unmapped", &[])
}

fn unmapped(place: &Place) {
    let (disk, seen) = (place.at("m/d"), place.at("mapped"));
    build(&disk, 2, 1);
    let before = look(&disk);
    let ran = place.chown(&[], &seen);
    assert_eq!(ran.code, 125, "{ran:?}");
    // Four files below and two beside them; the directories above are not tried.
    assert!(ran.stderr.contains("--chown: 6 of 9 entries can't be changed"), "{ran:?}");
    assert!(ran.stderr.contains("fchownat(1000, 1000): EOVERFLOW"), "{ran:?}");
    assert!(ran.stderr.contains("hint: the id has no place in this user namespace or mount"), "{ran:?}");
    assert_eq!(look(&disk), before);
}

/// Nothing but one warning, and the command ran.
fn only_warned(top: &Path) {
    let mut command = std::process::Command::new(std::env::var_os("STEPDOWN").expect("STEPDOWN"));
    command.arg("--chown-if-possible").arg(top).args(["1000:1000", "id", "-u"]);
    let ran = Ran::of(command.output().expect("stepdown"));
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "1000\n"), "{ran:?}");
    assert!(ran.stderr.starts_with("stepdown: warning: ") && ran.stderr.contains("EROFS"), "{ran:?}");
}

fn on_a_read_only_mount_what_is_wrong_is_an_error_with_the_count_and_the_first_path() -> Outcome {
    let jail = on("tmpfs")?.setup("mkdir $W/m/d; cd $W/m/d; mkdir a b; touch a/one b/two b/three; chown 1000:1000 b/three; cd /");
    inside(jail.setup("mount --bind $W/m/d $W/m/d; mount -o remount,bind,ro $W/m/d"), "read_only", &[])
}

fn on_a_read_only_file_system_too() -> Outcome {
    let jail = on("ext4")?.setup("mkdir $W/m/d; cd $W/m/d; mkdir a b; touch a/one b/two b/three; chown 1000:1000 b/three; cd /");
    inside(jail.setup("mount -o remount,ro $W/m"), "read_only", &[])
}

fn read_only(place: &Place) {
    let top = place.at("m/d");
    let before = look(&top);
    let ran = place.chown(&[], &top);
    assert_eq!(ran.code, 125, "{ran:?}");
    assert!(ran.stderr.starts_with("stepdown: --chown: 2 of 6 entries can't be changed, the first: "), "{ran:?}");
    let firsts = ["a/one", "b/two"].map(|name| format!("{}: fchownat(1000, 1000): EROFS", top.join(name).display()));
    assert!(firsts.iter().any(|first| ran.stderr.contains(first)), "{ran:?}");
    assert!(ran.stderr.contains("hint: it is mounted read-only"), "{ran:?}");
    only_warned(&top);
    assert_eq!(look(&top), before);
}

fn on_a_read_only_mount_where_all_is_right_nothing_is_an_error() -> Outcome {
    let jail = on("ext4")?.setup("mkdir -p $W/m/d/a; touch $W/m/d/a/one; chown -R 1000:1000 $W/m/d; mount -o remount,ro $W/m");
    inside(jail, "read_only_but_right", &[])
}

fn read_only_but_right(place: &Place) {
    let top = place.at("m/d");
    let before = look(&top);
    place.owns(&[], &top);
    assert_eq!(look(&top), before);
}

fn an_immutable_file_is_named_and_all_but_what_is_above_it_is_changed() -> Outcome {
    let jail = on("ext4")?
        .setup("cd $W/m; mkdir -p d/stuck/deep d/fine/deep; touch d/stuck/deep/x d/stuck/deep/y d/stuck/z d/fine/deep/f; cd /")
        .setup("chattr +i $W/m/d/stuck/deep/x");
    inside(jail, "immutable", &[])
}

fn immutable(place: &Place) {
    let top = place.at("m/d");
    let ran = place.chown(&[], &top);
    let stuck = top.join("stuck/deep/x");
    assert_eq!(ran.code, 125, "{ran:?}");
    let told = format!("--chown: 1 of 9 entries can't be changed, the first: {}: fchownat(1000, 1000): EPERM", stuck.display());
    assert!(ran.stderr.contains(&told), "{ran:?}");
    let above = [top.clone(), top.join("stuck"), top.join("stuck/deep"), stuck.clone()];
    assert_eq!(wrong(&top), above, "the file and what is above it");
    // The tree's top is wrong still, so that the next run looks at all of it.
    assert_eq!(place.chown(&["--chown-policy=on-root-mismatch"], &top).code, 125);
    assert!(std::process::Command::new("chattr").arg("-i").arg(&stuck).status().is_ok_and(|status| status.success()));
    place.owns(&["--chown-policy=on-root-mismatch"], &top);
    assert!(wrong(&top).is_empty());
    // An immutable directory: what is in it can be changed, it can't.
    std::os::unix::fs::lchown(top.join("stuck/deep/y"), Some(0), Some(0)).expect("chown");
    std::os::unix::fs::lchown(top.join("stuck/deep"), Some(0), Some(0)).expect("chown");
    std::os::unix::fs::lchown(top.join("stuck"), Some(0), Some(0)).expect("chown");
    assert!(
        std::process::Command::new("chattr").arg("+i").arg(top.join("stuck/deep")).status().is_ok_and(|status| status.success())
    );
    let ran = place.chown(&[], &top);
    assert!(ran.code == 125 && ran.stderr.contains("stuck/deep: fchownat(1000, 1000): EPERM"), "{ran:?}");
    assert_eq!(wrong(&top), [top.join("stuck"), top.join("stuck/deep")]);
}
