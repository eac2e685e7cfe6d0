//! Who the command runs as, who started us, and what lies between.

mod origin;

use std::fmt;

use anyhow::{Error, anyhow, bail};
use caps::Capability;

use crate::accounts;
use crate::capabilities::CapSet;
use crate::cli::Args;
use crate::environment::Home;
use crate::failure::hinted;
use crate::host::{Host, Setgroups};
use crate::ids::{Gid, Uid};
use crate::line_ends::{self, Trace};
use crate::plan::Groups;
use crate::printable::brief;
use crate::sys::{NGROUPS_MAX, Triple};
use crate::userspec::{Account, Part, UserSpec};
use origin::{Of, Origin, Shown, refuse_root};

/// The target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its entry in /etc/passwd, where there is one.
    pub entry: Option<Entry>,
    /// Its user id.
    pub uid: Uid,
    /// Its group id.
    pub gid: Gid,
    /// Its supplementary groups, each once, the primary one first (CVE-2022-36109 and its kin).
    pub groups: Vec<Gid>,
}

/// What the environment needs of a line in /etc/passwd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The login name.
    pub name: Vec<u8>,
    home: Vec<u8>,
    shell: Vec<u8>,
}

impl Identity {
    /// Looks the specification up.
    pub fn resolve(args: &Args, host: &Host) -> Result<Self, Error> {
        let found = match &args.spec {
            UserSpec::OwnerOf(path) => Named::owner_of(&crate::failure::lossy(path), host)?,
            UserSpec::Account { user, group } => Named::account(user, group.as_ref(), host)?,
        };
        let mut groups = vec![found.gid];
        if let Some(list) = &args.groups {
            for part in list {
                groups.push(group_of(part, "--groups", host)?);
            }
        } else if found.group == GroupIs::Entrys {
            groups.extend(found.groups_that_list_it(&args.spec, host)?);
        }
        let mut seen = std::collections::BTreeSet::new();
        groups.retain(|gid| seen.insert(*gid));
        let identity = Self { entry: found.entry.map(Entry::of), uid: found.uid, gid: found.gid, groups };
        if identity.groups.len() > NGROUPS_MAX {
            bail!("{identity} has {} groups; the kernel takes {NGROUPS_MAX} at most", identity.groups.len());
        }
        Ok(identity)
    }

    /// Lines of the account files that would have made another identity of it, and count for nothing.
    #[must_use]
    pub fn warnings(&self, args: &Args, host: &Host) -> Vec<String> {
        let own = self.entry.as_ref().map(|entry| entry.name.as_slice());
        let of_user = |user: &accounts::User<'_>| user.uid == self.uid || Some(user.name) == own;
        let users = accounts::lost_users(&host.passwd).filter(|found| of_user(&found.entry));
        let users = users.map(|found| lost(found.line, "/etc/passwd", found.trace));
        let listed = args.groups.is_none() && matches!(args.spec, UserSpec::Account { group: None, .. });
        let groups = accounts::lost_groups(&host.group).filter(|found| listed && own.is_some_and(|own| found.entry.lists(own)));
        let groups = groups.map(|found| {
            let name = String::from_utf8_lossy(found.entry.name);
            format!("without group {name}: {}", lost(found.line, "/etc/group", found.trace))
        });
        users.chain(groups).collect()
    }

    /// Whom `owner=` of a socket means: the ids alone.
    pub fn owner(spec: &UserSpec, host: &Host) -> Result<(Uid, Gid), Error> {
        let found = match spec {
            UserSpec::Account { user, group } => Named::account(user, group.as_ref(), host)?,
            UserSpec::OwnerOf(path) => Named::owner_of(&crate::failure::lossy(path), host)?,
        };
        Ok((found.uid, found.gid))
    }

