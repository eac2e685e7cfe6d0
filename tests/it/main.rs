//! Everything that is promised, tried on the real binary. One harness ([`harness`], [`jail`]); a file a concern.

// A test that can't go on panics, which is how it fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod harness;
mod jail;
mod keyrings;
mod report;

mod chores;
mod command;
mod confine;
mod cves;
mod docker;
mod identity;
mod init;
mod injection;
mod mistakes;
mod node;
mod ownership;
mod peers;
mod placed;
mod random;
mod reads;
mod secrets;
mod sockets;
mod systemd;
mod telling;
mod terminals;

use libtest_mimic::{Arguments, Trial};

fn main() {
    harness::start_clean();
    if ownership::inside::play(&[ownership::parts(), random::parts()].concat()) {
        return;
    }
    let arguments = Arguments::from_args();
    let concerns: Vec<(&str, Vec<harness::Case>)> = vec![
        ("identity", identity::cases()),
        ("chores", chores::cases()),
        ("placed", placed::cases()),
        ("reads", reads::cases()),
        ("ownership", ownership::cases()),
        ("sockets", sockets::cases()),
        ("secrets", secrets::cases()),
        ("command", command::cases()),
        ("terminals", terminals::cases()),
        ("keyrings", keyrings::cases()),
        ("telling", telling::cases()),
        ("mistakes", mistakes::cases()),
        ("confine", confine::cases()),
        ("injection", injection::cases()),
        ("init", init::cases()),
        ("random", random::cases()),
        ("peers", peers::cases()),
        ("docker", docker::cases()),
        ("systemd", systemd::cases()),
        ("node", node::cases()),
        ("cves", cves::cases()),
    ];
    let names = |(concern, cases): &(&str, Vec<harness::Case>)| -> Vec<String> {
        cases.iter().map(|(name, _)| format!("{concern}::{name}")).collect()
    };
    cves::know(concerns.iter().flat_map(names).collect());
    let trials = concerns.into_iter().flat_map(|(concern, cases)| {
        let trial = move |(name, case): harness::Case| {
            Trial::ignorable_test(format!("{concern}::{name}"), move || harness::outcome(case()))
        };
        cases.into_iter().map(trial)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    jail::clean_up();
    conclusion.exit();
}
