//! A state to start in: all that a process hands on when it becomes another program.

use super::dice::Dice;
use super::space::Space;

/// What is set up, as far as the kernel allows it here; what came of it is asked of the kernel ([`super::trial`]).
#[derive(Debug)]
pub struct Start {
    pub space: Space,
    /// Real, effective and saved.
    pub uids: [u32; 3],
    pub gids: [u32; 3],
    pub groups: Vec<u32>,
    pub bounding: u64,
    pub permitted: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub ambient: u64,
    pub securebits: i32,
    pub no_new_privs: bool,
    /// Of 0, 1, 2.
    pub streams: [Stream; 3],
    /// Open descriptors that nobody asked for.
    pub strays: Vec<(i32, Stray)>,
    /// A bit for each signal.
    pub blocked: u64,
    pub ignored: u64,
    /// Number, soft, hard.
    pub limits: Vec<(i32, u64, u64)>,
    pub umask: u32,
    pub nice: i32,
    /// Whether it leads a process group or a session.
    pub leads: Leads,
    /// The parent-death signal; 0 for none.
    pub death_signal: i32,
    /// Its directory, below that of the combination; empty for `/`.
    pub directory: &'static str,
    pub environment: Vec<(&'static str, String)>,
}

/// What a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// A pipe to the test.
    Pipe,
    Null,
    Closed,
}

/// What a stray descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    Null,
    /// Root's directory `/`: a way out of wherever the command is to stay.
    Directory,
    Pipe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    Nothing,
    Group,
    Session,
}

/// The capabilities that engines give by default.
const DOCKER: u64 = 0xa804_25fb;
pub const SETGID: u64 = 1 << 6;
pub const SETUID: u64 = 1 << 7;

/// Ids that are somebody's in one of the account files, somebody's in a namespace, or nobody's.
const IDS: [u32; 12] = [0, 1, 5, 50, 100, 1000, 1000, 1000, 2001, 3000, 7777, 4_294_967_294];

impl Start {
    /// The one that the dice say.
    pub fn random(dice: &mut Dice, programs: &str) -> Self {
        let space = if dice.percent(70) { Space::None } else { dice.pick(&Space::MADE) };
        let mut start = Self::root(dice, space);
        match dice.below(100) {
            0..=34 => {}
            35..=54 => start.bounding = capabilities(dice) | if dice.percent(75) { SETUID | SETGID } else { 0 },
            55..=79 => start.becomes_somebody(dice),
            _ => start.becomes_anybody(dice),
        }
        start.securebits = match dice.below(10) {
            0..=5 => 0,
            6..=8 => dice.pick(&[0x01, 0x04, 0x10, 0x40, 0x03, 0x0c, 0xc0, 0x2f, 0x15]),
            _ => i32::try_from(dice.below(256)).expect("8 bits"),
        };
        if start.outside().is_none() {
            // That namespace has no such ids.
            start.space = Space::None;
        }
        start.environment = environment(dice, programs);
        start
    }

    fn root(dice: &mut Dice, space: Space) -> Self {
        let closed = dice.percent(20);
        let mut stream = || match dice.below(10) {
            0..=5 => Stream::Pipe,
            6..=7 => Stream::Null,
            _ if closed => Stream::Closed,
            _ => Stream::Pipe,
        };
        let streams = [stream(), stream(), stream()];
        let groups = if dice.percent(50) { vec![0] } else { dice.some(&IDS, 25) };
        let mut strays: Vec<(i32, Stray)> = Vec::new();
        for fd in dice.some(&[3, 4, 5, 7, 10, 20, 63, 64, 100, 700], 12) {
            strays.push((fd, dice.pick(&[Stray::Null, Stray::Directory, Stray::Pipe])));
        }
        Self {
            space,
            uids: [0; 3],
            gids: [0; 3],
            groups,
            bounding: u64::MAX,
            permitted: u64::MAX,
            effective: u64::MAX,
            inheritable: if dice.percent(80) { 0 } else { capabilities(dice) },
            ambient: if dice.percent(90) { 0 } else { capabilities(dice) },
            securebits: 0,
            no_new_privs: dice.percent(15),
            streams,
            strays,
            blocked: signals(dice),
            ignored: signals(dice),
            limits: limits(dice),
            umask: dice.pick(&[0o022, 0o022, 0o077, 0o027, 0, 0o777]),
            nice: dice.pick(&[0, 0, 0, 5, 19, -5]),
            leads: dice.pick(&[Leads::Nothing, Leads::Nothing, Leads::Group, Leads::Session]),
            death_signal: dice.pick(&[0, 0, 0, 15, 1, 34]),
            directory: dice.pick(&["", "", "", "open", "closed"]),
            environment: Vec::new(),
        }
    }

