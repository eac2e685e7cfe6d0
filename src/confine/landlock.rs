//! Files and ports by Landlock: landlock(7).
//!
//! What a rule means does not depend on the kernel: all that ABI 5 can deny of files, all that ABI 4 can of TCP ports,
//! what ABI 6 can of abstract sockets and signals. A kernel that knows less is an error, unless it was said to do its best.

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, AddRuleError, AddRulesError, BitFlags, CompatLevel, Compatible, CreateRulesetError,
    NetPort, PathBeneath, RestrictSelfError, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use anyhow::{Context, Error, bail};
use nix::errno::Errno;

use super::trial::Attempts;
use crate::acquire;
use crate::capabilities::CapSet;
use crate::cli::{Confinement, Effort, PathAccess, PathRule, Ports, Scope};
use crate::failure::{call, hinted};
use crate::pathwalk;
use crate::plan::Plan;

/// A rule as it is told, and what of it this kernel can't enforce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// As it was typed.
    pub rule: String,
    /// What lacks, and what it takes; nothing where it is enforced wholly.
    pub lacking: Vec<String>,
}

/// Landlock's part of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The kernel's ABI.
    pub abi: u32,
    /// What may be done to which files; where there is none, all that the user may.
    pub paths: Vec<PathRule>,
    /// Which ports may be bound.
    pub bind: Option<Ports>,
    /// Which ports may be connected to.
    pub connect: Option<Ports>,
    /// Whether abstract sockets and signals reach outside.
    pub scope: Scope,
}

/// What Landlock has learned since it was there, with the ABI and the kernel that brought it.
struct Lesson {
    abi: u32,
    linux: &'static str,
    what: &'static str,
}

const LESSONS: [Lesson; 6] = [
    Lesson { abi: 1, linux: "5.13", what: "files" },
    Lesson { abi: 2, linux: "5.19", what: "moves between directories (all are refused)" },
    Lesson { abi: 3, linux: "6.2", what: "truncate(2)" },
    Lesson { abi: 4, linux: "6.7", what: "TCP ports" },
    Lesson { abi: 5, linux: "6.10", what: "ioctl(2) of devices" },
    Lesson { abi: 6, linux: "6.12", what: "abstract sockets and signals" },
];

const OF_FILES: [u32; 4] = [1, 2, 3, 5];
const OF_PORTS: [u32; 1] = [4];
const OF_SCOPE: [u32; 1] = [6];

/// What was typed of it, each with the lessons that it needs.
fn typed(wanted: &Confinement) -> impl Iterator<Item = (String, &'static [u32])> {
    let paths = wanted.paths.iter().map(|rule| (rule.to_string(), &OF_FILES[..]));
    let bind = wanted.bind.iter().map(|ports| (format!("--bind-tcp {ports}"), &OF_PORTS[..]));
    let connect = wanted.connect.iter().map(|ports| (format!("--connect-tcp {ports}"), &OF_PORTS[..]));
    let scope = (wanted.scope == Scope::Own).then(|| ("--scope".to_owned(), &OF_SCOPE[..]));
    paths.chain(bind).chain(connect).chain(scope)
}

/// The first thing that was typed of it.
pub fn first(wanted: &Confinement) -> Option<String> {
    typed(wanted).next().map(|(name, _)| name)
}

impl Rules {
    /// What of it this kernel enforces, and what is told of each; a rule that it does not wholly enforce is an error,
    /// unless it is to do its best.
    pub fn resolve(wanted: &Confinement, found: Result<u32, Errno>) -> Result<(Option<Self>, Vec<Told>), Error> {
        let abi = found.unwrap_or(0);
        let lacking =
            |needed: &'static [u32]| LESSONS.iter().filter(move |lesson| needed.contains(&lesson.abi) && lesson.abi > abi);
        if wanted.effort == Effort::Strict {
            let mut short = typed(wanted).filter(|(_, needed)| lacking(needed).next().is_some());
            if let Some((name, needed)) = short.next() {
                return Err(refusal(&name, found, &lacking(needed).collect::<Vec<_>>()));
            }
        }
        let told = typed(wanted)
            .map(|(rule, needed)| Told { rule, lacking: lacking(needed).map(|lesson| lesson.told(found)).collect() });
        let rules = Self {
            abi,
            paths: if abi >= 1 { wanted.paths.clone() } else { Vec::new() },
            bind: wanted.bind.clone().filter(|_| abi >= 4),
            connect: wanted.connect.clone().filter(|_| abi >= 4),
            scope: if abi >= 6 { wanted.scope } else { Scope::Open },
        };
        let nothing = rules.paths.is_empty() && rules.bind.is_none() && rules.connect.is_none() && rules.scope == Scope::Open;
        Ok(((!nothing).then_some(rules), told.collect()))
    }