    /// What of the environment is the account's.
    #[must_use]
    pub fn home(&self) -> Home {
        match &self.entry {
            Some(entry) => Home::Account { name: entry.name.clone(), home: entry.home.clone(), shell: entry.shell.clone() },
            None => Home::NoAccount,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(entry) = &self.entry {
            write!(out, "{} (uid {}, gid {})", String::from_utf8_lossy(&entry.name), self.uid, self.gid)
        } else {
            write!(out, "uid {}, gid {}", self.uid, self.gid)
        }
    }
}

impl Entry {
    fn of(user: accounts::User<'_>) -> Self {
        Self { name: user.name.to_vec(), home: user.home.to_vec(), shell: user.shell.to_vec() }
    }
}

/// Whom a specification names, and on whose word.
struct Named<'a> {
    entry: Option<accounts::User<'a>>,
    uid: Uid,
    gid: Gid,
    /// Of the user.
    origin: Origin,
    group: GroupIs,
}

/// Where the group came from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GroupIs {
    /// It is given: the user's other groups don't count.
    Given,
    /// It is the one of the user's entry.
    Entrys,
}

impl<'a> Named<'a> {
    fn owner_of(path: &str, host: &'a Host) -> Result<Self, Error> {
        let (uid, gid) = host.owner.ok_or_else(|| anyhow!("USER '@{path}': nobody looked"))?;
        refuse_root(uid, Origin::Path, Of::User, format_args!("USER '@{path}'"))?;
        refuse_root(gid, Origin::Path, Of::Group, format_args!("USER '@{path}'"))?;
        let none = |what| anyhow!("USER '@{path}': it belongs to no {what} that a process can have");
        let uid = Uid::new(uid).ok_or_else(|| none("user"))?;
        let gid = Gid::new(gid).ok_or_else(|| none("group"))?;
        let entry = accounts::users(&host.passwd).find(|user| user.uid == uid);
        Ok(Self { entry, uid, gid, origin: Origin::Path, group: GroupIs::Given })
    }

    fn account(user: &Part, group: Option<&Part>, host: &'a Host) -> Result<Self, Error> {
        let (account, origin) = expand(user, host)?;
        let entry = match &account {
            Account::Id(raw) => accounts::users(&host.passwd).find(|user| user.uid.get() == *raw),
            Account::Name(name) => Some(user_named(name, host)?),
        };
        let uid = match (&account, &entry) {
            (_, Some(entry)) => entry.uid,
            (Account::Id(raw), None) => Uid::new(*raw).ok_or_else(|| anyhow!("ids are 0 to 4294967294"))?,
            (Account::Name(name), None) => bail!("there is no user '{name}' in /etc/passwd"),
        };
        refuse_root(uid.get(), origin, Of::User, format_args!("USER '{}'", Shown(user)))?;
        let (gid, group) = match (group, &entry) {
            (Some(group), _) => (group_of(group, "GROUP", host)?, GroupIs::Given),
            (None, Some(entry)) => {
                refuse_root(
                    entry.gid.get(),
                    origin.of_its_groups(),
                    Of::Group,
                    format_args!("USER '{}': its group in /etc/passwd", Shown(user)),
                )?;
                (entry.gid, GroupIs::Entrys)
            }
            (None, None) => {
                let found = accounts::lost_users(&host.passwd).find(|lost| lost.entry.uid == uid);
                return Err(hinted(
                    format!("uid {uid} is not in /etc/passwd, so its group is unknown"),
                    found.map_or_else(|| format!("write {uid}:GID"), |found| lost(found.line, "/etc/passwd", found.trace)),
                ));
            }
        };
        Ok(Self { entry, uid, gid, origin, group })
    }

    /// The groups of /etc/group that list the user.
    fn groups_that_list_it(&self, spec: &UserSpec, host: &Host) -> Result<Vec<Gid>, Error> {
        let UserSpec::Account { user, .. } = spec else { return Ok(Vec::new()) };
        let name = self.entry.map(|entry| entry.name).unwrap_or_default();
        let mut groups = Vec::new();
        for group in accounts::groups(&host.group).filter(|group| group.lists(name)) {
            let shown = String::from_utf8_lossy(group.name);
            refuse_root(
                group.gid.get(),
                self.origin.of_its_groups(),
                Of::Group,
                format_args!("USER '{}': its group '{shown}' in /etc/group", Shown(user)),
            )?;
            groups.push(group.gid);
        }
        Ok(groups)
    }
}

/// The group that a part stands for. `place` is where it stands.
fn group_of(part: &Part, place: &str, host: &Host) -> Result<Gid, Error> {
    let (account, origin) = expand(part, host)?;
    let gid = group_id(&account, host)?;
    refuse_root(gid.get(), origin, Of::Group, format_args!("{place} '{}'", Shown(part)))?;
    Ok(gid)
}

