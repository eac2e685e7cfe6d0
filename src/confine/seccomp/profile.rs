//! Profiles as Docker, podman and Kubernetes have them, and as the OCI runtime specification has them once an engine
//! has resolved them. What is not said here is as in runc with libseccomp.
//!
//! - An entry whose action and error number are the default's is left out.
//! - Several entries for one call: each may match. One without `args` takes the place of all others; of several such
//!   the first counts. Where two match and disagree, the one that takes more away counts, by the kernel's own
//!   order (libseccomp has an order of its own there, or refuses).
//! - All `args` of an entry must hold; but where two look at one argument, each of them is as an entry of its own.
//! - Calls above the highest number that the profile names are answered with ENOSYS, unless the default lets them pass.
//!
//! Stricter than the engines, because what they pass over in silence may have been meant to forbid something: keys that
//! stand twice, keys of an entry that nobody knows, and a profile for other architectures than this one.

use anyhow::{Error, anyhow, bail};
use nix::errno::Errno;

use super::json::{Json, Object};
use super::program::{self, BPF_MAXINSNS, LONGEST};
use super::{Action, Answer, Comparison, Condition, Facts, Policy, Rule, calls};
use crate::confine::bpf::Program;
use crate::failure::{ALIKE, likeness};
use crate::printable::brief;

/// What this architecture is called in `architectures`, and in `includes` and `excludes`.
#[cfg(target_arch = "x86_64")]
const NATIVE: (&str, &str) = ("SCMP_ARCH_X86_64", "amd64");
#[cfg(target_arch = "aarch64")]
const NATIVE: (&str, &str) = ("SCMP_ARCH_AARCH64", "arm64");

/// The greatest error number that a call can return: MAX_ERRNO.
const GREATEST_ERRNO: u64 = 4095;

const PROFILE_KEYS: &[&str] = &[
    "defaultAction",
    "defaultErrnoRet",
    "defaultErrno",
    "architectures",
    "archMap",
    "syscalls",
    "flags",
    "listenerPath",
    "listenerMetadata",
];
const ENTRY_KEYS: &[&str] = &["names", "name", "action", "errnoRet", "errno", "args", "comment", "includes", "excludes"];
const CONDITION_KEYS: &[&str] = &["index", "value", "valueTwo", "op"];
const FILTER_KEYS: &[&str] = &["caps", "arches", "minKernel"];

const ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_NOTIFY",
];
const COMPARISONS: &[&str] =
    &["SCMP_CMP_EQ", "SCMP_CMP_NE", "SCMP_CMP_GT", "SCMP_CMP_GE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_MASKED_EQ"];
/// None of them changes what is answered: there is one thread, nobody listens, no mitigation is given up for speed, and what
/// is logged is the machine's to say (`kernel.seccomp.actions_logged`), and SCMP_ACT_LOG's.
const FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// Reads and compiles a profile: its programs, in the order in which they are to be loaded. The errors name the
/// entry: `syscalls[3]: args[0]: op: …`.
pub fn of_profile(json: &[u8], facts: &Facts) -> Result<Vec<Program>, Error> {
    Ok(vec![program::compile(&policy(json, facts)?)?])
}

/// Reads a profile.
pub(super) fn policy(json: &[u8], facts: &Facts) -> Result<Policy, Error> {
    let json = Json::parse(json)?;
    let profile = json.object()?;
    // In the profile itself people also keep what is no profile: "$schema", "description".
    if let Some((key, known)) = profile.keys().find_map(|key| Some((key, misspelt(key, PROFILE_KEYS)?))) {
        bail!("unknown key \"{key:.60}\"{known}");
    }
    check_architectures(profile)?;
    profile.each("flags", |flag| one_of("flag", flag.text()?, FLAGS))?;
    profile.read("listenerPath", Json::text)?;
    profile.read("listenerMetadata", Json::text)?;
    let policy = Policy::new(action(profile, Role::Default)?);
    let mut reader = Reader { policy, facts, known: calls::all().collect(), rules: 0 };
    profile.each("syscalls", |entry| reader.entry(entry.object()?))?;
    Ok(reader.policy())
}

/// Which of the two places that have an action.
#[derive(Clone, Copy)]
enum Role {
    Default,
    Entry,
}

struct Reader<'a> {
    policy: Policy,
    facts: &'a Facts,
    known: Vec<(&'static str, u32)>,
    rules: usize,
}

