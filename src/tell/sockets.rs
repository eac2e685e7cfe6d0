//! The sockets of `--listen` as they will be bound, and not as they were typed.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::accounts;
use crate::acquire::listen;
use crate::address::{Address, Choice, Families, Kind};
use crate::failure::lossy;
use crate::host::Host;
use crate::plan::{Plan, Socket};

/// One socket: `tcp [::]:80, both families`, `unix /run/app.sock, 0660 root:node`.
pub struct Bound {
    /// tcp, udp, unix, or unix datagram.
    kind: &'static str,
    address: String,
    families: Option<&'static str>,
    /// Mode, user and group of the name.
    name: Option<(String, String, String)>,
    choices: Vec<String>,
}

impl Bound {
    /// Works it out, with a look at the kernel and at the socket's directory.
    pub fn of(socket: &Socket, plan: &Plan, host: &Host) -> Self {
        let wanted = &socket.wanted;
        let is_unix = matches!(wanted.address, Address::Path(_) | Address::Abstract(_));
        let kind = match (is_unix, wanted.kind) {
            (false, Kind::Stream) => "tcp",
            (false, Kind::Datagram) => "udp",
            (true, Kind::Stream) => "unix",
            (true, Kind::Datagram) => "unix datagram",
        };
        let (address, families) = place(socket);
        let name =
            listen::name_of(socket, plan).map(|(mode, uid, gid)| (format!("{mode:04o}"), user(uid, host), group(gid, host)));
        let choices = wanted.choices.iter().filter_map(|choice| match choice {
            Choice::Backlog(length) => Some(format!("backlog {length}")),
            Choice::ReusePort => Some("reuse-port".to_owned()),
            Choice::FreeBind => Some("free-bind".to_owned()),
            Choice::Families(_) | Choice::Mode(_) | Choice::Owner(_) => None,
        });
        Self { kind, address, families, name, choices: choices.collect() }
    }

    /// For people.
    pub fn as_text(&self) -> String {
        let families = self.families.map(|families| format!(", {families}")).unwrap_or_default();
        let name = self.name.as_ref().map(|(mode, user, group)| format!(", {mode} {user}:{group}")).unwrap_or_default();
        let choices: String = self.choices.iter().map(|choice| format!(", {choice}")).collect();
        format!("{} {}{families}{name}{choices}", self.kind, self.address)
    }

    /// For programs.
    pub fn as_json(&self) -> Value {
        let part = |part: fn(&(String, String, String)) -> &String| self.name.as_ref().map(part);
        json!({
            "type": self.kind,
            "address": self.address,
            "families": self.families,
            "mode": part(|name| &name.0),
            "user": part(|name| &name.1),
            "group": part(|name| &name.2),
            "options": self.choices,
        })
    }
}

const BOTH: &str = "both families";
const VERSION_6: &str = "IPv6 alone";

/// The address, and whom it serves where that is a question.
fn place(socket: &Socket) -> (String, Option<&'static str>) {
    let wanted = &socket.wanted;
    let chosen = wanted.choices.iter().find_map(|choice| match choice {
        Choice::Families(Families::Both) => Some(BOTH),
        Choice::Families(Families::Version6) => Some(VERSION_6),
        _ => None,
    });
    match &wanted.address {
        Address::Port(port) if chosen != Some(VERSION_6) && !listen::has_version_6(wanted.kind) => {
            (format!("0.0.0.0:{port}"), Some("IPv4 alone, for want of IPv6"))
        }
        Address::Port(port) => (format!("[::]:{port}"), chosen.or(Some(BOTH))),
        Address::Internet(SocketAddr::V6(address)) if address.ip().is_unspecified() => {
            (address.to_string(), chosen.or(Some("both families unless net.ipv6.bindv6only is set")))
        }
        Address::Internet(address) => (address.to_string(), None),
        Address::Scoped(ip, interface, port) => (format!("[{ip}%{}]:{port}", lossy(interface)), None),
        Address::Path(path) => (lossy(path).into_owned(), None),
        Address::Abstract(name) => (format!("@{}", String::from_utf8_lossy(name)), None),
    }
}

fn user(uid: u32, host: &Host) -> String {
    let found = accounts::users(&host.passwd).find(|user| user.uid.get() == uid);
    found.map_or_else(|| uid.to_string(), |user| String::from_utf8_lossy(user.name).into_owned())
}

/// /etc/group is not read where the run itself has no need of it: then it is the number.
fn group(gid: u32, host: &Host) -> String {
    let found = accounts::groups(&host.group).find(|group| group.gid.get() == gid);
    found.map_or_else(|| gid.to_string(), |group| String::from_utf8_lossy(group.name).into_owned())
}
