//! The protocol by which sockets are handed on: sd_listen_fds(3).
//!
//! Descriptors from 3 on, `LISTEN_FDS` of them, meant for the process `LISTEN_PID`, called `LISTEN_FDNAMES`.

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

use crate::ids;
use crate::line_ends;

/// SD_LISTEN_FDS_START.
pub const FIRST: RawFd = 3;

/// The protocol's variables: all are replaced together or go together.
pub const VARIABLES: [&[u8]; 4] = [b"LISTEN_FDS", b"LISTEN_PID", b"LISTEN_FDNAMES", b"LISTEN_PIDFDID"];

/// What a service manager handed to this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inherited {
    /// Nothing, or nothing that is meant for this process.
    Nothing,
    /// Descriptors from 3 on, by their names.
    Sockets {
        /// One name each, `unknown` where none was given.
        names: Vec<String>,
        /// LISTEN_PIDFDID, right as long as the process id is.
        pidfd_id: Option<CString>,
    },
    /// Meant for this process, but it does not fit what is open.
    Unfit(&'static str),
}

impl Inherited {
    /// The names; none where nothing was handed on.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match self {
            Self::Sockets { names, .. } => names,
            Self::Nothing | Self::Unfit(_) => &[],
        }
    }
}

/// What the protocol's variables are held against.
pub struct Process<Open, Id> {
    /// Own process id.
    pub pid: i32,
    /// Own pidfd's inode, where the kernel tells it: asked for only where LISTEN_PIDFDID is set.
    pub pidfd_id: Id,
    /// Whether a descriptor is open.
    pub is_open: Open,
}

/// Reads the protocol's variables. A process id is used again when its process is gone, so LISTEN_PIDFDID must be
/// right as well where it is set; where the kernel can't tell, LISTEN_PID decides, as in sd_listen_fds(3).
pub fn inherited(environment: &[&CStr], own: &Process<impl Fn(RawFd) -> bool, impl Fn() -> Option<u64>>) -> Inherited {
    let meant = value(environment, b"LISTEN_PID").map(line_ends::plain);
    let foreign = |name: &&[u8]| value(environment, name).is_some_and(|value| line_ends::trace(value).is_some());
    if meant.is_some_and(|meant| meant == own.pid.to_string().as_bytes()) && VARIABLES.iter().any(foreign) {
        return Inherited::Unfit("a LISTEN_* variable ends in a carriage return, as lines do that end in CR LF");
    }
    if value(environment, b"LISTEN_PID").is_none_or(|meant| meant != own.pid.to_string().as_bytes()) {
        return Inherited::Nothing;
    }
    let pidfd_id = value(environment, b"LISTEN_PIDFDID");
    if let Some(meant) = pidfd_id {
        let meant = std::str::from_utf8(meant).ok().and_then(|meant| meant.parse::<u64>().ok());
        if meant.is_none() || (own.pidfd_id)().is_some_and(|id| meant != Some(id)) {
            return Inherited::Nothing;
        }
    }
    let Some(count) = value(environment, b"LISTEN_FDS") else { return Inherited::Nothing };
    // The descriptor table of a process ends at fs.nr_open, 2^20 unless raised; a count beyond fits nothing.
    let Some(count) = ids::decimal(count).ok().and_then(|n| RawFd::try_from(n).ok()).filter(|&n| n <= 1 << 20) else {
        return Inherited::Unfit("LISTEN_FDS is no count");
    };
    if !(FIRST..FIRST + count).all(&own.is_open) {
        return Inherited::Unfit("LISTEN_FDS counts descriptors that are not open");
    }
    let count = usize::try_from(count).unwrap_or(0);
    let names = match value(environment, b"LISTEN_FDNAMES") {
        None => vec!["unknown".to_owned(); count],
        Some(list) => match std::str::from_utf8(list) {
            Ok(list) => list.split(':').map(str::to_owned).collect(),
            Err(_) => return Inherited::Unfit("LISTEN_FDNAMES is not ASCII"),
        },
    };
    if count == 0 {
        return Inherited::Nothing;
    }
    if names.len() != count {
        return Inherited::Unfit("LISTEN_FDNAMES names more or fewer than LISTEN_FDS counts");
    }
    let pidfd_id = pidfd_id.and_then(|id| CString::new(id).ok());
    Inherited::Sockets { names, pidfd_id }
}

