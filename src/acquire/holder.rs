//! Who has an address that is in use, where /proc tells. Looked for only when the run has failed already.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};

use crate::address::{Address, Kind, Listen};
use crate::procfs;

/// As much as is read of a table, and as many descriptors as are looked at: an error message is not worth more.
const TABLE_MAX: u64 = 4 << 20;
const LOOKS_MAX: usize = 1 << 16;

/// `pid 123 (nginx)`; `None` where nobody can be named.
pub fn of(wanted: &Listen) -> Option<String> {
    let inodes = match &wanted.address {
        Address::Path(path) => unix(path.to_bytes()),
        Address::Abstract(name) => unix(&[b"@", name.as_slice()].concat()),
        Address::Port(port) => internet(wanted.kind, *port, None),
        Address::Internet(address) => internet(wanted.kind, address.port(), Some(address.ip())),
        Address::Scoped(ip, _, port) => internet(wanted.kind, *port, Some(IpAddr::V6(*ip))),
    };
    if inodes.is_empty() { None } else { process(&inodes) }
}

/// `/proc/net/unix`: Num RefCount Protocol Flags Type St Inode Path.
fn unix(name: &[u8]) -> Vec<String> {
    let table = read("/proc/net/unix", TABLE_MAX);
    let has_name = |line: &&str| line.as_bytes().strip_suffix(name).is_some_and(|front| front.ends_with(b" "));
    table.lines().filter(has_name).filter_map(|line| inode(line, 6)).collect()
}

fn internet(kind: Kind, port: u16, ip: Option<IpAddr>) -> Vec<String> {
    let (tables, state) = match kind {
        Kind::Stream => (["/proc/net/tcp", "/proc/net/tcp6"], Some("0A")),
        Kind::Datagram => (["/proc/net/udp", "/proc/net/udp6"], None),
    };
    let mut inodes = Vec::new();
    for table in tables {
        let in_the_way = |line: &&str| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let local = fields.next().and_then(local);
            let same_state = state.is_none_or(|listening| fields.nth(1) == Some(listening));
            same_state && local.is_some_and(|local| local.port() == port && overlap(local.ip(), ip))
        };
        inodes.extend(read(table, TABLE_MAX).lines().filter(in_the_way).filter_map(|line| inode(line, 9)));
    }
    inodes
}

/// Whether one of both is every address, or they are the same.
fn overlap(held: IpAddr, wanted: Option<IpAddr>) -> bool {
    held.is_unspecified() || wanted.is_none_or(|wanted| wanted.is_unspecified() || wanted.to_canonical() == held.to_canonical())
}

/// `0100007F:0050`: words of the address in the machine's byte order, the port.
fn local(field: &str) -> Option<SocketAddr> {
    let (address, port) = field.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = if address.len() == 8 {
        IpAddr::from(word(0)?)
    } else {
        let mut bytes = [0; 16];
        for (slot, at) in bytes.chunks_exact_mut(4).zip((0..).step_by(8)) {
            slot.copy_from_slice(&word(at)?);
        }
        IpAddr::from(bytes)
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

fn inode(line: &str, field: usize) -> Option<String> {
    line.split_ascii_whitespace().nth(field).filter(|inode| *inode != "0").map(|inode| format!("socket:[{inode}]"))
}

/// The first process that has one of the sockets open.
fn process(sockets: &[String]) -> Option<String> {
    procfs::open(c"/proc", libc::O_PATH | libc::O_DIRECTORY).ok()?;
    let mut looks = 0;
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        for descriptor in std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
            looks += 1;
            if looks > LOOKS_MAX {
                return None;
            }
            let target = std::fs::read_link(descriptor.path()).unwrap_or_default();
            if target.to_str().is_some_and(|target| sockets.iter().any(|socket| socket == target)) {
                return Some(named(pid));
            }
        }
    }
    None
}

fn named(pid: u32) -> String {
    if pid == std::process::id() {
        return "an earlier --listen of this line".to_owned();
    }
    let comm = read(&format!("/proc/{pid}/comm"), 64);
    format!("pid {pid} ({})", comm.trim_end_matches('\n'))
}

fn read(path: &str, most: u64) -> String {
    let mut bytes = Vec::new();
    // What can't be read tells nothing.
    let opened = CString::new(path).ok().and_then(|path| procfs::open(&path, libc::O_RDONLY).ok());
    let _ = opened.map(|file| File::from(file).take(most).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_read_as_the_kernel_writes_them() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 80));
        let (four, six) = if cfg!(target_endian = "little") {
            ("0100007F:0050", "00000000000000000000000001000000:0050")
        } else {
            ("7F000001:0050", "00000000000000000000000000000001:0050")
        };
        assert_eq!(local(four), Some(loopback));
        assert_eq!(local(six), Some(SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 80))));
        for broken in ["", ":", "0100007F", "xx:0050", "01:0050", "0100007F:zz"] {
            assert_eq!(local(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn every_address_is_in_the_way_of_each() {
        let ip = |text: &str| text.parse::<IpAddr>().ok();
        let held = |held: &str, wanted: Option<IpAddr>| ip(held).is_some_and(|held| overlap(held, wanted));
        assert!(held("0.0.0.0", ip("127.0.0.1")) && held("::", ip("127.0.0.1")) && held("::1", None));
        assert!(held("127.0.0.1", ip("127.0.0.1")) && held("::ffff:127.0.0.1", ip("127.0.0.1")));
        assert!(!held("127.0.0.2", ip("127.0.0.1")));
    }
}
