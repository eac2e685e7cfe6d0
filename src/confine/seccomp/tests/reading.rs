//! How profiles are read: what applies, what counts, and what is refused.

use serde_json::{Value, json};

use super::interpreter::{check, is_always_allowed};
use super::{Call, number, run};
use crate::capabilities::CapSet;
use crate::confine::seccomp::{Facts, of_profile};

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const ENOSYS: u32 = errno(libc::ENOSYS);
const EPERM: u32 = errno(libc::EPERM);
const FACTS: Facts = Facts { kept: CapSet::EMPTY, kernel: (6, 1) };
const NATIVE: (&str, &str) =
    if cfg!(target_arch = "x86_64") { ("SCMP_ARCH_X86_64", "amd64") } else { ("SCMP_ARCH_AARCH64", "arm64") };

const fn errno(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number as u32
}

/// What a profile answers to a call by name, with these first arguments.
fn verdict_with(profile: &Value, facts: &Facts, name: &str, first: &[u64]) -> u32 {
    let programs = of_profile(profile.to_string().as_bytes(), facts).unwrap();
    let [program] = &programs[..] else { panic!("{} programs", programs.len()) };
    check(program);
    let mut arguments = [0; 6];
    arguments[..first.len()].copy_from_slice(first);
    run(program, &Call::new(number(name), arguments))
}

fn verdict(profile: &Value, name: &str, first: &[u64]) -> u32 {
    verdict_with(profile, &FACTS, name, first)
}

/// A profile that denies what is not in these entries.
fn with(entries: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": entries})
}

fn refusal(profile: &str) -> String {
    let error = of_profile(profile.as_bytes(), &FACTS).expect_err(profile);
    format!("{error:#}")
}

#[test]
fn an_entry_applies_by_architecture_capability_and_kernel_as_with_docker() {
    let applies = |includes: Value, excludes: Value, facts: &Facts| {
        let profile =
            with(json!([{"names": ["read", "mseal"], "action": "SCMP_ACT_ALLOW", "includes": includes, "excludes": excludes}]));
        verdict_with(&profile, facts, "read", &[]) == ALLOW
    };
    let admin = Facts { kept: CapSet::parse("SYS_ADMIN,CHOWN").unwrap(), ..FACTS };
    for (includes, excludes, without, with_admin) in [
        (json!({}), json!({}), true, true),
        (json!(null), json!(null), true, true),
        (json!({"caps": ["CAP_SYS_ADMIN"]}), json!({}), false, true),
        (json!({"caps": ["CAP_SYS_ADMIN", "CAP_KILL"]}), json!({}), false, false),
        (json!({}), json!({"caps": ["CAP_SYS_ADMIN"]}), true, false),
        (json!({}), json!({"caps": ["CAP_KILL", "CAP_CHOWN"]}), true, false),
        (json!({"arches": [NATIVE.1]}), json!({}), true, true),
        (json!({"arches": ["s390x", NATIVE.1]}), json!({}), true, true),
        (json!({"arches": ["s390x"]}), json!({}), false, false),
        (json!({}), json!({"arches": [NATIVE.1]}), false, false),
        (json!({}), json!({"arches": ["s390x"], "caps": []}), true, true),
        (json!({"minKernel": "6.1"}), json!({}), true, true),
        (json!({"minKernel": "5.20"}), json!({}), true, true),
        (json!({"minKernel": "6.2"}), json!({}), false, false),
        (json!({"minKernel": ""}), json!({}), true, true),
        (json!({}), json!({"minKernel": "6.1"}), false, false),
        (json!({}), json!({"minKernel": "6.10"}), true, true),
    ] {
        assert_eq!(applies(includes.clone(), excludes.clone(), &FACTS), without, "{includes} {excludes}");
        assert_eq!(applies(includes.clone(), excludes.clone(), &admin), with_admin, "{includes} {excludes}");
    }
}

