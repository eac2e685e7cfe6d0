//! Directories that belong to the system, whoever asks: nobody means `--chown /etc`.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Error;

use crate::failure::{call, hinted, lossy};
use crate::sys;

/// The directories themselves; what lies below them may well be a service's.
const THEMSELVES: [&CStr; 34] = [
    c"/",
    c"/bin",
    c"/boot",
    c"/dev",
    c"/etc",
    c"/home",
    c"/lib",
    c"/lib32",
    c"/lib64",
    c"/libx32",
    c"/opt",
    c"/proc",
    c"/root",
    c"/run",
    c"/sbin",
    c"/sys",
    c"/tmp",
    c"/usr",
    c"/usr/bin",
    c"/usr/include",
    c"/usr/lib",
    c"/usr/lib32",
    c"/usr/lib64",
    c"/usr/libexec",
    c"/usr/local",
    c"/usr/local/bin",
    c"/usr/local/lib",
    c"/usr/local/sbin",
    c"/usr/local/share",
    c"/usr/sbin",
    c"/usr/share",
    c"/var",
    c"/var/lib",
    c"/var/tmp",
];

/// Everything below, too: the kernel's own. /dev/shm is for everybody.
const BELOW: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Refuses a path by how it is spelled.
pub fn refuse_name(option: &str, path: &CStr) -> Result<(), Error> {
    let name = lossy(path);
    let names: Vec<&str> = name.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    if names.contains(&"..") {
        // Where `..` leads is seen by refuse_file, not by spelling.
        return Ok(());
    }
    let plain = format!("/{}", names.join("/"));
    let below = BELOW.iter().any(|top| plain.strip_prefix(top).is_some_and(|rest| rest.starts_with('/')));
    let shared_memory = plain.starts_with("/dev/shm/");
    if name.starts_with('/') && (below && !shared_memory || THEMSELVES.iter().any(|dir| dir.to_bytes() == plain.as_bytes())) {
        return Err(refused(&plain).context(format!("{option} {name}")));
    }
    Ok(())
}

/// Refuses a file that is one of them, however it was reached.
pub fn refuse_file(file: &OwnedFd) -> Result<(), Error> {
    let facts = sys::facts(file.as_fd()).map_err(|errno| call("statx", errno))?;
    for directory in THEMSELVES {
        // One that is a link leads to another that is listed; one that can't be looked at was not reached.
        let system = sys::facts_at(nix::fcntl::AT_FDCWD, directory);
        if system.is_ok_and(|system| system.identity == facts.identity) {
            return Err(refused(&lossy(directory)));
        }
    }
    let of_the_kernel = nix::sys::statfs::fstatfs(file).map_err(|errno| call("fstatfs", errno))?;
    match of_the_kernel.filesystem_type() {
        nix::sys::statfs::PROC_SUPER_MAGIC => Err(refused("/proc")),
        nix::sys::statfs::SYSFS_MAGIC => Err(refused("/sys")),
        _ => Ok(()),
    }
}

fn refused(directory: &str) -> Error {
    hinted(
        format!("refused, {directory} belongs to the system"),
        "name the directory of the service itself, such as /data or /var/lib/app",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_directories_are_refused_by_name() {
        for path in
            [c"/", c"//", c"/etc", c"/etc/", c"/./usr//", c"/proc/1", c"/sys/fs", c"/dev/sda", c"/dev/shm", c"/var/lib", c"/opt"]
        {
            assert!(refuse_name("--chown", path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn what_a_service_owns_is_not() {
        for path in [
            c"/data",
            c"/etc/app",
            c"/usr/src/app",
            c"/var/lib/app",
            c"/dev/shm/app",
            c"etc",
            c"/home/node",
            c"/srv",
            c"/opt/app",
            c"/devices",
        ] {
            assert!(refuse_name("--chown", path).is_ok(), "{path:?}");
        }
    }
}