    /// All rights that the rules of files take away where none gives them.
    fn files(&self) -> BitFlags<AccessFs> {
        AccessFs::from_all(known(self.abi.min(5)))
    }
}

impl Lesson {
    fn told(&self, found: Result<u32, Errno>) -> String {
        let Self { abi, linux, what } = self;
        let kernels = found.map_or_else(|errno| format!("none ({errno})"), |abi| format!("ABI {abi}"));
        format!("{what}: Landlock ABI {abi} (Linux {linux}) is needed, and this kernel has {kernels}")
    }
}

fn refusal(rule: &str, found: Result<u32, Errno>, lacking: &[&Lesson]) -> Error {
    let most = lacking.last().map_or("", |lesson| lesson.linux);
    let goes_on = "--best-effort goes on without, and says so";
    let (why, hint) = match found {
        Ok(abi) => {
            let lacking: Vec<String> =
                lacking.iter().map(|lesson| format!("{} (ABI {}, Linux {})", lesson.what, lesson.abi, lesson.linux)).collect();
            (
                format!("this kernel's Landlock, ABI {abi}, can't restrict {}", lacking.join(", ")),
                format!("Linux {most} can; {goes_on}"),
            )
        }
        Err(Errno::EOPNOTSUPP) => {
            ("this kernel was started without Landlock".to_owned(), format!("add landlock to the boot parameter lsm=; {goes_on}"))
        }
        Err(Errno::ENOSYS) => (
            "this kernel has no Landlock, which came with Linux 5.13".to_owned(),
            format!("this rule needs Linux {most}; {goes_on}"),
        ),
        Err(_) => (
            "Landlock is forbidden here".to_owned(),
            format!("a container engine's own filter may not know it: Docker's does since version 23; {goes_on}"),
        ),
    };
    let call = found.err().map_or_else(String::new, |errno| format!(": landlock_create_ruleset: {errno}"));
    hinted(format!("{rule}: {why}{call}"), hint)
}

fn known(abi: u32) -> ABI {
    ABI::from(i32::try_from(abi).unwrap_or(0))
}

/// What the words of the options stand for. Devices can't be made: that is root's.
fn rights(access: PathAccess) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::IoctlDev
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSym
        | AccessFs::MakeFifo
        | AccessFs::MakeSock
        | AccessFs::Refer;
    match access {
        PathAccess::Read => read,
        PathAccess::ReadExecute => read | AccessFs::Execute,
        PathAccess::ReadWrite => read | write,
        PathAccess::ReadWriteExecute => read | write | AccessFs::Execute,
    }
}