    /// As an engine or a service manager starts a service: `docker run -u`, `User=` with `AmbientCapabilities=`.
    fn becomes_somebody(&mut self, dice: &mut Dice) {
        let (uid, gid, groups): (u32, u32, &[u32]) = dice.pick(&[
            (1000, 1000, &[1000, 1, 4, 100][..]),
            (1000, 1000, &[1000]),
            (1000, 50, &[50]),
            (5, 60, &[60, 4]),
            (3000, 3000, &[]),
            (7777, 8888, &[8888]),
            (1234, 0, &[5678]),
            (1000, 1000, &[0, 1000]),
        ]);
        (self.uids, self.gids) = ([uid; 3], [gid; 3]);
        self.groups = if dice.percent(70) { groups.to_vec() } else { dice.some(groups, 60) };
        self.bounding = if dice.percent(50) { u64::MAX } else { capabilities(dice) };
        self.ambient = if dice.percent(50) { 0 } else { capabilities(dice) };
        self.inheritable = self.ambient | if dice.percent(80) { 0 } else { capabilities(dice) };
    }

    fn becomes_anybody(&mut self, dice: &mut Dice) {
        let one = dice.percent(70);
        for ids in [&mut self.uids, &mut self.gids] {
            *ids = [dice.pick(&IDS), dice.pick(&IDS), dice.pick(&IDS)];
            if one {
                *ids = [ids[0]; 3];
            }
        }
        self.groups = if one && dice.percent(50) { vec![self.gids[0]] } else { dice.some(&IDS, 30) };
        self.bounding = capabilities(dice);
        self.permitted = capabilities(dice);
        self.effective = self.permitted & capabilities(dice);
        self.inheritable = capabilities(dice);
        self.ambient = capabilities(dice);
    }

    /// The supplementary groups as they are outside of the namespace; none where one of the ids is not mapped.
    pub fn outside(&self) -> Option<Vec<u32>> {
        let all_mapped = self.uids.iter().chain(&self.gids).all(|&id| self.space.outside(id).is_some());
        let groups = self.groups.iter().map(|&id| self.space.outside(id)).collect::<Option<Vec<u32>>>();
        groups.filter(|_| all_mapped)
    }
}

/// A set of capabilities: those that people give, or any.
fn capabilities(dice: &mut Dice) -> u64 {
    match dice.below(10) {
        0 | 1 => u64::MAX,
        2 => 0,
        3 => DOCKER,
        4 => SETUID | SETGID,
        5 => SETUID | SETGID | 1 << dice.below(41),
        6 => !(1 << dice.below(41)),
        7 => 1 << dice.below(41),
        8 => dice.bits(),
        _ => dice.bits() | SETUID | SETGID,
    }
}

/// A set of signals, a bit for each: none, some of the common ones, or any.
fn signals(dice: &mut Dice) -> u64 {
    let one = |signal: u32| 1u64 << (signal - 1);
    match dice.below(10) {
        0..=5 => 0,
        6..=7 => dice.some(&[1, 2, 3, 13, 14, 15, 17, 20, 34, 64], 30).into_iter().map(one).sum(),
        8 => u64::MAX,
        _ => dice.bits(),
    }
}

/// High enough for the programs to run at all.
fn limits(dice: &mut Dice) -> Vec<(i32, u64, u64)> {
    let wanted = [
        (libc::RLIMIT_NOFILE, 64, 4000),
        (libc::RLIMIT_NPROC, 5000, 20000),
        (libc::RLIMIT_CORE, 0, 1 << 20),
        (libc::RLIMIT_FSIZE, 1 << 24, 1 << 30),
        (libc::RLIMIT_SIGPENDING, 100, 1000),
        (libc::RLIMIT_NICE, 0, 40),
    ];
    let wanted = dice.some(&wanted, 15);
    let mut limit = |(resource, least, most)| {
        let soft = least + dice.below(most - least);
        let resource = i32::try_from(resource).expect("a small number");
        (resource, soft, soft + dice.below(most - soft))
    };
    wanted.into_iter().map(&mut limit).collect()
}

fn environment(dice: &mut Dice, programs: &str) -> Vec<(&'static str, String)> {
    let mut all = vec![];
    let mut set = |dice: &mut Dice, percent, name, values: &[&str]| {
        if dice.percent(percent) {
            all.push((name, dice.pick(values).to_owned()));
        }
    };
    let path = format!("/usr/bin:{programs}");
    set(dice, 90, "PATH", &[&path, &path, &path, "/usr/bin:/bin", "", ".:relative"]);
    set(dice, 50, "HOME", &["/root", "/opt/app"]);
    set(dice, 50, "USER", &["root", "somebody"]);
    set(dice, 20, "LOGNAME", &["root"]);
    set(dice, 20, "SHELL", &["/bin/zsh"]);
    set(dice, 40, "KEPT", &["1", "", "a=b"]);
    set(dice, 40, "PUID", &["1000", "1000", "3000", "node", "0", "7777", "root", "", "toor", "-1", "1000:0", "@/", "01000"]);
    set(dice, 40, "PGID", &["1000", "1000", "50", "0", "staff", "", "root", " 50"]);
    if dice.percent(10) {
        // Named for another process: nobody's here.
        all.extend([("LISTEN_PID", "1".to_owned()), ("LISTEN_FDS", "1".to_owned())]);
    }
    all
}
