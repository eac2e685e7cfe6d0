//! Directories that belong to the system, whoever asks: nobody means `--chown /etc`.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Error;
use nix::sys::statfs::fstatfs;

use crate::failure::{call, hinted, lossy};
use crate::sys::{self, FileFacts};

/// The directories themselves; what lies below them may well be a service's.
const THEMSELVES: [&CStr; 35] = [
    c"/",
    c"/bin",
    c"/boot",
    c"/dev",
    c"/dev/shm",
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

/// Refuses a path by how it is spelled: one that is missing on this system can't be looked at, and is meant no less.
pub fn refuse_name(option: &str, path: &CStr) -> Result<(), Error> {
    let name = lossy(path);
    let names: Vec<&str> = name.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    let plain = format!("/{}", names.join("/"));
    if name.starts_with('/') && THEMSELVES.iter().any(|directory| directory.to_bytes() == plain.as_bytes()) {
        return Err(refused(&plain).context(format!("{option} {name}")));
    }
    Ok(())
}

/// The kernel's own file systems: what it shows there are no files of a service's, wherever they are mounted. By the
/// numbers of linux/magic.h. devtmpfs has that of tmpfs: see [`is_of_dev`].
const KERNELS_OWN: [(u64, &str); 28] = [
    (0x0000_9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0000_1cd1, "devpts"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x7472_6163, "tracefs"),
    (0x6462_6720, "debugfs"),
    (0x7363_6673, "securityfs"),
    (0xcafe_4a11, "bpf"),
    (0x6165_676c, "pstore"),
    (0xde5e_81e4, "efivarfs"),
    (0x6265_6570, "configfs"),
    (0x1980_0202, "mqueue"),
    (0xf97c_ff8c, "selinuxfs"),
    (0x4341_5d53, "smackfs"),
    (0x5a3c_69f0, "apparmorfs"),
    (0x4249_4e4d, "binfmt_misc"),
    (0x6573_5543, "fusectl"),
    (0x6759_6969, "rpc_pipefs"),
    (0x6e66_7364, "nfsd"),
    (0x0765_5821, "resctrl"),
    (0x0000_9fa1, "openpromfs"),
    (0xabba_1974, "xenfs"),
    (0x6e73_6673, "nsfs"),
    (0x5049_4446, "pidfs"),
    (0x534f_434b, "sockfs"),
    (0x5049_5045, "pipefs"),
    (0x0904_1934, "anon_inodefs"),
];

/// Refuses a file that is one of them, or the kernel's own, by what it is, however it was spelled. `within` is the
/// directory that it was found in.
pub fn refuse_file(file: &OwnedFd, within: &OwnedFd) -> Result<(), Error> {
    let facts = sys::facts(file.as_fd()).map_err(|errno| call("statx", errno))?;
    // One that is a link leads to another that is listed; one that can't be looked at was not reached.
    if let Some(directory) = THEMSELVES.into_iter().find(|directory| is(&facts, directory)) {
        return Err(refused(&lossy(directory)));
    }
    refuse_kernels_own(file, within)
}

/// Refuses what the kernel shows of itself: a file there is no service's, and a directory made there does something.
pub fn refuse_kernels_own(file: &OwnedFd, within: &OwnedFd) -> Result<(), Error> {
    let kind = fstatfs(file).map_err(|errno| call("fstatfs", errno))?.filesystem_type();
    // f_type has another width on other architectures; the numbers have 32 bits.
    let number = u64::from(kind.0 as u32);
    if let Some((_, name)) = KERNELS_OWN.iter().find(|(known, _)| *known == number) {
        return Err(refused(&format!("{name}, a file system of the kernel's own,")));
    }
    let facts = sys::facts(file.as_fd()).map_err(|errno| call("statx", errno))?;
    if is_of_dev(&facts, within)? { Err(refused("/dev")) } else { Ok(()) }
}

fn is(facts: &FileFacts, path: &CStr) -> bool {
    at(path).is_some_and(|there| there.identity == facts.identity)
}

fn at(path: &CStr) -> Option<FileFacts> {
    sys::facts_at(nix::fcntl::AT_FDCWD, path).ok()
}

/// Whether a file is below /dev, or on its file system, which may be mounted elsewhere too. /dev/shm is for everybody.
/// The way up begins above the file: to look into itself may be forbidden.
fn is_of_dev(file: &FileFacts, within: &OwnedFd) -> Result<bool, Error> {
    let Some(dev) = at(c"/dev") else { return Ok(false) };
    let shm = at(c"/dev/shm");
    let facts = |directory: &OwnedFd| sys::facts(directory.as_fd()).map_err(|errno| call("statx", errno));
    let mut directory = sys::duplicate_above(within.as_fd(), 3).map_err(|errno| call("fcntl(F_DUPFD_CLOEXEC)", errno))?;
    let (mut here, mut below) = (facts(&directory)?, *file);
    loop {
        for one in [below, here] {
            if shm.is_some_and(|shm| shm.identity == one.identity) {
                return Ok(false);
            }
            if dev.identity == one.identity {
                return Ok(true);
            }
        }
        directory =
            sys::open_at(directory.as_fd(), c"..", libc::O_PATH | libc::O_DIRECTORY).map_err(|errno| call("open(..)", errno))?;
        below = std::mem::replace(&mut here, facts(&directory)?);
        // The top is its own parent.
        if (below.identity, below.mount) == (here.identity, here.mount) {
            break;
        }
    }
    let device = |facts: &FileFacts| (facts.identity.0, facts.identity.1);
    Ok(device(&dev) != device(&here) && device(&dev) == device(file))
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
        for path in [c"/", c"//", c"/etc", c"/etc/", c"/./usr//", c"/proc", c"/sys", c"/dev", c"/dev/shm", c"/var/lib", c"/opt"] {
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
