//! The target itself stirs in its tree as fast as it can, while hundreds of walks run over it as root: not one
//! inode outside ever changes.
//!
//! `$W/m` is a tmpfs of root's: `arena/N/tree` is walked, `victims` mirrors it name by name (so that a link in the
//! place of a directory of the tree leads to victims of the same names), `out` is a sticky directory for everybody.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::NODE;
use super::inside::{Part, Place, inside};
use super::tree::look;
use super::victims::{Victims, fill, grow, is_file, names};
use crate::harness::{Case, Outcome, Stop};
use crate::jail::{Jail, Ran};
use crate::{cases, parts};

pub fn cases() -> Vec<Case> {
    cases![
        four_hundred_walks_change_nothing_outside_the_tree,
        two_hundred_walks_under_strace_change_nothing_outside_the_tree,
        hard_links_to_what_everybody_may_write_are_refused_without_proc,
        a_path_and_a_mkdir_in_a_directory_of_the_attackers_change_nothing_else,
        two_hundred_walks_by_several_threads_change_nothing_outside_the_tree,
        walks_at_once_of_what_becomes_the_attackers_change_nothing_outside_the_tree,
        the_same_attack_beats_find,
    ]
}

pub fn parts() -> Vec<Part> {
    parts![campaign, beaten, attacker]
}

/// How many processes attack.
const ATTACKERS: usize = 3;

/// The tmpfs, with another mount of the victims in the tree.
fn jail() -> Result<Jail, Stop> {
    Ok(Jail::new()?.setup("mkdir $W/m; mount -t tmpfs -o mode=755 none $W/m"))
}

const WITH_A_MOUNT: &str = "mkdir -p $W/m/victims/bound/below; touch $W/m/victims/bound/f; for n in 0 1 2 3 4 5 6 7; do \
    d=$W/m/arena/$n/tree/d0/bound; mkdir -p $d; mount --bind $W/m/victims/bound $d; done";

fn four_hundred_walks_change_nothing_outside_the_tree() -> Outcome {
    inside(jail()?.setup(WITH_A_MOUNT), "campaign", &["400", "tree", ""])
}

fn two_hundred_walks_under_strace_change_nothing_outside_the_tree() -> Outcome {
    crate::harness::Need::Strace.programs(&["strace"])?;
    // Between the look, the open and the change there is time for many swaps.
    let slowly = "strace -f -qq -o/dev/null -e trace=statx,openat,fchownat -e inject=openat,fchownat:delay_enter=100";
    inside(jail()?.setup(WITH_A_MOUNT), "campaign", &["200", "tree", slowly])
}

fn hard_links_to_what_everybody_may_write_are_refused_without_proc() -> Outcome {
    // fs.protected_hardlinks lets everybody link what everybody may read and write; where stepdown can't see that it
    // is set, it counts as 0, and all that has a second name is refused.
    inside(jail()?.setup("mount -t tmpfs none /proc"), "campaign", &["400", "tree linked", ""])
}

fn a_path_and_a_mkdir_in_a_directory_of_the_attackers_change_nothing_else() -> Outcome {
    inside(jail()?, "campaign", &["400", "home", ""])
}

fn two_hundred_walks_by_several_threads_change_nothing_outside_the_tree() -> Outcome {
    inside(jail()?.setup(WITH_A_MOUNT), "campaign", &["200", "large tree", ""])
}

fn walks_at_once_of_what_becomes_the_attackers_change_nothing_outside_the_tree() -> Outcome {
    // Nobody but root may write to the tree until the first walk has given it away; the others are amid it then.
    inside(jail()?.setup(WITH_A_MOUNT), "campaign", &["200", "tree at once", ""])
}

fn the_same_attack_beats_find() -> Outcome {
    inside(jail()?, "beaten", &[])
}

/// The attackers, until they are dropped.
struct Attack {
    children: Vec<Child>,
    counts: Vec<PathBuf>,
    /// The tree's inodes, that root takes back before each walk so that there is something to change.
    tree: Vec<File>,
}

