//! The command's environment: a value in the plan, made of what came, what the target's account says, and
//! what was asked for.

use std::borrow::Cow;
use std::ffi::{CStr, CString};

use anyhow::{Error, bail};

use crate::activation;
use crate::cli::{Args, InheritedEnvironment};
use crate::failure::hinted;

/// Entries as execve(2) takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment(Vec<Cow<'static, CStr>>);

/// What of the environment belongs to the account.
pub enum Home {
    /// HOME, USER, LOGNAME and SHELL of an entry in /etc/passwd.
    Account {
        /// The login name.
        name: Vec<u8>,
        /// The home directory; where it is empty, `/`.
        home: Vec<u8>,
        /// The login shell; where it is empty, SHELL is unset.
        shell: Vec<u8>,
    },
    /// The target has no entry: HOME is `/`, the others are unset.
    NoAccount,
    /// Nobody switches: they stay as they came.
    AsFound,
}

const OF_THE_ACCOUNT: [&[u8]; 4] = [b"HOME", b"USER", b"LOGNAME", b"SHELL"];

impl Environment {
    /// Refuses what contradicts itself on the command line.
    pub fn check(args: &Args, came: &[&CStr]) -> Result<(), Error> {
        args.files.secrets.iter().try_for_each(|secret| check_secret(secret.name.as_bytes(), args, came))?;
        for (index, set) in args.env.iter().enumerate() {
            let name = name_of(set);
            let shown = String::from_utf8_lossy(name);
            if activation::VARIABLES.contains(&name) {
                bail!("--env {shown}: only --listen says what sockets are handed on");
            }
            if args.unset_env.iter().any(|unset| unset == name) {
                bail!("{shown} is given to --env and to --unset-env");
            }
            if args.env.iter().take(index).any(|earlier| name_of(earlier) == name) {
                bail!("--env {shown} is given twice");
            }
        }
        Ok(())
    }

