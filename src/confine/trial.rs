//! What the kernel claims to have in force is tried, by what must be refused now.

use anyhow::{Error, bail};
use nix::errno::Errno;

use super::Guard;
use super::landlock::{Root, Rules};
use crate::cli::Ports;
use crate::failure::call;
use crate::sys::{self, Port};

/// Opens `/`, and takes ports, that no rule allows.
pub fn rules(rules: &Rules, root: Root) -> Result<(), Error> {
    if !rules.paths.is_empty() && root == Root::Unnamed {
        refused("open(/)", sys::try_root_directory(), &[Errno::EACCES])?;
    }
    for (ports, port) in [(&rules.bind, Port::Bound as fn(u16) -> Port), (&rules.connect, Port::ConnectedTo)] {
        if let Some(number) = ports.as_ref().and_then(refused_port) {
            let port = port(number);
            // Where there is no IPv4 there is no such port either.
            refused(port.call(), sys::try_port(port), &[Errno::EACCES, Errno::EAFNOSUPPORT])?;
        }
    }
    Ok(())
}

/// The first port that is not among them; none that needs a capability, whose lack says the same.
fn refused_port(ports: &Ports) -> Option<u16> {
    std::iter::once(0).chain(1024..=u16::MAX).find(|&port| !ports.contain(port))
}

/// Types into no terminal, opens a socket of MPTCP.
pub fn guard(guard: Guard) -> Result<(), Error> {
    match guard {
        Guard::Terminal => refused("ioctl(-1, TIOCSTI)", sys::try_typing(), &[Errno::EPERM]),
        // EPERM, EACCES: what an older filter, the engine's, may say.
        Guard::Tcp => refused(
            "socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP)",
            sys::try_mptcp(),
            &[Errno::EPROTONOSUPPORT, Errno::EPERM, Errno::EACCES],
        ),
    }
}

fn refused(attempt: &str, result: Result<(), Errno>, expected: &[Errno]) -> Result<(), Error> {
    match result {
        Err(errno) if expected.contains(&errno) => Ok(()),
        Ok(()) => bail!("the command is not confined as planned, so it is not started: {attempt} succeeded"),
        Err(errno) => Err(call(format_args!("the command is not confined as planned, so it is not started: {attempt}"), errno)),
    }
}