#[test]
fn an_entry_without_arguments_takes_the_place_of_all_others() {
    let entry = |action: &str, errno: u16, args: Value| json!({"names": ["read", "mseal"], "action": action, "errnoRet": errno, "args": args});
    let equal = json!([{"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}]);
    let later = with(json!([entry("SCMP_ACT_ERRNO", 5, equal.clone()), entry("SCMP_ACT_ALLOW", 0, json!(null))]));
    let earlier = with(json!([entry("SCMP_ACT_ALLOW", 0, json!([])), entry("SCMP_ACT_ERRNO", 5, equal.clone())]));
    let both = with(json!([entry("SCMP_ACT_ALLOW", 0, json!([])), entry("SCMP_ACT_ERRNO", 5, json!([]))]));
    for profile in [later, earlier, both] {
        assert_eq!(verdict(&profile, "read", &[7]), ALLOW, "{profile}");
    }
    // One that says what the default says is left out.
    let default = with(json!([entry("SCMP_ACT_ERRNO", 1, json!([])), entry("SCMP_ACT_ALLOW", 0, equal)]));
    assert_eq!((verdict(&default, "read", &[7]), verdict(&default, "read", &[8])), (ALLOW, EPERM));
}

#[test]
fn all_arguments_of_an_entry_hold_and_any_of_those_that_look_at_one() {
    let entry = |args: Value| with(json!([{"names": ["read", "mseal"], "action": "SCMP_ACT_ALLOW", "args": args}]));
    let equal = |index: u8, value: u64| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let two = entry(json!([equal(0, 1), equal(1, 2)]));
    assert_eq!([[1, 2], [1, 3], [0, 2]].map(|first| verdict(&two, "read", &first)), [ALLOW, EPERM, EPERM]);
    let twice = entry(json!([equal(0, 1), equal(0, 2), equal(1, 3)]));
    assert_eq!([[1, 0], [2, 0], [0, 3], [0, 0]].map(|first| verdict(&twice, "read", &first)), [ALLOW, ALLOW, ALLOW, EPERM]);
    // 64 bits are compared: another value has the same low half.
    assert_eq!(verdict(&two, "read", &[0x1_0000_0001, 2]), EPERM);
}

#[test]
fn of_entries_that_disagree_the_one_that_takes_more_away_counts() {
    let entry = |action: &str, op: &str| json!({"names": ["read", "mseal"], "action": action, "errnoRet": 5, "args": [{"index": 0, "value": 7, "op": op}]});
    for order in [["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"], ["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"]] {
        let profile = with(json!([entry(order[0], "SCMP_CMP_LE"), entry(order[1], "SCMP_CMP_GE")]));
        assert_eq!(verdict(&profile, "read", &[7]), errno(5), "{order:?}");
    }
}

#[test]
fn calls_newer_than_the_profile_do_not_exist_unless_the_default_lets_them_pass() {
    let profile =
        |default: &str| json!({"defaultAction": default, "syscalls": [{"names": ["openat", "quux"], "action": "SCMP_ACT_LOG"}]});
    for (default, newer, older) in [
        ("SCMP_ACT_ERRNO", ENOSYS, EPERM),
        ("SCMP_ACT_KILL", ENOSYS, libc::SECCOMP_RET_KILL_THREAD),
        ("SCMP_ACT_KILL_PROCESS", ENOSYS, libc::SECCOMP_RET_KILL_PROCESS),
        ("SCMP_ACT_TRAP", ENOSYS, libc::SECCOMP_RET_TRAP),
        ("SCMP_ACT_ALLOW", ALLOW, ALLOW),
        ("SCMP_ACT_LOG", libc::SECCOMP_RET_LOG, libc::SECCOMP_RET_LOG),
    ] {
        assert_eq!(verdict(&profile(default), "mseal", &[]), newer, "{default}");
        assert_eq!(verdict(&profile(default), "fcntl", &[]), older, "{default}");
    }
    // Where nothing is known to be newest, nothing is newer.
    for names in [json!([]), json!(["quux"])] {
        let nothing = with(json!([{"names": names, "action": "SCMP_ACT_ALLOW"}]));
        assert_eq!(verdict(&nothing, "mseal", &[]), EPERM);
    }
}

#[test]
fn foreign_calls_do_not_exist_whatever_the_profile_says() {
    let everything = json!({"defaultAction": "SCMP_ACT_ALLOW", "archMap": [
        {"architecture": NATIVE.0, "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM"]}]});
    let program = &of_profile(everything.to_string().as_bytes(), &FACTS).unwrap()[0];
    check(program);
    for architecture in [0x4000_0003, 0x4000_0028, 0xc000_00f3, 0, u32::MAX] {
        for number in 0..1000 {
            assert_eq!(run(program, &Call { architecture, ..Call::new(number, [0; 6]) }), ENOSYS);
        }
    }
    for number in [0x4000_0000, 0x4000_0001, 0x4000_0209, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        assert_eq!(run(program, &Call::new(number, [0; 6])), ENOSYS, "{number:#x}");
    }
    if cfg!(target_arch = "x86_64") {
        assert_eq!(
            [511, 512, 520, 521, 547, 548].map(|number| run(program, &Call::new(number, [0; 6]))),
            [ALLOW, ENOSYS, ENOSYS, ENOSYS, ENOSYS, ALLOW]
        );
    }
}

#[test]
fn errors_are_had_by_number_and_by_name() {
    for (members, expected) in [
        (json!({}), 1),
        (json!({"errnoRet": 0}), 0),
        (json!({"errnoRet": 4095}), 4095),
        (json!({"errnoRet": 22, "errno": "EINVAL"}), 22),
        (json!({"errno": "EHWPOISON"}), 133),
        (json!({"errno": "EWOULDBLOCK"}), 11),
        (json!({"errno": "38"}), 38),
        (json!({"errno": ""}), 1),
    ] {
        let mut entry = json!({"names": ["read", "mseal"], "action": "SCMP_ACT_ERRNO"});
        entry.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let profile = json!({"defaultAction": "SCMP_ACT_KILL", "syscalls": [entry]});
        assert_eq!(verdict(&profile, "read", &[]), errno(expected), "{profile}");
    }
    let named = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "ENOSYS"});
    assert_eq!(verdict(&named, "read", &[]), ENOSYS);
}