fn expand(part: &Part, host: &Host) -> Result<(Account, Origin), Error> {
    let (name, default) = match part {
        Part::Literal(account) => return Ok((account.clone(), Origin::of_literal(account))),
        Part::Variable { name, default } => (name, default),
    };
    let came = host
        .environment
        .iter()
        .find_map(|entry| entry.to_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .filter(|value| !value.is_empty());
    let value = match (came, default) {
        (Some(value), _) => std::str::from_utf8(value).map_err(|_| anyhow!("the variable {name} is not UTF-8"))?,
        (None, Some(default)) => default,
        (None, None) => {
            return Err(hinted(
                format!("the variable {name} is unset or empty"),
                format!("set it, or write '${{{name}:-1000}}'"),
            ));
        }
    };
    let source = || if came.is_some() { format!("the variable {name}") } else { format!("the default of {name}") };
    if let Some(trace) = line_ends::trace(value.as_bytes()) {
        return Err(hinted(format!("{} is '{value}': it {trace}", source()), trace.mending_of_the_source()));
    }
    match Account::parse(value) {
        // A variable can't smuggle in what only the command line may say, or what no account is called.
        Ok(Account::Name(found)) if found.contains(['@', '$', '/']) => {
            bail!("{} is '{value}', which is no account", source())
        }
        Ok(account) => Ok((account, Origin::Variable)),
        Err(why) => bail!("{} is '{value}': {why}", source()),
    }
}

fn user_named<'a>(name: &str, host: &'a Host) -> Result<accounts::User<'a>, Error> {
    accounts::users(&host.passwd)
        .find(|user| user.name == name.as_bytes())
        .ok_or_else(|| not_found("user", name, "/etc/passwd", &host.passwd))
}

fn group_id(account: &Account, host: &Host) -> Result<Gid, Error> {
    match account {
        Account::Id(raw) => Gid::new(*raw).ok_or_else(|| anyhow!("ids are 0 to 4294967294")),
        Account::Name(name) => accounts::groups(&host.group)
            .find(|group| group.name == name.as_bytes())
            .map(|group| group.gid)
            .ok_or_else(|| not_found("group", name, "/etc/group", &host.group)),
    }
}

fn not_found(what: &str, name: &str, path: &str, file: &[u8]) -> Error {
    let message = format!("there is no {what} '{name}' in {path}");
    match accounts::malformed_line(file, name.as_bytes()) {
        Some((line, Some(trace))) => hinted(message, lost(line, path, trace)),
        Some((line, None)) => {
            hinted(message, format!("line {line} of {path} begins so, but is malformed and counts for nothing"))
        }
        None if file.is_empty() => hinted(message, format!("{path} is missing or empty; write UID:GID in numbers")),
        None => anyhow!(message),
    }
}

fn lost(line: usize, path: &str, trace: Trace) -> String {
    format!("line {line} of {path} {trace}, and counts for nothing: {}", trace.mending(path))
}

/// Who started us.
pub struct Starter {
    uids: Triple,
    gids: Triple,
    groups: Vec<u32>,
    effective: CapSet,
    setgroups: Setgroups,
}

impl Starter {
    /// Reads it off the host.
    #[must_use]
    pub fn of(host: &Host) -> Self {
        Self {
            uids: host.uids,
            gids: host.gids,
            groups: host.groups.clone(),
            effective: host.capabilities.effective,
            setgroups: host.setgroups,
        }
    }

    /// Whether the ids are the target's already.
    #[must_use]
    pub fn is(&self, target: &Identity) -> bool {
        self.uids.all(target.uid.get()) && self.gids.all(target.gid.get())
    }

