//! What a user namespace can forbid to its root: ids that are not mapped, and setgroups(2) (user_namespaces(7)).

use anyhow::Error;
use nix::errno::Errno;

use crate::failure::hinted;
use crate::host::Setgroups;
use crate::plan::{Groups, Plan};
use crate::procfs;

const SETGROUPS_DENIED: &str = "this user namespace has setgroups denied (/proc/self/setgroups): give it a range of groups \
     (newgidmap and /etc/subgid; Docker and podman as root do)";
const UNMAPPED: &str = "this user namespace does not map that id (/proc/self/uid_map, gid_map): give it a range that does \
     (newuidmap and /etc/subuid), or name an id that it maps";

/// Says before the chores what the drop would find out after them. Where /proc is absent, it still will.
pub fn check(plan: &Plan) -> Result<(), Error> {
    let (Ok(uids), Ok(gids)) = (procfs::read_text(c"/proc/self/uid_map"), procfs::read_text(c"/proc/self/gid_map")) else {
        return Ok(());
    };
    let identity = &plan.identity;
    if !maps(&uids, identity.uid.get()) {
        return Err(hinted(format!("uid {} can't be had here", identity.uid), UNMAPPED));
    }
    let wanted = std::iter::once(&identity.gid).chain(identity.groups.iter().filter(|_| plan.groups == Groups::Set));
    for gid in wanted {
        if !maps(&gids, gid.get()) {
            return Err(hinted(format!("gid {gid} can't be had here"), UNMAPPED));
        }
    }
    if plan.groups == Groups::Set && denied() {
        return Err(hinted("the groups can't be set here", SETGROUPS_DENIED));
    }
    Ok(())
}

/// Refuses an owner that may be anybody. The kernel shows an id that this user namespace does not map as another one, 65534,
/// which may well be mapped: a command that runs as that one would be somebody else than the file's owner.
pub fn check_owner(uid: u32, gid: u32) -> Result<(), Error> {
    for (what, id, map, shown) in [
        ("uid", uid, "/proc/self/uid_map", "/proc/sys/kernel/overflowuid"),
        ("gid", gid, "/proc/self/gid_map", "/proc/sys/kernel/overflowgid"),
    ] {
        let shown = std::fs::read_to_string(shown).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(65534);
        if id == shown && !std::fs::read_to_string(map).is_ok_and(|map| maps_all(&map)) {
            return Err(hinted(
                format!("it belongs to {what} {id}, or to an id that this user namespace does not map ({map}): both look alike"),
                "write UID:GID",
            ));
        }
    }
    Ok(())
}

/// Whether a map leaves no id out, as outside of all user namespaces.
fn maps_all(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// What an error of setgroups, setresgid or setresuid means here.
#[must_use]
pub fn why(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::EPERM if denied() => Some(SETGROUPS_DENIED),
        Errno::EINVAL => Some(UNMAPPED),
        _ => None,
    }
}

fn denied() -> bool {
    Setgroups::read() == Setgroups::Denied
}

/// Whether a map (lines of first id inside, first outside, count) has an id.
fn maps(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<u64>);
        match (fields.next(), fields.next(), fields.next()) {
            (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) => (first..first.saturating_add(count)).contains(&u64::from(id)),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_mapped_where_a_line_holds_it() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert!(maps(map, 0) && maps(map, 1) && maps(map, 65536));
        assert!(!maps(map, 65537));
        assert!(maps("0 0 4294967295", u32::MAX - 1));
        assert!(!maps("", 0));
        assert!(maps_all("         0          0 4294967295\n") && !maps_all(map) && !maps_all(""));
    }
}