/// A path that can't be opened is an error; one that --mkdir is about to make is not missing.
pub fn check(rules: &Rules, plan: &Plan) -> Result<(), Error> {
    for rule in &rules.paths {
        match find(rule) {
            Err(error) if error.downcast_ref() == Some(&Errno::ENOENT) && acquire::may_be_made(&rule.path, plan) => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// A rule takes away and never gives, so it matters little who put there what it names: links alone have to be root's.
fn find(rule: &PathRule) -> Result<pathwalk::Found, Error> {
    pathwalk::find(&rule.path).with_context(|| rule.to_string())
}

/// Rules that the kernel holds, in force for nobody yet.
pub struct Ruleset {
    created: RulesetCreated,
    rules: Rules,
    /// Whether a rule names `/` itself.
    root: Root,
}

/// Whether all files are below a rule.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// `/` is the path of one.
    Named,
    /// It is of none, so that opening it must fail.
    Unnamed,
}

impl Ruleset {
    /// Opens the paths, and hands the rules to the kernel.
    pub fn create(rules: &Rules) -> Result<Self, Error> {
        let mut ruleset = ::landlock::Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        if !rules.paths.is_empty() {
            ruleset = ruleset.handle_access(rules.files()).map_err(explain)?;
        }
        if rules.bind.is_some() {
            ruleset = ruleset.handle_access(AccessNet::BindTcp).map_err(explain)?;
        }
        if rules.connect.is_some() {
            ruleset = ruleset.handle_access(AccessNet::ConnectTcp).map_err(explain)?;
        }
        if rules.scope == Scope::Own {
            ruleset = ruleset.scope(::landlock::Scope::from_all(ABI::V6)).map_err(explain)?;
        }
        // no_new_privs is set, and proved.
        let created = ruleset.create().map_err(explain)?.no_new_privs(false);
        let mut all = Self { created, rules: rules.clone(), root: Root::Unnamed };
        rules.paths.iter().try_for_each(|rule| all.add_path(rule))?;
        all.add_ports(rules.bind.as_ref(), AccessNet::BindTcp)?;
        all.add_ports(rules.connect.as_ref(), AccessNet::ConnectTcp)?;
        Ok(all)
    }

    fn add_path(&mut self, rule: &PathRule) -> Result<(), Error> {
        let found = find(rule)?;
        let (here, root) = (found.facts, pathwalk::find(c"/")?.facts);
        if here.identity == root.identity {
            self.root = Root::Named;
        }
        // What is done in a directory can't be done to a file.
        let possible = if here.mode & libc::S_IFMT == libc::S_IFDIR {
            self.rules.files()
        } else {
            AccessFs::from_file(known(self.rules.abi.min(5)))
        };
        let access = rights(rule.access) & possible;
        (&mut self.created)
            .add_rule(PathBeneath::new(&found.file, access))
            .map(drop)
            .map_err(explain)
            .with_context(|| rule.to_string())
    }

    fn add_ports(&mut self, ports: Option<&Ports>, access: AccessNet) -> Result<(), Error> {
        for port in ports.into_iter().flat_map(Ports::each) {
            (&mut self.created).add_rule(NetPort::new(port, access)).map_err(explain)?;
        }
        Ok(())
    }

    /// Puts them in force for this process and all that it starts, for good; and tries them.
    pub fn restrict(self, kept: CapSet) -> Result<(), Error> {
        let attempts = Attempts::before(&self.rules, self.root, kept);
        let status = self.created.restrict_self().map_err(explain)?;
        if status.ruleset != RulesetStatus::FullyEnforced {
            bail!("landlock_restrict_self: not all rules are in force");
        }
        attempts.after()
    }
}

/// The call and its error number. All else that the crate may say would be a mistake of ours: that a right is not known to
/// the ABI that the kernel itself named.
fn explain(error: RulesetError) -> Error {
    let (name, source) = match error {
        RulesetError::CreateRuleset(CreateRulesetError::CreateRulesetCall { source, .. }) => ("landlock_create_ruleset", source),
        RulesetError::AddRules(
            AddRulesError::Fs(AddRuleError::AddRuleCall { source, .. })
            | AddRulesError::Net(AddRuleError::AddRuleCall { source, .. }),
        ) => ("landlock_add_rule", source),
        RulesetError::RestrictSelf(RestrictSelfError::RestrictSelfCall { source, .. }) => ("landlock_restrict_self", source),
        _ => return Error::msg("Landlock does not know its own rules"),
    };
    call(name, source.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(effort: Effort) -> Confinement {
        let rule = PathRule { path: c"/usr".to_owned(), access: PathAccess::Read };
        Confinement { paths: vec![rule], scope: Scope::Own, effort, ..Confinement::default() }
    }

    /// What is said on a kernel that has this.
    fn strictly(found: Result<u32, Errno>) -> String {
        Rules::resolve(&wanted(Effort::Strict), found).map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn strict_names_what_is_missing_and_which_kernel_has_it() {
        assert_eq!(strictly(Ok(6)), "");
        assert_eq!(strictly(Ok(9)), "");
        assert_eq!(
            strictly(Ok(2)),
            "--ro /usr: this kernel's Landlock, ABI 2, can't restrict truncate(2) (ABI 3, Linux 6.2), ioctl(2) of devices (ABI 5, Linux 6.10)"
        );
        assert_eq!(
            strictly(Ok(5)),
            "--scope: this kernel's Landlock, ABI 5, can't restrict abstract sockets and signals (ABI 6, Linux 6.12)"
        );
        assert!(strictly(Err(Errno::ENOSYS)).starts_with("--ro /usr: this kernel has no Landlock, which came with Linux 5.13"));
        assert!(strictly(Err(Errno::EOPNOTSUPP)).contains("was started without Landlock"));
        assert!(strictly(Err(Errno::EPERM)).contains("landlock_create_ruleset: EPERM"));
    }

    #[test]
    fn best_effort_keeps_what_the_kernel_has_and_tells_the_rest() -> Result<(), Error> {
        for (found, paths, scope, lacking) in [
            (Ok(6), 1, Scope::Own, [0, 0]),
            (Ok(5), 1, Scope::Open, [0, 1]),
            (Ok(2), 1, Scope::Open, [2, 1]),
            (Ok(1), 1, Scope::Open, [3, 1]),
        ] {
            let (rules, told) = Rules::resolve(&wanted(Effort::Best), found)?;
            let rules = rules.context("no rules")?;
            assert_eq!((rules.paths.len(), rules.scope), (paths, scope), "{found:?}");
            assert_eq!(told.iter().map(|told| told.lacking.len()).collect::<Vec<_>>(), lacking, "{found:?}");
        }
        let (rules, told) = Rules::resolve(&wanted(Effort::Best), Err(Errno::ENOSYS))?;
        assert!(rules.is_none());
        assert_eq!(told.iter().map(|told| told.lacking.len()).collect::<Vec<_>>(), [4, 1]);
        Ok(())
    }
}