impl Reader<'_> {
    fn policy(self) -> Policy {
        // Number 0 alone makes no bound (runc, patchbpf).
        let newest = self.policy.newest.filter(|&newest| newest > 0 && !self.policy.default.lets_pass());
        Policy { newest, ..self.policy }
    }

    fn entry(&mut self, entry: Object<'_>) -> Result<(), Error> {
        known_keys(entry, ENTRY_KEYS)?;
        let names = names(entry)?;
        if !self.applies(entry)? {
            return Ok(());
        }
        let action = action(entry, Role::Entry)?;
        let conditions = entry.each("args", |argument| condition(argument.object()?))?;
        for call in self.numbers(&names) {
            self.policy.newest = self.policy.newest.max(Some(call));
            if action != self.policy.default {
                self.add(call, &conditions, action)?;
            }
        }
        Ok(())
    }

    /// The numbers of these calls, each once. Names that nobody knows here, or that other architectures have, are left out.
    fn numbers(&self, names: &[&str]) -> Vec<u32> {
        let mut numbers = Vec::new();
        for name in names {
            if let Some((_, number)) = self.known.iter().find(|(known, _)| known == name)
                && !numbers.contains(number)
            {
                numbers.push(*number);
            }
        }
        numbers
    }

    fn applies(&self, entry: Object<'_>) -> Result<bool, Error> {
        let included = entry.read("includes", |filter| Filter::read(filter.object()?))?.unwrap_or_default();
        let excluded = entry.read("excludes", |filter| Filter::read(filter.object()?))?.unwrap_or_default();
        let kept = self.facts.kept.names();
        let is_kept = |name: &&str| kept.iter().any(|kept| kept == name);
        let here = |filter: &Filter<'_>| filter.architectures.contains(&NATIVE.1);
        Ok((included.architectures.is_empty() || here(&included))
            && included.capabilities.iter().all(is_kept)
            && included.kernel.is_none_or(|least| self.facts.kernel >= least)
            && !here(&excluded)
            && !excluded.capabilities.iter().any(is_kept)
            && excluded.kernel.is_none_or(|least| self.facts.kernel < least))
    }

    fn add(&mut self, call: u32, conditions: &[Condition], action: Action) -> Result<(), Error> {
        if conditions.is_empty() {
            return self.add_rule(call, conditions, action);
        }
        let together = if share_an_argument(conditions) { 1 } else { conditions.len() };
        conditions.chunks(together).try_for_each(|conditions| self.add_rule(call, conditions, action))
    }

    fn add_rule(&mut self, call: u32, conditions: &[Condition], action: Action) -> Result<(), Error> {
        // Each takes two instructions at least.
        self.rules += 1;
        if self.rules > LONGEST / 2 {
            bail!("too many rules: the kernel takes no filter of more than {BPF_MAXINSNS} instructions");
        }
        // What is compared under an empty mask is always equal.
        let asked = conditions.iter().filter(|asked| asked.comparison != Comparison::Masked(0)).copied();
        let rule = Rule { conditions: asked.collect(), action };
        let default = self.policy.default;
        let Some(answer) = self.policy.answer_mut(call) else { return Ok(()) };
        match answer.get_or_insert_with(|| Answer::ByArguments(Vec::new(), default)) {
            Answer::Always(_) => {}
            answer if rule.conditions.is_empty() => *answer = Answer::Always(action),
            Answer::ByArguments(rules, _) => {
                // The first that holds counts: what takes more away stands before what takes less.
                let before = rules.iter().take_while(|other| other.action.leniency() <= action.leniency()).count();
                rules.insert(before, rule);
            }
        }
        Ok(())
    }
}

fn share_an_argument(conditions: &[Condition]) -> bool {
    let mut seen = 0u8;
    conditions.iter().any(|asked| {
        let again = seen >> asked.argument & 1 == 1;
        seen |= 1 << asked.argument;
        again
    })
}

/// `includes` or `excludes`.
#[derive(Default)]
struct Filter<'a> {
    capabilities: Vec<&'a str>,
    architectures: Vec<&'a str>,
    kernel: Option<(u32, u32)>,
}

impl<'a> Filter<'a> {
    fn read(filter: Object<'a>) -> Result<Self, Error> {
        known_keys(filter, FILTER_KEYS)?;
        Ok(Self {
            capabilities: filter.each("caps", Json::text)?,
            architectures: filter.each("arches", Json::text)?,
            kernel: filter.read("minKernel", |kernel| release(kernel.text()?))?,
        })
    }
}

/// Reads `4.8`.
fn release(text: &str) -> Result<(u32, u32), Error> {
    let parts = text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    match parts {
        Some(parts) if text.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit()) => Ok(parts),
        _ if text.is_empty() => Ok((0, 0)),
        _ => bail!("\"{text:.60}\" is no release of a kernel as in \"4.8\""),
    }
}

fn check_architectures(profile: Object<'_>) -> Result<(), Error> {
    let typed = profile.each("architectures", Json::text)?;
    let mapped = profile.each("archMap", |entry| {
        let entry = entry.object()?;
        known_keys(entry, &["architecture", "subArchitectures"])?;
        entry.each("subArchitectures", Json::text)?;
        entry.required("architecture", Json::text)
    })?;
    let named = match (typed.is_empty(), mapped.is_empty()) {
        (false, false) => bail!("both architectures and archMap are given: one of them has to go"),
        (_, true) => typed,
        (true, _) => mapped,
    };
    if named.is_empty() || named.contains(&NATIVE.0) || named.contains(&"SCMP_ARCH_NATIVE") {
        return Ok(());
    }
    bail!("the profile is for {}, and this is {}", brief(&named, ", "), NATIVE.0)
}

