//! The protocol by which sockets are handed on: sd_listen_fds(3).
//!
//! Descriptors from 3 on, `LISTEN_FDS` of them, meant for the process `LISTEN_PID`, called `LISTEN_FDNAMES`.

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

use crate::ids;

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

/// The process that the sockets are handed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// This one, by its number.
    Known(i32),
    /// A child, which will put its number in.
    NotYetThere,
}

/// Reads the protocol's variables.
pub fn inherited(environment: &[&CStr], pid: i32, is_open: impl Fn(RawFd) -> bool) -> Inherited {
    if value(environment, b"LISTEN_PID").is_none_or(|meant| meant != pid.to_string().as_bytes()) {
        return Inherited::Nothing;
    }
    let Some(count) = value(environment, b"LISTEN_FDS") else { return Inherited::Nothing };
    // The descriptor table of a process ends at fs.nr_open, 2^20 unless raised; a count beyond fits nothing.
    let Some(count) = ids::decimal(count).ok().and_then(|n| RawFd::try_from(n).ok()).filter(|&n| n <= 1 << 20) else {
        return Inherited::Unfit("LISTEN_FDS is no count");
    };
    if !(FIRST..FIRST + count).all(is_open) {
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
    let pidfd_id = value(environment, b"LISTEN_PIDFDID").and_then(|id| CString::new(id).ok());
    Inherited::Sockets { names, pidfd_id }
}

/// The variables to hand on: none where there is no socket.
pub fn variables(process: Process, inherited: &Inherited, own: &[String]) -> Vec<(&'static [u8], Vec<u8>)> {
    let names: Vec<&str> = inherited.names().iter().chain(own).map(String::as_str).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let [fds, listen_pid, fd_names, pidfd] = VARIABLES;
    let pid = match process {
        Process::Known(pid) => pid.to_string().into_bytes(),
        Process::NotYetThere => Vec::new(),
    };
    let mut variables =
        vec![(fds, names.len().to_string().into_bytes()), (listen_pid, pid), (fd_names, names.join(":").into_bytes())];
    // It tells one process from another that has the same number later.
    if let (Process::Known(_), Inherited::Sockets { pidfd_id: Some(id), .. }) = (process, inherited) {
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
        inherited(environment, 7, |fd| fd < 5)
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
        let got = variables(Process::Known(7), &sockets(&["a"]), &["b".to_owned()]);
        let expected: [(&[u8], &[u8]); 3] = [(b"LISTEN_FDS", b"2"), (b"LISTEN_PID", b"7"), (b"LISTEN_FDNAMES", b"a:b")];
        assert!(got.iter().map(|(name, value)| (*name, value.as_slice())).eq(expected));
        assert!(variables(Process::Known(7), &Inherited::Nothing, &[]).is_empty());
    }
}