    /// Puts it together: what came (or nothing), the account's, what is handed on, `--unset-env`, `--env`.
    pub fn new(came: &[&'static CStr], args: &Args, home: &Home, handed: Vec<(&[u8], Vec<u8>)>) -> Result<Self, Error> {
        let account = match home {
            Home::AsFound => &[][..],
            Home::Account { .. } | Home::NoAccount => &OF_THE_ACCOUNT,
        };
        let replaced = |entry: &CStr| {
            let name = name_of(entry);
            account.contains(&name)
                || activation::VARIABLES.contains(&name)
                || args.unset_env.iter().any(|unset| unset == name)
                || args.env.iter().any(|set| name_of(set) == name)
        };
        let mut entries = Vec::with_capacity(came.len() + 8);
        if args.inherited_environment == InheritedEnvironment::Kept {
            entries.extend(came.iter().copied().filter(|entry| !replaced(entry)).map(Cow::Borrowed));
        }
        let set_later =
            |name: &[u8]| args.unset_env.iter().any(|unset| unset == name) || args.env.iter().any(|set| name_of(set) == name);
        for (name, value) in home.variables().into_iter().filter(|(name, _)| !set_later(name)) {
            entries.push(entry(name, value)?);
        }
        for (name, value) in handed {
            entries.push(entry(name, &value)?);
        }
        entries.extend(args.env.iter().cloned().map(Cow::Owned));
        Ok(Self(entries))
    }

    /// Puts the number of the process that the sockets are handed to where it is missing.
    pub fn set_process_id(&mut self, pid: i32) -> Result<(), Error> {
        for place in self.0.iter_mut().filter(|entry| entry.to_bytes() == b"LISTEN_PID=") {
            *place = entry(b"LISTEN_PID", pid.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// The entries.
    pub fn entries(&self) -> impl Iterator<Item = &CStr> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.entries().map(name_of)
    }

    /// The value of a variable: the first, as getenv(3) finds it.
    #[must_use]
    pub fn value(&self, name: &[u8]) -> Option<&[u8]> {
        self.entries().find(|entry| name_of(entry) == name).and_then(|entry| entry.to_bytes().get(name.len() + 1..))
    }
}

/// A variable that is set already may be what the command lives by, so a secret never takes its place.
fn check_secret(name: &[u8], args: &Args, came: &[&CStr]) -> Result<(), Error> {
    let shown = String::from_utf8_lossy(name);
    let is_cleared = args.inherited_environment == InheritedEnvironment::Cleared;
    if activation::VARIABLES.contains(&name) || OF_THE_ACCOUNT.contains(&name) {
        bail!("--secret {shown}: stepdown itself sets that variable");
    }
    if args.env.iter().any(|set| name_of(set) == name) {
        bail!("{shown} is given to --secret and to --env");
    }
    if args.unset_env.iter().any(|unset| unset == name) {
        bail!("{shown} is given to --secret and to --unset-env");
    }
    if !is_cleared && came.iter().any(|entry| name_of(entry) == name) {
        return Err(hinted(
            format!("--secret {shown}: the variable is set already"),
            "choose another name, or unset it where stepdown is started",
        ));
    }
    Ok(())
}

impl Home {
    fn variables(&self) -> Vec<(&'static [u8], &[u8])> {
        let [home_name, user, logname, shell_name] = OF_THE_ACCOUNT;
        match self {
            Self::AsFound => Vec::new(),
            Self::NoAccount => vec![(home_name, b"/")],
            Self::Account { name, home, shell } => {
                let home: &[u8] = if home.is_empty() { b"/" } else { home };
                let mut all = vec![(home_name, home), (user, name), (logname, name)];
                if !shell.is_empty() {
                    all.push((shell_name, shell));
                }
                all
            }
        }
    }
}

fn entry(name: &[u8], value: &[u8]) -> Result<Cow<'static, CStr>, Error> {
    Ok(Cow::Owned(CString::new([name, b"=", value].concat())?))
}

/// What stands before the first `=`; all of it where there is none.
fn name_of(entry: &CStr) -> &[u8] {
    entry.to_bytes().split(|&byte| byte == b'=').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::userspec::{Account, Part, UserSpec};

    fn args() -> Args {
        let user = Part::Literal(Account::Id(1));
        Args::new(UserSpec::Account { user, group: None }, vec![c"x"])
    }

    fn node() -> Home {
        Home::Account { name: b"node".to_vec(), home: b"/home/node".to_vec(), shell: b"/bin/sh".to_vec() }
    }

    fn build(came: &[&'static CStr], args: &Args, home: &Home) -> Result<Vec<String>, Error> {
        let built = Environment::new(came, args, home, Vec::new())?;
        Ok(built.entries().map(|entry| entry.to_string_lossy().into_owned()).collect())
    }

    const ROOTS: [&CStr; 6] = [c"PATH=/bin", c"HOME=/root", c"USER=root", c"LOGNAME=root", c"SHELL=/bin/bash", c"A=1"];

    #[test]
    fn home_user_logname_and_shell_are_the_targets_and_nothing_else_changes() -> Result<(), Error> {
        let expected = ["PATH=/bin", "A=1", "HOME=/home/node", "USER=node", "LOGNAME=node", "SHELL=/bin/sh"];
        assert_eq!(build(&ROOTS, &args(), &node())?, expected);
        assert_eq!(build(&[c"odd", c"HOME", c"=x"], &args(), &Home::NoAccount)?, ["odd", "=x", "HOME=/"]);
        Ok(())
    }

    #[test]
    fn without_an_entry_home_is_the_root_directory_and_the_others_are_unset() -> Result<(), Error> {
        assert_eq!(build(&ROOTS, &args(), &Home::NoAccount)?, ["PATH=/bin", "A=1", "HOME=/"]);
        Ok(())
    }

    #[test]
    fn an_empty_home_is_the_root_directory_and_an_empty_shell_is_unset() -> Result<(), Error> {
        let bare = Home::Account { name: b"bare".to_vec(), home: Vec::new(), shell: Vec::new() };
        assert_eq!(build(&[], &args(), &bare)?, ["HOME=/", "USER=bare", "LOGNAME=bare"]);
        Ok(())
    }

    #[test]
    fn what_was_asked_for_comes_last_and_wins() -> Result<(), Error> {
        let mut args = args();
        args.env = vec![c"HOME=/srv".to_owned(), c"B=2".to_owned()];
        args.unset_env = vec![b"A".to_vec(), b"SHELL".to_vec()];
        assert_eq!(build(&ROOTS, &args, &node())?, ["PATH=/bin", "USER=node", "LOGNAME=node", "HOME=/srv", "B=2"]);
        args.inherited_environment = InheritedEnvironment::Cleared;
        assert_eq!(build(&ROOTS, &args, &node())?, ["USER=node", "LOGNAME=node", "HOME=/srv", "B=2"]);
        Ok(())
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (env, unset) in [(c"A=1", "A"), (c"LISTEN_FDS=1", "B"), (c"LISTEN_PIDFDID=1", "B")] {
            let mut args = args();
            args.env = vec![env.to_owned()];
            args.unset_env = vec![unset.as_bytes().to_vec()];
            assert!(Environment::check(&args, &[]).is_err(), "{env:?}");
        }
    }

    #[test]
    fn sockets_not_handed_on_leave_no_variable() -> Result<(), Error> {
        let came = [c"LISTEN_FDS=1", c"LISTEN_PID=1", c"LISTEN_FDNAMES=a", c"LISTEN_PIDFDID=3", c"LISTEN=x"];
        assert_eq!(build(&came, &args(), &Home::AsFound)?, ["LISTEN=x"]);
        Ok(())
    }
}