impl Attack {
    fn begin(place: &Place, round: usize, what: &str) -> Self {
        let arena = arena(place, round);
        let (tree, home) = (arena.join("tree"), arena.join("home"));
        grow(&tree, if is_at_once(what) { 0o755 } else { 0o777 });
        grow(&home.join("data"), 0o777);
        if what == "large tree" {
            fill(&tree);
        }
        for (index, target) in ["d0", "d1/d", "d2/d/d", "secret", "d1/f", "d3/d/f", "sticky", "bound", "."].iter().enumerate() {
            for at in [&tree, &home.join("data")] {
                symlink(place.at("m/victims").join(target), at.join(format!("s{index}"))).expect("a link");
            }
        }
        symlink(place.at("m/victims/mirror"), home.join("mirror")).expect("a link");
        let walked = if what == "home" { home.join("data") } else { tree.clone() };
        let tree_files = names().iter().map(|name| File::open(walked.join(name)).expect("open")).collect();
        for path in [&tree, &home] {
            for path in look(path).keys().filter(|path| !path.starts_with(tree.join("d0/bound"))) {
                lchown(path, Some(1000), Some(1000)).expect("chown");
            }
        }
        let open = arena.join("open");
        fs::create_dir(&open).expect("mkdir");
        lchown(open, Some(1000), Some(1000)).expect("chown");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o777)).expect("chmod");
        let counts: Vec<PathBuf> = (0..ATTACKERS).map(|index| place.at(format!("m/counts/{round}-{index}"))).collect();
        let start = |(index, path): (usize, &PathBuf)| {
            let count = File::create(path).expect("a file");
            let mut command = place.part("attacker", &[&index.to_string(), what, &round.to_string()]);
            command.uid(1000).gid(1000).stdin(Stdio::null()).stdout(count).spawn().expect("an attacker")
        };
        let children = counts.iter().enumerate().map(start).collect();
        Self { children, counts, tree: tree_files }
    }

    /// Makes the tree's own inodes wrong again, wherever they are by now.
    fn take_back(&self) {
        for file in &self.tree {
            fchown(file, Some(0), Some(0)).expect("chown");
        }
    }

    /// How many of them are the target's again.
    fn changed(&self) -> usize {
        let right = |file: &&File| file.metadata().is_ok_and(|facts| facts.uid() == NODE.0);
        self.tree.iter().filter(right).count()
    }

    /// How many swaps succeeded up to now.
    fn swaps(&self) -> u64 {
        let lines = |path| fs::read_to_string(path).unwrap_or_default().lines().count() as u64 * EVERY;
        self.counts.iter().map(lines).sum()
    }

    fn assert_alive(&mut self) {
        for child in &mut self.children {
            assert!(child.try_wait().expect("wait").is_none(), "an attacker has given up");
        }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where one round of the attack takes place: it is begun afresh before the tree has lost its shape.
fn arena(place: &Place, round: usize) -> PathBuf {
    place.at(format!("m/arena/{round}"))
}

/// Whether several walks run at once.
fn is_at_once(what: &str) -> bool {
    what.ends_with("at once")
}

/// How many walks a round has.
const ROUND: usize = 50;

/// So many swaps make a line.
const EVERY: u64 = 100;

/// So many swaps make an attack. On a busy machine it takes more rounds than were asked for.
const ENOUGH: u64 = 10_000;

/// So many changes show that the walks had something to do.
const SOME: usize = 100;

/// What stepdown is told, in turn.
fn lines(place: &Place, round: usize, what: &str) -> Vec<Vec<String>> {
    let at = |name: &str| arena(place, round).join(name).display().to_string();
    let line = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    if what == "home" {
        vec![
            line(&["--chown", &at("home/data")]),
            line(&["--mkdir", &at("home/data/new:2750")]),
            line(&["--mkdir", &at("home/data/d0/d/made:700"), "--chown", &at("home/data/d0")]),
            line(&["--chown", &at("home/data/d0/f")]),
        ]
    } else {
        vec![line(&["--chown", &at("tree")])]
    }
}

/// So many walks at least, each after the tree was made wrong; the victims are looked at after each.
fn campaign(place: &Place) {
    let [walks, what, through] = [0, 1, 2].map(|index| place.words[index].as_str());
    let victims = Victims::new(place);
    let (mut done, mut refused, mut changed, mut swaps) = (0, 0, 0, 0);
    let stepdown = std::env::var("STEPDOWN").expect("STEPDOWN");
    let rounds = walks.parse::<usize>().expect("a number") / ROUND;
    for round in 0.. {
        // On a busy machine the attackers get little done, and little is left to the walks. There is an end all the same.
        if round >= rounds && swaps >= ENOUGH && (changed > SOME || round >= 10 * rounds) {
            break;
        }
        let mut attack = Attack::begin(place, round, what);
        let lines = lines(place, round, what);
        for walk in 0..ROUND {
            attack.take_back();
            let line = lines[walk % lines.len()].iter().map(String::as_str);
            let words: Vec<&str> = through.split_whitespace().chain([stepdown.as_str()]).chain(line).collect();
            let start = |_| {
                let mut command = Command::new("timeout");
                command.arg("60").args(&words).args(["1000:1000", "true"]).stdout(Stdio::piped()).stderr(Stdio::piped());
                command.spawn().expect("stepdown")
            };
            let started: Vec<Child> = (0..if is_at_once(what) { 3 } else { 1 }).map(start).collect();
            for child in started {
                let ran = Ran::of(child.wait_with_output().expect("wait"));
                match ran.code {
                    0 => done += 1,
                    125 => refused += 1,
                    _ => panic!("round {round}, walk {walk}: {ran:?}"),
                }
                victims.check(&format!("round {round}, walk {walk} ({ran:?})"));
            }
            changed += attack.changed();
        }
        attack.assert_alive();
        swaps += attack.swaps();
    }
    println!(
        "{what}: {done} walks succeeded, {refused} were refused in part, {changed} inodes were changed during {swaps} swaps"
    );
    assert!(done > 0 && changed > SOME, "the walks had nothing to do");
}

/// That the attack bites: what people run in an entrypoint has a victim's owner changed, sooner or later.
fn beaten(place: &Place) {
    let victims = Victims::new(place);
    for round in 0..20 {
        let attack = Attack::begin(place, round, "tree");
        for walk in 0..ROUND {
            attack.take_back();
            let mut find = Command::new("find");
            find.arg(arena(place, round).join("tree")).args(["!", "-user", "1000", "-exec", "chown", "1000:1000", "{}", "+"]);
            find.stderr(Stdio::null()).status().expect("find");
            if victims.were_taken() {
                println!("find lost in walk {walk} of round {round}");
                return;
            }
        }
    }
    panic!("find withstood it, so the attack is no test");
}

/// Swaps until it is killed, as the target; prints a line for every so many that succeeded.
fn attacker(place: &Place) {
    let [seed, what, round] = [0, 1, 2].map(|index| place.words[index].as_str());
    let (top, m) = (arena(place, round.parse().expect("a number")), place.at("m"));
    let mut random = seed.parse::<u64>().expect("a number").wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    let mut pick = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 16) as usize % below
    };
    let root = if what == "home" { top.join("home/data") } else { top.join("tree") };
    let mut all: Vec<PathBuf> = names().iter().map(|name| root.join(name)).collect();
    let links: Vec<PathBuf> = (0..9).map(|index| root.join(format!("s{index}"))).collect();
    if what == "home" {
        all.extend([root.clone(), root.join("new"), root.join("d0/d/made"), top.join("home/mirror")]);
    }
    let outside: Vec<PathBuf> = (0..4).map(|index| top.join(format!("open/{seed}-{index}"))).collect();
    let mut made = 0;
    let mut swaps = 0;
    loop {
        let one = &all[pick(all.len())];
        let succeeded = match pick(8) {
            0..3 => exchange(one, &links[pick(links.len())]),
            3 | 4 => exchange(one, &all[pick(all.len())]),
            // Out of the tree, now and then to where nobody gets it back from, and in again.
            5 => {
                let away = &outside[pick(outside.len())];
                let gone = moved(one, away);
                let far = [m.join("out"), m.join("victims/sticky")][pick(2)].join(format!("{round}-{seed}"));
                let _ = pick(64) == 0 && moved(away, &far);
                let _ = moved(away, one) || moved(away, &all[pick(all.len())]);
                gone
            }
            // A second name for a file: the attacker's own, or one that everybody may write.
            6 => {
                let source = if what.ends_with("linked") { m.join("victims/shared") } else { all[pick(all.len())].clone() };
                made += 1;
                let name = one.with_file_name(format!("h{seed}-{}", made % 4));
                let linked = fs::hard_link(source, &name).is_ok();
                let swapped = linked && pick(2) == 0 && is_file(&one.to_string_lossy()) && exchange(&name, one);
                let _ = fs::remove_file(if swapped { one } else { &name });
                if swapped {
                    let _ = moved(&name, one);
                }
                linked
            }
            // A file of its own comes, becomes a link, a directory, and goes.
            _ => {
                let name = one.with_file_name(format!("n{seed}"));
                let came = fs::write(&name, "").is_ok() && fs::remove_file(&name).is_ok();
                let became = came && symlink(&links[0], &name).is_ok() && fs::remove_file(&name).is_ok();
                became && fs::create_dir(&name).is_ok() && fs::remove_dir(&name).is_ok()
            }
        };
        swaps += u64::from(succeeded);
        if succeeded && swaps % EVERY == 0 {
            println!(".");
        }
    }
}

fn exchange(one: &Path, other: &Path) -> bool {
    renameat2(AT_FDCWD.as_fd(), one, AT_FDCWD.as_fd(), other, RenameFlags::RENAME_EXCHANGE).is_ok()
}

/// Destroys nothing, so that the attack goes on for as long as it likes.
fn moved(from: &Path, to: &Path) -> bool {
    renameat2(AT_FDCWD.as_fd(), from, AT_FDCWD.as_fd(), to, RenameFlags::RENAME_NOREPLACE).is_ok()
}