    /// Whether the user is root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uids.effective == 0
    }

    /// The groups as found, where they can't be changed: for want of CAP_SETGID, or because the user namespace denies
    /// setgroups(2). Who started us gave them (fsGroup, `group_add`), or they are fewer than the target's; the plan names
    /// each, those that the namespace does not map by the number that stands for them all.
    #[must_use]
    pub fn groups_that_may_stay(&self, target: &Identity, listed: Option<&[Part]>) -> Option<Groups> {
        let can_be_changed = self.effective.has(Capability::CAP_SETGID) && self.setgroups == Setgroups::Allowed;
        let stay = !can_be_changed && self.groups_to_leave(target, listed).is_empty();
        stay.then(|| Groups::AsFound(self.groups.clone()))
    }

    /// Those that the command must not have: root's, which is only kept where it is written out; and of what `--groups` lists
    /// in so many words, whatever is beyond it.
    fn groups_to_leave(&self, target: &Identity, listed: Option<&[Part]>) -> Vec<u32> {
        let is_targets = |group: u32| target.groups.iter().any(|gid| gid.get() == group);
        self.groups.iter().copied().filter(|&group| !is_targets(group) && (group == 0 || listed.is_some())).collect()
    }

    /// The capabilities without which the switch can't be made.
    #[must_use]
    pub fn missing_for(&self, target: &Identity) -> CapSet {
        let mut needed = CapSet(1 << Capability::CAP_SETGID.index());
        if !self.uids.all(target.uid.get()) {
            needed.0 |= 1 << Capability::CAP_SETUID.index();
        }
        needed.without(self.effective)
    }

    /// Ourselves, as a target. Never as root, under any of its three ids, where root is not the target: who wrote another
    /// user meant that root is given up, and a container without capabilities (`--cap-drop ALL`) is root's all the same,
    /// by its files. gid 0 stays: it is what OpenShift's random uids have.
    pub fn bystander(&self, target: &Identity, listed: Option<&[Part]>, missing: CapSet) -> Result<(Identity, Groups), Error> {
        let Triple { real, effective, saved } = self.uids;
        if [real, effective, saved].contains(&0) && target.uid != Uid::ROOT {
            return Err(self.cannot_become(target, listed, missing));
        }
        let one = |ids: Triple, what: &str| {
            if ids.all(ids.real) { Ok(ids.real) } else { Err(anyhow!("--if-root: real, effective and saved {what} differ")) }
        };
        let uid = Uid::new(one(self.uids, "uid")?).ok_or_else(|| anyhow!("the kernel has no uid for this process"))?;
        let gid = Gid::new(one(self.gids, "gid")?).ok_or_else(|| anyhow!("the kernel has no gid for this process"))?;
        let groups = self.groups.iter().filter_map(|&raw| Gid::new(raw)).collect();
        Ok((Identity { entry: None, uid, gid, groups }, Groups::AsFound(self.groups.clone())))
    }

    /// Says who we are, what is missing and what to do.
    #[must_use]
    pub fn cannot_become(&self, target: &Identity, listed: Option<&[Part]>, missing: CapSet) -> Error {
        let Self { uids, gids, .. } = self;
        if self.is(target) {
            let beyond = self.groups_to_leave(target, listed);
            return hinted(
                format!(
                    "started as {target} already, but in groups [{}] besides, and {missing} is missing to leave them",
                    brief(&beyond, ", ")
                ),
                "start without these groups, name them with --groups, or use --if-root to keep them",
            );
        }
        let names: Vec<&str> = [("SETUID", Capability::CAP_SETUID), ("SETGID", Capability::CAP_SETGID)]
            .iter()
            .filter(|(_, capability)| missing.has(*capability))
            .map(|(name, _)| *name)
            .collect();
        let docker: String = names.iter().map(|name| format!(" --cap-add {name}")).collect();
        let (names, ids) = (names.join(", "), format!("{}:{}", target.uid, target.gid));
        let hint = if self.is_root() {
            format!(
                "add it (Docker:{docker}; Kubernetes: capabilities.add: [{names}]; systemd: CapabilityBoundingSet=), start as {ids} \
                 at once (USER {ids} in the Dockerfile, docker run -u {ids}, runAsUser:), or write root where root is meant"
            )
        } else {
            format!(
                "start as root with it (Docker: -u 0{docker}; Kubernetes: runAsUser: 0, capabilities.add: [{names}]; systemd: no \
                 User=), start as {ids} at once, or use --if-root"
            )
        };
        hinted(
            format!(
                "started as uid {}, gid {}, which can't become {target}: {missing} is missing",
                uids.effective, gids.effective
            ),
            hint,
        )
    }
}
