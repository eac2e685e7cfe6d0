//! Who the command runs as, who started us, and what lies between.

use std::fmt;

use anyhow::{Error, anyhow, bail};
use caps::Capability;

use crate::accounts;
use crate::capabilities::CapSet;
use crate::cli::Args;
use crate::environment::Home;
use crate::failure::hinted;
use crate::host::Host;
use crate::ids::{Gid, Uid};
use crate::plan::Groups;
use crate::sys::{NGROUPS_MAX, Triple};
use crate::userspec::{Account, Part, UserSpec};

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

/// Where a word of the specification came from: only what is written out may mean root.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    WrittenOut,
    Variable,
}

impl Identity {
    /// Looks the specification up.
    pub fn resolve(args: &Args, host: &Host) -> Result<Self, Error> {
        let mut identity = match &args.spec {
            UserSpec::OwnerOf(path) => Self::owner_of(&crate::failure::lossy(path), host)?,
            UserSpec::Account { user, group } => Self::account(user, group.as_ref(), host)?,
        };
        if let Some(list) = &args.groups {
            identity.groups = vec![identity.gid];
            for part in list {
                let (account, _) = expand(part, host)?;
                identity.groups.push(group_id(&account, host)?);
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        identity.groups.retain(|gid| seen.insert(*gid));
        if identity.groups.len() > NGROUPS_MAX {
            bail!("{identity} has {} groups; the kernel takes {NGROUPS_MAX} at most", identity.groups.len());
        }
        Ok(identity)
    }

    fn owner_of(path: &str, host: &Host) -> Result<Self, Error> {
        let (uid, gid) = host.owner.ok_or_else(|| anyhow!("USER '@{path}': nobody looked"))?;
        let refused = |what: &str| {
            hinted(
                format!("USER '@{path}': it belongs to {what}, and root is only run as where it is written out"),
                "give the path its owner, or write root",
            )
        };
        let uid = Uid::new(uid).filter(|&uid| uid != Uid::ROOT).ok_or_else(|| refused("uid 0"))?;
        let gid = Gid::new(gid).filter(|&gid| gid != Gid::ROOT).ok_or_else(|| refused("gid 0"))?;
        let entry = accounts::users(&host.passwd).find(|user| user.uid == uid).map(Entry::of);
        Ok(Self { entry, uid, gid, groups: vec![gid] })
    }

    fn account(user: &Part, group: Option<&Part>, host: &Host) -> Result<Self, Error> {
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
        let said_root =
            origin == Origin::WrittenOut && matches!(&account, Account::Id(0)) || account == Account::Name("root".to_owned());
        if uid == Uid::ROOT && !(said_root && origin == Origin::WrittenOut) {
            return Err(hinted(
                format!("USER '{}' is uid 0, and root is only run as where 'root' or '0' is written out", Shown(user)),
                "name an ordinary user, or write root",
            ));
        }
        let (gid, groups) = match (group, &entry) {
            (Some(group), _) => {
                let (account, origin) = expand(group, host)?;
                let gid = group_id(&account, host)?;
                if gid == Gid::ROOT && origin == Origin::Variable {
                    bail!("GROUP '{}' is gid 0, and root's group is only taken where it is written out", Shown(group));
                }
                (gid, vec![gid])
            }
            (None, Some(entry)) => {
                let listed = accounts::groups(&host.group).filter(|group| group.lists(entry.name)).map(|group| group.gid);
                (entry.gid, std::iter::once(entry.gid).chain(listed).collect())
            }
            (None, None) => {
                return Err(hinted(
                    format!("uid {uid} is not in /etc/passwd, so its group is unknown"),
                    format!("write {uid}:GID"),
                ));
            }
        };
        Ok(Self { entry: entry.map(Entry::of), uid, gid, groups })
    }

    /// Whom `owner=` of a socket means: the ids alone.
    pub fn owner(spec: &UserSpec, host: &Host) -> Result<(Uid, Gid), Error> {
        match spec {
            UserSpec::Account { user, group } => {
                Self::account(user, group.as_ref(), host).map(|identity| (identity.uid, identity.gid))
            }
            UserSpec::OwnerOf(path) => {
                Self::owner_of(&crate::failure::lossy(path), host).map(|identity| (identity.uid, identity.gid))
            }
        }
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

/// A part as it was typed.
struct Shown<'a>(&'a Part);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Part::Literal(Account::Id(raw)) => raw.fmt(out),
            Part::Literal(Account::Name(name)) => out.write_str(name),
            Part::Variable { name, .. } => write!(out, "${name}"),
        }
    }
}

fn expand(part: &Part, host: &Host) -> Result<(Account, Origin), Error> {
    let (name, default) = match part {
        Part::Literal(account) => return Ok((account.clone(), Origin::WrittenOut)),
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
    match Account::parse(value) {
        // A variable can't smuggle in what only the command line may say, or what no account is called.
        Ok(Account::Name(found)) if found.contains(['@', '$', '/']) => {
            bail!("the variable {name} is '{value}', which is no account")
        }
        Ok(account) => Ok((account, Origin::Variable)),
        Err(why) => bail!("the variable {name} is '{value}': {why}"),
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
        Some(line) => hinted(message, format!("line {line} of {path} begins so, but is malformed and counts for nothing")),
        None if file.is_empty() => hinted(message, format!("{path} is missing or empty; write UID:GID in numbers")),
        None => anyhow!(message),
    }
}

/// Who started us.
pub struct Starter {
    uids: Triple,
    gids: Triple,
    groups: Vec<u32>,
    effective: CapSet,
}

impl Starter {
    /// Reads it off the host.
    #[must_use]
    pub fn of(host: &Host) -> Self {
        Self { uids: host.uids, gids: host.gids, groups: host.groups.clone(), effective: host.capabilities.effective }
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

    /// The groups as found, where they can't be changed and none is beyond the target's.
    #[must_use]
    pub fn groups_that_may_stay(&self, target: &Identity) -> Option<Groups> {
        let beyond = |group: &&u32| !target.groups.iter().any(|gid| gid.get() == **group);
        let stay = !self.effective.has(Capability::CAP_SETGID) && self.groups.iter().find(beyond).is_none();
        stay.then(|| Groups::AsFound(self.groups.clone()))
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

    /// Ourselves, as a target.
    pub fn bystander(&self) -> Result<(Identity, Groups), Error> {
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
    pub fn cannot_become(&self, target: &Identity, missing: CapSet) -> Error {
        let Self { uids, gids, .. } = self;
        if self.is(target) {
            let beyond: Vec<u32> =
                self.groups.iter().copied().filter(|group| !target.groups.iter().any(|gid| gid.get() == *group)).collect();
            return hinted(
                format!("started as {target} already, but in groups {beyond:?} besides, and {missing} is missing to leave them"),
                "start without these groups, name them with --groups, or use --if-root to keep them",
            );
        }
        let names: Vec<&str> = [("SETUID", Capability::CAP_SETUID), ("SETGID", Capability::CAP_SETGID)]
            .iter()
            .filter(|(_, capability)| missing.has(*capability))
            .map(|(name, _)| *name)
            .collect();
        let docker: String = names.iter().map(|name| format!(" --cap-add {name}")).collect();
        hinted(
            format!(
                "started as uid {}, gid {}, which can't become {target}: {missing} is missing",
                uids.effective, gids.effective
            ),
            format!(
                "start as root with it (Docker: -u 0{docker}; Kubernetes: runAsUser: 0, capabilities.add: [{}]; systemd: no User=), \
                 start as {}:{} at once, or use --if-root",
                names.join(", "),
                target.uid,
                target.gid
            ),
        )
    }
}