fn names(entry: Object<'_>) -> Result<Vec<&str>, Error> {
    let name = |name: &Json| match name.text()? {
        "" => Err(anyhow!("the name is empty")),
        _ => Ok(()),
    };
    let several = entry.each("names", |value| name(value).and_then(|()| value.text()))?;
    // Go writes an empty string where there is none.
    let one = entry.read("name", Json::text)?.filter(|name| !name.is_empty());
    match one {
        Some(_) if !several.is_empty() => bail!("both name and names are given: one of them has to go"),
        Some(one) => Ok(vec![one]),
        None if entry.get("names").is_none() => bail!("names is missing"),
        None => Ok(several),
    }
}

fn action(object: Object<'_>, role: Role) -> Result<Action, Error> {
    let (action, number, name) = match role {
        Role::Default => ("defaultAction", "defaultErrnoRet", "defaultErrno"),
        Role::Entry => ("action", "errnoRet", "errno"),
    };
    let numbered = object.read(number, |value| value.number(GREATEST_ERRNO))?;
    // Podman's way; it also writes the number, for others.
    let named = object.read(name, |value| errno(value.text()?))?.flatten();
    if let (Some(numbered), Some(named)) = (numbered, named)
        && numbered != named
    {
        bail!("{number} and {name} are different errors");
    }
    let errno = named.or(numbered).unwrap_or(libc::EPERM as u64);
    object.required(action, |value| match one_of("action", value.text()?, ACTIONS)? {
        "SCMP_ACT_ALLOW" => Ok(Action::ALLOW),
        "SCMP_ACT_LOG" => Ok(Action::LOG),
        "SCMP_ACT_TRAP" => Ok(Action::TRAP),
        "SCMP_ACT_ERRNO" => Ok(Action::errno(errno as u16)),
        "SCMP_ACT_KILL_PROCESS" => Ok(Action::KILL_PROCESS),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(Action::KILL_THREAD),
        "SCMP_ACT_TRACE" => bail!("SCMP_ACT_TRACE needs a tracer, and the command has none"),
        other => bail!("{other} needs somebody who listens, and the command has nobody"),
    })
}

/// An error number by name, `EPERM`, or in digits; none where it is empty.
fn errno(name: &str) -> Result<Option<u64>, Error> {
    let synonym = match name {
        "" => return Ok(None),
        "EWOULDBLOCK" => "EAGAIN",
        "EDEADLOCK" => "EDEADLK",
        "ENOTSUP" => "EOPNOTSUPP",
        other => other,
    };
    if let Ok(number) = name.parse() {
        return Json::Number(number).number(GREATEST_ERRNO).map(Some);
    }
    let unknown = format!("{:?}", Errno::UnknownErrno);
    let named = |number: &u16| synonym != unknown && format!("{:?}", Errno::from_raw(i32::from(*number))) == synonym;
    // The greatest on both architectures is EHWPOISON, 133.
    match (1..200).find(named) {
        Some(number) => Ok(Some(u64::from(number))),
        None => bail!("there is no error \"{name:.60}\""),
    }
}

fn condition(argument: Object<'_>) -> Result<Condition, Error> {
    known_keys(argument, CONDITION_KEYS)?;
    let number = |key| argument.read(key, |value| value.number(u64::MAX));
    let (first, second) = (number("value")?.unwrap_or(0), number("valueTwo")?.unwrap_or(0));
    let (comparison, value) = argument.required("op", |op| {
        Ok(match one_of("comparison", op.text()?, COMPARISONS)? {
            "SCMP_CMP_EQ" => (Comparison::Equal, first),
            "SCMP_CMP_NE" => (Comparison::NotEqual, first),
            "SCMP_CMP_GT" => (Comparison::Greater, first),
            "SCMP_CMP_GE" => (Comparison::GreaterOrEqual, first),
            "SCMP_CMP_LT" => (Comparison::Less, first),
            "SCMP_CMP_LE" => (Comparison::LessOrEqual, first),
            _ => (Comparison::Masked(first), second),
        })
    })?;
    let argument = argument.required("index", |index| index.number(5))?;
    Ok(Condition { argument: argument as u8, comparison, value })
}

/// What an unknown key says would be lost, and it may be a known one misspelt.
fn known_keys(object: Object<'_>, known: &'static [&'static str]) -> Result<(), Error> {
    object.keys().try_for_each(|key| one_of("key", key, known).map(drop))
}

/// The word, out of these.
fn one_of(what: &str, word: &str, words: &'static [&'static str]) -> Result<&'static str, Error> {
    let known = words.iter().copied().find(|known| *known == word);
    known.ok_or_else(|| anyhow!("unknown {what} \"{word:.60}\"{}", misspelt(word, words).unwrap_or_default()))
}

/// `: did you mean …?`, where a word is none of these but much like one.
fn misspelt(word: &str, words: &[&str]) -> Option<String> {
    if words.contains(&word) || word.len() > 60 {
        return None;
    }
    let nearest = words.iter().max_by(|one, other| likeness(word, one).total_cmp(&likeness(word, other)))?;
    (likeness(word, nearest) > ALIKE).then(|| format!(": did you mean {nearest}?"))
}