#[test]
fn old_and_resolved_forms_are_read_as_well() {
    let old = with(
        json!([{"name": "read", "action": "SCMP_ACT_ALLOW", "args": []}, {"name": "", "names": ["mseal"], "action": "SCMP_ACT_ALLOW"}]),
    );
    assert_eq!(verdict(&old, "read", &[]), ALLOW);
    let resolved = json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": null, "architectures": [NATIVE.0, "SCMP_ARCH_X86"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"],
        "listenerPath": "/run/x", "listenerMetadata": "y", "$schema": "z",
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL_PROCESS"}]});
    assert_eq!(verdict(&resolved, "read", &[]), libc::SECCOMP_RET_KILL_PROCESS);
    assert_eq!(verdict(&json!({"defaultAction": "SCMP_ACT_LOG", "syscalls": null}), "read", &[]), libc::SECCOMP_RET_LOG);
}

#[test]
fn what_is_always_allowed_is_left_to_the_kernels_memory() {
    let profile = with(json!([{"names": ["read", "write", "mseal"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_NE"}]}]));
    let program = &of_profile(profile.to_string().as_bytes(), &FACTS).unwrap()[0];
    assert_eq!(
        ["read", "write", "mseal", "socket", "close"].map(|name| is_always_allowed(program, number(name))),
        [true, true, true, false, false]
    );
}

#[test]
fn every_mistake_has_an_error_that_names_the_place() {
    let entry = |entry: &str| {
        format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_ALLOW"}}, {entry}]}}"#
        )
    };
    let argument = |argument: &str| entry(&format!(r#"{{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{argument}]}}"#));
    for (profile, expected) in [
        (String::new(), "not the JSON of a profile: EOF while parsing a value at line 1 column 0"),
        ("{".into(), "EOF while parsing an object at line 1"),
        ("[]".into(), "an object is expected, not an array"),
        ("\u{feff}{}".into(), "it begins with a byte order mark"),
        ("{} {}".into(), "trailing characters"),
        ("[".repeat(100_000), "recursion limit exceeded"),
        ("{}".into(), "defaultAction is missing"),
        (r#"{"defaultAction": null}"#.into(), "defaultAction is missing"),
        (r#"{"defaultAction": "SCMP_ACT_ALOW"}"#.into(), "defaultAction: unknown action \"SCMP_ACT_ALOW\": did you mean SCMP_ACT_ALLOW?"),
        (r#"{"defaultAction": "allow"}"#.into(), "defaultAction: unknown action \"allow\""),
        (r#"{"defaultAction": 1}"#.into(), "defaultAction: a string is expected, not a number"),
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#.into(), "defaultAction: SCMP_ACT_NOTIFY needs somebody who listens"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}"#.into(), "defaultErrnoRet: a whole number from 0 to 4095"),
        (r#"{"defaultaction": "SCMP_ACT_ERRNO"}"#.into(), "unknown key \"defaultaction\": did you mean defaultAction?"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultAction": "SCMP_ACT_ALLOW"}"#.into(), "\"defaultAction\" stands twice"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_LOGS"]}"#.into(), "flags[0]: unknown flag \"SECCOMP_FILTER_FLAG_LOGS\""),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_S390X"]}"#.into(), "the profile is for SCMP_ARCH_S390X, and this is "),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{"architecture": "SCMP_ARCH_S390X"}]}"#.into(), "the profile is for SCMP_ARCH_S390X, and this is "),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{}]}"#.into(), "archMap[0]: architecture is missing"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{"architecture": "SCMP_ARCH_X86_64"}], "architectures": ["SCMP_ARCH_X86_64"]}"#.into(), "both architectures and archMap"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": {}}"#.into(), "syscalls: an array is expected, not an object"),
        (entry("7"), "syscalls[1]: an object is expected, not a number"),
        (entry("null"), "syscalls[1]: an object is expected, not null"),
        (entry("{}"), "syscalls[1]: names is missing"),
        (entry(r#"{"names": ["read"]}"#), "syscalls[1]: action is missing"),
        (entry(r#"{"names": "read", "action": "SCMP_ACT_ALLOW"}"#), "syscalls[1]: names: an array is expected, not a string"),
        (entry(r#"{"names": ["read", 7], "action": "SCMP_ACT_ALLOW"}"#), "syscalls[1]: names[1]: a string is expected"),
        (entry(r#"{"names": [""], "action": "SCMP_ACT_ALLOW"}"#), "syscalls[1]: names[0]: the name is empty"),
        (entry(r#"{"names": ["read"], "name": "write", "action": "SCMP_ACT_ALLOW"}"#), "syscalls[1]: both name and names"),
        (entry(r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "arg": []}"#), "syscalls[1]: unknown key \"arg\": did you mean args?"),
        (entry(r#"{"names": ["read"], "action": "SCMP_ACT_TRACE"}"#), "syscalls[1]: action: SCMP_ACT_TRACE needs a tracer"),
        (entry(r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": -1}"#), "syscalls[1]: errnoRet: a whole number"),
        (entry(r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1.5}"#), "syscalls[1]: errnoRet: a whole number"),
        (entry(r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errno": "EPREM"}"#), "syscalls[1]: errno: there is no error \"EPREM\""),
        (entry(r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errno": "UnknownErrno"}"#), "syscalls[1]: errno: there is no error"),
        (entry(r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errno": "EPERM", "errnoRet": 2}"#), "syscalls[1]: errnoRet and errno are different errors"),
        (entry(r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4"}}"#), "syscalls[1]: includes: minKernel: \"4\" is no release"),
        (entry(r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8.1"}}"#), "minKernel: \"4.8.1\" is no release"),
        (entry(r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "excludes": {"cap": []}}"#), "syscalls[1]: excludes: unknown key \"cap\": did you mean caps?"),
        (entry(r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": [3]}}"#), "syscalls[1]: excludes: caps[0]: a string is expected"),
        (argument("{}"), "syscalls[1]: args[0]: op is missing"),
        (argument(r#"{"index": 0, "value": 1, "op": "SCMP_CMP_EG"}"#), "syscalls[1]: args[0]: op: unknown comparison \"SCMP_CMP_EG\": did you mean SCMP_CMP_"),
        (argument(r#"{"value": 1, "op": "SCMP_CMP_EQ"}"#), "syscalls[1]: args[0]: index is missing"),
        (argument(r#"{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}"#), "syscalls[1]: args[0]: index: a whole number from 0 to 5"),
        (argument(r#"{"index": 0, "value": 18446744073709551616, "op": "SCMP_CMP_EQ"}"#), "args[0]: value: a whole number from 0 to 18446744073709551615"),
        (argument(r#"{"index": 0, "value": "1", "op": "SCMP_CMP_EQ"}"#), "syscalls[1]: args[0]: value: a number is expected, not a string"),
        (argument(r#"{"index": 0, "value": 1, "op": "SCMP_CMP_EQ", "value": 2}"#), "the key \"value\" stands twice in one object"),
    ] {
        let said = refusal(&profile);
        assert!(said.contains(expected), "{profile:.200}: {said}");
    }
}

#[test]
fn more_rules_than_the_kernel_takes_are_refused() {
    let arguments =
        |count: u64| -> Vec<Value> { (0..count).map(|value| json!({"index": 0, "value": value, "op": "SCMP_CMP_EQ"})).collect() };
    let of = |count| with(json!([{"names": ["read", "mseal"], "action": "SCMP_ACT_ALLOW", "args": arguments(count)}]));
    for count in [600, 1100, 3000, 20_000] {
        let said = refusal(&of(count).to_string());
        assert!(said.contains("too many rules: the kernel takes no filter of more than 4096 instructions"), "{count}: {said}");
    }
    // What is just short enough is checked as the kernel would check it: jumps of more than 255 instructions are in it.
    let longest = of(500);
    assert_eq!([0, 499, 500].map(|value| verdict(&longest, "read", &[value])), [ALLOW, ALLOW, EPERM]);
    assert_eq!(verdict(&longest, "write", &[]), EPERM);
}

/// A conditional jump skips 255 instructions at most: every length around that is tried.
#[test]
fn jumps_lead_where_they_should_at_any_distance() {
    for count in 20..150u64 {
        for op in ["SCMP_CMP_EQ", "SCMP_CMP_GT"] {
            let arguments: Vec<Value> = (0..count).map(|at| json!({"index": 1, "value": at << 33, "op": op})).collect();
            let action = json!({"names": ["write", "openat"], "action": "SCMP_ACT_ALLOW", "args": arguments});
            let profile = with(json!([action, {"names": ["read", "mseal"], "action": "SCMP_ACT_ALLOW"}]));
            let programs = of_profile(profile.to_string().as_bytes(), &FACTS).unwrap();
            check(&programs[0]);
            let verdict = |name: &str, value: u64| run(&programs[0], &Call::new(number(name), [0, value, 0, 0, 0, 0]));
            for name in ["write", "openat"] {
                let last = (count - 1) << 33;
                let expected = if op == "SCMP_CMP_EQ" { [ALLOW, ALLOW, EPERM] } else { [EPERM, ALLOW, ALLOW] };
                assert_eq!([0, last, last | 1].map(|value| verdict(name, value)), expected, "{count} {op}");
            }
            assert_eq!(["read", "mseal", "fcntl", "close"].map(|name| verdict(name, 0)), [ALLOW, ALLOW, EPERM, EPERM], "{count}");
        }
    }
}
