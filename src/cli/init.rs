//! The options of `--init`.

use anyhow::{Context, Error, bail};

use super::grammar::{Typed, given, many, one, text};
use crate::failure::hinted;
use crate::signal::Signal;
use crate::sys::plain;

/// What was asked of the process that stays. All of it is of fixed size: the supervisor keeps no heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Init {
    /// `--rewrite`: what a received signal is forwarded as.
    pub rewrite: Rewrites,
    /// `--exit-as`: the exit code for each of the command's.
    pub exit_as: [u8; 256],
    /// `--grace`, milliseconds.
    pub grace: u64,
    /// `--drain`, milliseconds.
    pub drain: u64,
    /// `--kill-after`, milliseconds.
    pub kill_after: Option<u64>,
    /// `--signal-group`.
    pub target: Target,
}

/// Whom signals are forwarded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The command's process.
    Process,
    /// All of its process group.
    Group,
}

/// For each signal what it is forwarded as; itself, where nothing else was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrites([u8; 65]);

plain!(Init { rewrite, exit_as, grace, drain, kill_after, target });
plain!(Rewrites(numbers));
plain!(
    enum Target {
        Process,
        Group,
    }
);

impl Rewrites {
    /// None: `--rewrite SIGNAL=none`.
    #[must_use]
    pub fn of(&self, signal: Signal) -> Option<Signal> {
        self.0.get(signal.index()).and_then(|&number| Signal::new(number.into()))
    }

    /// Those that are not forwarded as themselves.
    pub fn changed(&self) -> impl Iterator<Item = (Signal, Option<Signal>)> {
        (1..=64).filter_map(Signal::new).map(|signal| (signal, self.of(signal))).filter(|&(from, to)| Some(from) != to)
    }

    fn set(&mut self, from: Signal, to: Option<Signal>) {
        if let Some(place) = self.0.get_mut(from.index()) {
            *place = to.map_or(0, |signal| u8::try_from(signal.number()).unwrap_or(0));
        }
    }
}

impl Default for Rewrites {
    fn default() -> Self {
        Self(std::array::from_fn(|number| u8::try_from(number).unwrap_or(0)))
    }
}

impl Default for Init {
    fn default() -> Self {
        Self {
            rewrite: Rewrites::default(),
            exit_as: std::array::from_fn(|code| u8::try_from(code).unwrap_or(0)),
            grace: 5000,
            drain: 0,
            kill_after: None,
            target: Target::Process,
        }
    }
}

impl Init {
    /// The exit codes that `--exit-as` changes.
    pub fn changed_codes(&self) -> impl Iterator<Item = (u8, u8)> {
        (0..=u8::MAX).zip(self.exit_as).filter(|(from, to)| from != to)
    }
}

/// Those that mean nothing without `--init`.
const OF_THE_SUPERVISOR: [&str; 6] = ["signal-group", "rewrite", "exit-as", "grace", "drain", "kill-after"];

/// Reads them; `None` without `--init`.
pub fn read(options: &Typed) -> Result<Option<Box<Init>>, Error> {
    if !given(options, "init") {
        // Of an option that takes no value clap says that it is there, and false.
        let typed = |name: &&&str| given(options, name) || many(options, name).next().is_some();
        return match OF_THE_SUPERVISOR.iter().find(typed) {
            None => Ok(None),
            Some(name) => {
                Err(hinted(format!("--{name} is given without --init"), "it tells the process that stays what to do: add --init"))
            }
        };
    }
    let mut init = Init::default();
    if given(options, "signal-group") {
        init.target = Target::Group;
    }
    read_rewrites(options, &mut init.rewrite)?;
    read_codes(options, &mut init.exit_as)?;
    init.grace = milliseconds(options, "grace")?.unwrap_or(init.grace);
    init.drain = milliseconds(options, "drain")?.unwrap_or(init.drain);
    init.kill_after = milliseconds(options, "kill-after")?;
    Ok(Some(Box::new(init)))
}

fn read_rewrites(options: &Typed, rewrites: &mut Rewrites) -> Result<(), Error> {
    const HINT: &str = "write SIGNAL=SIGNAL or SIGNAL=none: TERM=QUIT, 15=3, HUP=none, USR1=RTMIN+3";
    let mut seen = Vec::new();
    for typed in many(options, "rewrite") {
        let typed = text("rewrite", typed)?;
        let Some((from, to)) = typed.split_once('=') else {
            return Err(hinted(format!("--rewrite '{typed}': there is no '='"), HINT));
        };
        let signal = |name: &str| {
            Signal::parse(name).ok_or_else(|| hinted(format!("--rewrite '{typed}': there is no signal '{name}'"), HINT))
        };
        let (from, to) = (signal(from)?, if to.eq_ignore_ascii_case("none") { None } else { Some(signal(to)?) });
        if [Signal::KILL, Signal::STOP, Signal::CHLD].contains(&from) {
            bail!("--rewrite '{typed}': {from} is never forwarded");
        }
        if seen.contains(&from) {
            bail!("--rewrite '{typed}': {from} is rewritten twice");
        }
        seen.push(from);
        rewrites.set(from, to);
    }
    Ok(())
}

fn read_codes(options: &Typed, exit_as: &mut [u8; 256]) -> Result<(), Error> {
    let mut seen = Vec::new();
    for typed in many(options, "exit-as") {
        let typed = text("exit-as", typed)?;
        let code = |text: &str| crate::ids::decimal(text.as_bytes()).ok().and_then(|code| u8::try_from(code).ok());
        let codes = typed.split_once('=').and_then(|(from, to)| Some((code(from)?, code(to)?)));
        let (from, to) = codes.with_context(|| format!("--exit-as '{typed}': write CODE=CODE, each 0 to 255: 143=0"))?;
        if seen.contains(&from) {
            bail!("--exit-as '{typed}': {from} is given twice");
        }
        seen.push(from);
        if let Some(place) = exit_as.get_mut(usize::from(from)) {
            *place = to;
        }
    }
    Ok(())
}

/// Seconds, with up to three digits behind a point; at most a day.
fn milliseconds(options: &Typed, name: &str) -> Result<Option<u64>, Error> {
    const DAY: u64 = 86_400_000;
    let Some(typed) = one(options, name)? else { return Ok(None) };
    let (whole, fraction) = typed.split_once('.').map_or((typed, "0"), |(whole, fraction)| (whole, fraction));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let read = || {
        let thousandths = format!("{fraction:0<3}").parse::<u64>().ok()?;
        let all = whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(thousandths)?;
        (digits(whole) && digits(fraction) && fraction.len() <= 3 && all <= DAY).then_some(all)
    };
    read().map(Some).with_context(|| format!("--{name} '{typed}': write seconds, 0 to 86400: 10 or 0.5"))
}
