//! Random profiles and random calls: a compiled profile answers what a plain reading of it says.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::interpreter::{check, is_always_allowed};
use super::{Call, number, run};
use crate::capabilities::CapSet;
use crate::confine::seccomp::{Facts, of_profile};

const FACTS: Facts = Facts { kept: CapSet::EMPTY, kernel: (6, 1) };
const NAMES: &[&str] =
    &["read", "write", "openat", "socket", "clone", "ioctl", "personality", "futex_waitv", "no_such_call", "mseal"];
const I386: u32 = 0x4000_0003;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

#[derive(Clone, Debug)]
struct Argument {
    index: usize,
    op: &'static str,
    value: u64,
    value_two: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    names: Vec<&'static str>,
    action: (&'static str, Option<u16>),
    arguments: Vec<Argument>,
}

#[derive(Clone, Debug)]
struct Profile {
    default: (&'static str, Option<u16>),
    entries: Vec<Entry>,
}

fn returned((action, errno): (&str, Option<u16>)) -> u32 {
    match action {
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | u32::from(errno.unwrap_or(1)),
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        other => panic!("{other}"),
    }
}

impl Argument {
    fn holds(&self, call: &Call) -> bool {
        let argument = call.arguments[self.index];
        match self.op {
            "SCMP_CMP_EQ" => argument == self.value,
            "SCMP_CMP_NE" => argument != self.value,
            "SCMP_CMP_GT" => argument > self.value,
            "SCMP_CMP_GE" => argument >= self.value,
            "SCMP_CMP_LT" => argument < self.value,
            "SCMP_CMP_LE" => argument <= self.value,
            // libseccomp puts the mask over both.
            "SCMP_CMP_MASKED_EQ" => argument & self.value == self.value_two & self.value,
            other => panic!("{other}"),
        }
    }

    fn always(&self) -> bool {
        self.op == "SCMP_CMP_MASKED_EQ" && self.value == 0
    }

    fn json(&self) -> Value {
        json!({"index": self.index, "op": self.op, "value": self.value, "valueTwo": self.value_two})
    }
}

impl Profile {
    fn json(&self) -> Vec<u8> {
        let entries = self.entries.iter().map(|entry| {
            let arguments: Vec<Value> = entry.arguments.iter().map(Argument::json).collect();
            json!({"names": entry.names, "action": entry.action.0, "errnoRet": entry.action.1, "args": arguments})
        });
        let entries: Vec<Value> = entries.collect();
        json!({"defaultAction": self.default.0, "defaultErrnoRet": self.default.1, "syscalls": entries}).to_string().into_bytes()
    }

    /// The rules for a call, each a list of arguments: an entry that looks at one twice is as many rules.
    fn rules(&self, number_of_call: u32) -> Vec<(Vec<Argument>, u32)> {
        let mut rules = Vec::new();
        for entry in &self.entries {
            let action = returned(entry.action);
            let about = entry.names.iter().any(|name| *name != "no_such_call" && number(name) == number_of_call);
            if !about || action == returned(self.default) {
                continue;
            }
            let twice = (0..6).any(|index| entry.arguments.iter().filter(|argument| argument.index == index).count() > 1);
            if twice {
                rules.extend(entry.arguments.iter().map(|argument| (vec![argument.clone()], action)));
            } else {
                rules.push((entry.arguments.clone(), action));
            }
        }
        rules
    }

    fn newest(&self) -> u32 {
        let names = self.entries.iter().flat_map(|entry| &entry.names).filter(|name| **name != "no_such_call");
        names.map(|name| number(name)).max().unwrap_or(0)
    }