/// The variables to hand on to the process `pid`, or to a child that will put its number in: none where there is no
/// descriptor. LISTEN_PIDFDID is handed on as it came: it stays right as long as the process is the one it was meant
/// for, which execve(2) does not change, and a child is another one.
pub fn variables(pid: Option<i32>, inherited: &Inherited, own: &[String]) -> Vec<(&'static [u8], Vec<u8>)> {
    let names: Vec<&str> = inherited.names().iter().chain(own).map(String::as_str).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let [fds, listen_pid, fd_names, pidfd] = VARIABLES;
    let own_id = pid.map(|pid| pid.to_string().into_bytes()).unwrap_or_default();
    let mut variables =
        vec![(fds, names.len().to_string().into_bytes()), (listen_pid, own_id), (fd_names, names.join(":").into_bytes())];
    if let (Some(_), Inherited::Sockets { pidfd_id: Some(id), .. }) = (pid, inherited) {
        variables.push((pidfd, id.to_bytes().to_vec()));
    }
    variables
}

fn value<'a>(environment: &[&'a CStr], name: &[u8]) -> Option<&'a [u8]> {
    environment.iter().find_map(|entry| entry.to_bytes().strip_prefix(name)?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(environment: &[&CStr]) -> Inherited {
        inherited(environment, &Process { pid: 7, pidfd_id: || Some(77), is_open: |fd| fd < 5 })
    }

    fn sockets(names: &[&str]) -> Inherited {
        Inherited::Sockets { names: names.iter().map(|&name| name.to_owned()).collect(), pidfd_id: None }
    }

    #[test]
    fn sockets_from_a_service_manager_keep_their_names() {
        assert_eq!(read(&[c"LISTEN_PID=7", c"LISTEN_FDS=2", c"LISTEN_FDNAMES=http:admin"]), sockets(&["http", "admin"]));
        assert_eq!(read(&[c"LISTEN_PID=7", c"LISTEN_FDS=1"]), sockets(&["unknown"]));
    }

    #[test]
    fn what_names_another_process_is_not_believed() {
        for entry in [c"LISTEN_PID=8", c"LISTEN_PID=07", c"LISTEN_PID=", c"LISTEN_PIDX=7"] {
            assert_eq!(read(&[entry, c"LISTEN_FDS=1"]), Inherited::Nothing, "{entry:?}");
        }
        assert_eq!(read(&[c"LISTEN_FDS=1"]), Inherited::Nothing);
    }

    #[test]
    fn what_names_another_process_of_the_same_number_is_not_believed() {
        let ours = |id: &CStr, kernel: Option<u64>| {
            let own = Process { pid: 7, pidfd_id: || kernel, is_open: |fd| fd < 5 };
            inherited(&[c"LISTEN_PID=7", c"LISTEN_FDS=1", id], &own) != Inherited::Nothing
        };
        assert!(ours(c"LISTEN_PIDFDID=77", Some(77)) && !ours(c"LISTEN_PIDFDID=78", Some(77)));
        assert!(ours(c"LISTEN_PIDFDID=78", None), "where the kernel can't tell");
        assert!(!ours(c"LISTEN_PIDFDID=", None) && !ours(c"LISTEN_PIDFDID=x", Some(77)));
    }

    #[test]
    fn what_does_not_fit_what_is_open_is_dropped() {
        for entry in [c"LISTEN_FDS=3", c"LISTEN_FDS=-1", c"LISTEN_FDS=x", c"LISTEN_FDS=2147483647", c"LISTEN_FDS=4294967294"] {
            assert!(matches!(read(&[c"LISTEN_PID=7", entry]), Inherited::Unfit(_)), "{entry:?}");
        }
        for entry in [c"LISTEN_FDNAMES=a", c"LISTEN_FDNAMES=a:b:c", c"LISTEN_FDNAMES=\xff:b"] {
            assert!(matches!(read(&[c"LISTEN_PID=7", c"LISTEN_FDS=2", entry]), Inherited::Unfit(_)), "{entry:?}");
        }
        assert_eq!(read(&[c"LISTEN_PID=7", c"LISTEN_FDS=0"]), Inherited::Nothing);
    }

    #[test]
    fn ours_follow_those_received() {
        let got = variables(Some(7), &sockets(&["a"]), &["b".to_owned()]);
        let expected: [(&[u8], &[u8]); 3] = [(b"LISTEN_FDS", b"2"), (b"LISTEN_PID", b"7"), (b"LISTEN_FDNAMES", b"a:b")];
        assert!(got.iter().map(|(name, value)| (*name, value.as_slice())).eq(expected));
        assert!(variables(Some(7), &Inherited::Nothing, &[]).is_empty());
    }
}