    fn verdict(&self, call: &Call, rules: &[(Vec<Argument>, u32)], newest: u32) -> u32 {
        let default = returned(self.default);
        let x32 = call.number >= 0x4000_0000 || cfg!(target_arch = "x86_64") && (512..548).contains(&call.number);
        if call.architecture != super::interpreter::NATIVE || x32 {
            return ENOSYS;
        }
        let denies = !["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"].contains(&self.default.0);
        if newest > 0 && call.number > newest && denies {
            return ENOSYS;
        }
        if let Some((_, action)) = rules.iter().find(|(arguments, _)| arguments.iter().all(Argument::always)) {
            return *action;
        }
        let matching = rules.iter().filter(|(arguments, _)| arguments.iter().all(|argument| argument.holds(call)));
        // The first of those that take most away.
        matching.map(|(_, action)| *action).min_by_key(|action| (action & 0xffff_0000).cast_signed()).unwrap_or(default)
    }
}

fn value() -> impl Strategy<Value = u64> {
    let known = [0, 1, 2, 7, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0xffff_ffff_0000_0000, u64::MAX];
    prop_oneof![3 => select(known.to_vec()), 1 => any::<u64>()]
}

fn action() -> impl Strategy<Value = (&'static str, Option<u16>)> {
    let errno = proptest::option::of(select(vec![1u16, 13, 22, 38, 4095]));
    let others =
        ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRAP", "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS"];
    prop_oneof![
        2 => Just(("SCMP_ACT_ALLOW", None)),
        2 => errno.prop_map(|errno| ("SCMP_ACT_ERRNO", errno)),
        2 => select(others.to_vec()).prop_map(|action| (action, None)),
    ]
}

fn argument() -> impl Strategy<Value = Argument> {
    let ops = ["SCMP_CMP_EQ", "SCMP_CMP_NE", "SCMP_CMP_GT", "SCMP_CMP_GE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_MASKED_EQ"];
    (0usize..6, select(ops.to_vec()), value(), value()).prop_map(|(index, op, value, value_two)| Argument {
        index,
        op,
        value,
        value_two,
    })
}

fn profile() -> impl Strategy<Value = Profile> {
    let names = proptest::collection::vec(select(NAMES.to_vec()), 1..4);
    let entry = (names, action(), proptest::collection::vec(argument(), 0..4)).prop_map(|(names, action, arguments)| Entry {
        names,
        action,
        arguments,
    });
    (action(), proptest::collection::vec(entry, 0..12)).prop_map(|(default, entries)| Profile { default, entries })
}

/// Arguments that meet what the profile asks, and just miss it.
fn calls(profile: &Profile, seed: &[(u32, [u64; 6])]) -> Vec<Call> {
    let values: Vec<u64> = profile
        .entries
        .iter()
        .flat_map(|entry| &entry.arguments)
        .flat_map(|argument| [argument.value, argument.value_two])
        .flat_map(|value| [value, value.wrapping_add(1), value.wrapping_sub(1), value ^ 1 << 32, value & 0xffff_ffff])
        .collect();
    let pick = |at: u64| if values.is_empty() || at.is_multiple_of(5) { at } else { values[(at % values.len() as u64) as usize] };
    let known = NAMES.iter().filter(|name| **name != "no_such_call").map(|name| number(name));
    let numbers = known.chain((0..600).step_by(17)).chain([512, 520, 547, 548, 0x3fff_ffff, 0x4000_0000, 0x4000_0001, u32::MAX]);
    let mut calls = Vec::new();
    for number in numbers {
        calls.extend(seed.iter().map(|(_, arguments)| Call::new(number, arguments.map(pick))));
        calls.push(Call { architecture: I386, ..Call::new(number, [0; 6]) });
    }
    calls.extend(seed.iter().map(|(number, arguments)| Call::new(*number, *arguments)));
    calls.extend(seed.iter().map(|(number, arguments)| Call { architecture: *number, ..Call::new(1, *arguments) }));
    calls
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_compiled_profile_answers_as_its_entries_say(
        profile in profile(),
        seed in proptest::collection::vec(any::<(u32, [u64; 6])>(), 12),
    ) {
        let programs = of_profile(&profile.json(), &FACTS).unwrap();
        let [program] = &programs[..] else { panic!("{} programs", programs.len()) };
        check(program);
        let mut rules = BTreeMap::new();
        for call in calls(&profile, &seed) {
            let rules = rules.entry(call.number).or_insert_with(|| profile.rules(call.number));
            prop_assert_eq!(run(program, &call), profile.verdict(&call, rules, profile.newest()), "{:x?}", call);
        }
        for name in NAMES.iter().filter(|name| **name != "no_such_call") {
            let rules = profile.rules(number(name));
            let first = rules.iter().find(|(arguments, _)| arguments.iter().all(Argument::always)).map(|(_, action)| *action);
            if first == Some(libc::SECCOMP_RET_ALLOW) {
                prop_assert!(is_always_allowed(program, number(name)), "{}", name);
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = of_profile(&bytes, &FACTS);
    }

    #[test]
    fn no_json_makes_it_panic(profile in profile(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let mut bytes = profile.json();
        let at = at.index(bytes.len());
        bytes[at] = with;
        let _ = of_profile(&bytes, &FACTS);
    }
}
