//! What a start costs: `cargo bench --bench startup -- [ROUNDS]`, as root.
//!
//! Every program starts the same target, which exits at once, in turn with the others and in another order each
//! round, so that whatever else the machine does falls on all alike. Told are the median and the tenth percentile, what of the median lies
//! above the target started alone, and how that compares with su-exec and with the floor (`floor.rs`: the
//! system calls alone). In two situations: with all of root's capabilities, and with the fourteen that a
//! container has by default.
//!
//! | variable | which program | where unset |
//! |---|---|---|
//! | `STEPDOWN_BIN` | stepdown; several with colons between, to compare them | the release build for musl |
//! | `SU_EXEC` | su-exec, linked statically with musl | not measured |
//! | `GOSU`, `SETPRIV` | gosu, util-linux's setpriv | looked for in PATH |
#![allow(unsafe_code, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, ptr};

const WARM_UP: usize = 20;

/// CAP_CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW,
/// SYS_CHROOT, MKNOD, AUDIT_WRITE and SETFCAP: Docker's default.
const CONTAINER: u64 =
    1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 13 | 1 << 18 | 1 << 27 | 1 << 29 | 1 << 31;

struct Row {
    name: String,
    /// Nothing where the program is not here.
    command: Option<Vec<CString>>,
    took: Vec<Duration>,
}

fn main() {
    // SAFETY: takes nothing.
    if unsafe { libc::geteuid() } != 0 {
        println!("startup: not measured: giving root up needs root");
        return;
    }
    let rounds = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1000);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut rows = rows(directory.path());
    for situation in ["all of root's capabilities", "a container's fourteen capabilities"] {
        let set = if situation.starts_with("all") { None } else { Some(CONTAINER) };
        in_a_child(|| {
            let terminal = set_streams_aside();
            if let Some(set) = set {
                keep_only(set);
            }
            measure(&mut rows, rounds);
            bring_back(&terminal);
            print!("{}", table(situation, rounds, &rows));
        });
    }
}

fn rows(directory: &Path) -> Vec<Row> {
    let copy = |from: &Path, name: &str| {
        let to = directory.join(name);
        install(from, &to);
        to
    };
    set_open(directory);
    let floor = build_floor(directory);
    let target = copy(&floor, "target");
    let found = |variable: &str, name: &str| {
        env::var_os(variable).map(PathBuf::from).or_else(|| in_path(name)).map(|from| copy(&from, name))
    };
    let row = |name: &str, program: Option<&Path>, options: &str| Row {
        name: name.to_owned(),
        command: program.map(|program| command(program, options, &target)),
        took: Vec::new(),
    };
    let mut rows = vec![
        Row { name: "target alone".to_owned(), command: Some(vec![c_string(&target)]), took: Vec::new() },
        row("floor", Some(&floor), "65534 65534"),
    ];
    for (index, from) in stepdown().into_iter().enumerate() {
        let program = copy(&from, &format!("stepdown{index}"));
        let tag = if index == 0 { String::new() } else { format!(" ({})", index + 1) };
        rows.push(row(&format!("stepdown{tag}"), Some(&program), "nobody"));
        rows.push(row(&format!("stepdown{tag} --umask 027 --env A=B"), Some(&program), "--umask 027 --env A=B nobody"));
    }
    let su_exec = env::var_os("SU_EXEC").map(|from| copy(Path::new(&from), "su-exec"));
    rows.push(row("su-exec", su_exec.as_deref(), "nobody"));
    rows.push(row("gosu", found("GOSU", "gosu").as_deref(), "nobody"));
    let the_same_drop = "--reuid nobody --regid 65534 --init-groups --inh-caps=-all --ambient-caps=-all --bounding-set=-all \
                         --no-new-privs";
    rows.push(row("setpriv", found("SETPRIV", "setpriv").as_deref(), the_same_drop));
    rows
}

fn stepdown() -> Vec<PathBuf> {
    if let Some(given) = env::var_os("STEPDOWN_BIN") {
        return env::split_paths(&given).collect();
    }
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    vec![target.join(musl_target()).join("release/stepdown")]
}

fn musl_target() -> String {
    format!("{}-unknown-linux-musl", env::consts::ARCH)
}

/// The floor is no part of the package: nothing but the compiler is needed for it.
fn build_floor(directory: &Path) -> PathBuf {
    let built = directory.join("built");
    let flags = "--edition 2024 -C opt-level=2 -C panic=abort -C linker=rust-lld -C link-self-contained=no \
                 -C relocation-model=static -C strip=symbols -C link-arg=--no-rosegment -C link-arg=-znorelro \
                 -C link-arg=--no-eh-frame-hdr";
    let done = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(flags.split_whitespace())
        .args(["--target", &musl_target(), "-o"])
        .arg(&built)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/floor.rs"))
        .status()
        .expect("rustc");
    assert!(done.success(), "rustc could not build benches/floor.rs");
    let floor = directory.join("floor");
    install(&built, &floor);
    floor
}

/// Writes every program alike, in one go, onto the same file system: whether the page cache holds a file in
/// large pieces or in single pages makes 10 µs and more.
fn install(from: &Path, to: &Path) {
    let bytes = fs::read(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    fs::write(to, bytes).expect("a copy");
    set_open(to);
}

fn set_open(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

fn in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(|file| file.is_file())
}

fn command(program: &Path, options: &str, target: &Path) -> Vec<CString> {
    let options = options.split_whitespace().map(|word| CString::new(word).expect("no null"));
    std::iter::once(c_string(program)).chain(options).chain(std::iter::once(c_string(target))).collect()
}

fn c_string(path: &Path) -> CString {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).expect("no null")
}

// ---- measuring

/// What is given up here can't be had back, so a child gives it up.
fn in_a_child(work: impl FnOnce()) {
    // SAFETY: there is one thread.
    match unsafe { libc::fork() } {
        0 => {
            work();
            std::process::exit(0);
        }
        child => assert!(child > 0 && wait(child) == 0, "the measuring process failed"),
    }
}

/// The same streams for all, whatever the bench itself was started with. Returns the old stdout.
fn set_streams_aside() -> OwnedFd {
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null").expect("/dev/null");
    // SAFETY: numbers; the copy is ours alone. Nothing reads or writes the streams until they are brought back.
    unsafe {
        let aside = libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 3);
        assert!(aside > 2, "fcntl");
        for fd in 0..=1 {
            assert_eq!(libc::dup2(null.as_raw_fd(), fd), fd, "dup2");
        }
        OwnedFd::from_raw_fd(aside)
    }
}

fn bring_back(stdout: &OwnedFd) {
    // SAFETY: numbers.
    assert_eq!(unsafe { libc::dup2(stdout.as_raw_fd(), 1) }, 1, "dup2");
}

/// Leaves root these capabilities, in the sets that outlive an execve.
fn keep_only(set: u64) {
    let header = [0x2008_0522u32, 0];
    let (low, high) = (set as u32, (set >> 32) as u32);
    let data = [low, low, 0, high, high, 0];
    // SAFETY: numbers; a header and two structures of three numbers, as capset(2) takes them.
    unsafe {
        for number in (0..64).filter(|number| set >> number & 1 == 0) {
            if libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) != 0 {
                break;
            }
        }
        assert_eq!(libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()), 0, "capset");
    }
}

fn measure(rows: &mut [Row], rounds: usize) {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let mut seed = 1;
    for round in 0..WARM_UP + rounds {
        shuffle(&mut order, &mut seed);
        for &place in &order {
            let row = &mut rows[place];
            let Some(command) = &row.command else { continue };
            let (took, status) = start(command);
            assert_eq!(status, 0, "{} failed", row.name);
            if round >= WARM_UP {
                row.took.push(took);
            }
        }
    }
    rows.iter_mut().for_each(|row| row.took.sort_unstable());
}

/// Another order each round: whoever comes after a program that fills the CPU's caches pays for it.
fn shuffle(order: &mut [usize], seed: &mut u64) {
    for last in (1..order.len()).rev() {
        // Knuth's MMIX; the high bits are the random ones.
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(last, (*seed >> 33) as usize % (last + 1));
    }
}

/// From the call that starts it until its end has been seen.
fn start(command: &[CString]) -> (Duration, i32) {
    unsafe extern "C" {
        static environ: *const *mut libc::c_char;
    }
    let words: Vec<_> = command.iter().map(|word| word.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect();
    let mut child = 0;
    let begin = Instant::now();
    // SAFETY: C strings, and arrays of them that end with a null pointer.
    let failed = unsafe { libc::posix_spawn(&raw mut child, words[0], ptr::null(), ptr::null(), words.as_ptr(), environ) };
    assert_eq!(failed, 0, "posix_spawn");
    let status = wait(child);
    (begin.elapsed(), status)
}

fn wait(child: libc::pid_t) -> i32 {
    let mut status = -1;
    // SAFETY: a number and a place for one.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child, "waitpid");
    status
}

// ---- telling

fn percentile(row: &Row, percent: usize) -> Option<f64> {
    row.took.get(row.took.len() * percent / 100).map(|took| took.as_secs_f64() * 1e6)
}

fn table(situation: &str, rounds: usize, rows: &[Row]) -> String {
    let above = |row: &Row, percent| Some(percentile(row, percent)? - percentile(&rows[0], percent)?);
    let named = |name| rows.iter().find(|row| row.name == name).and_then(|row| above(row, 50));
    let (su_exec, floor) = (named("su-exec"), named("floor"));
    let mut text = format!("\nWith {situation}, {rounds} rounds, µs:\n\n");
    text += "| | median | p10 | above the target | p10 | of su-exec | of the floor |\n|---|--:|--:|--:|--:|--:|--:|\n";
    for (place, row) in rows.iter().enumerate() {
        let (Some(median), Some(tenth)) = (percentile(row, 50), percentile(row, 10)) else {
            text += &format!("| {} | not given | | | | | |\n", row.name);
            continue;
        };
        let cell = |value: Option<f64>, digits| value.filter(|_| place > 0).map_or(String::new(), |v| format!("{v:.digits$}"));
        let (cost, cost_tenth) = (above(row, 50), above(row, 10));
        let ratio = |of: Option<f64>| cell(cost.zip(of).map(|(cost, of)| cost / of), 2);
        text += &format!("| {} | {median:.0} | {tenth:.0} | {} | {} |", row.name, cell(cost, 0), cell(cost_tenth, 0));
        text += &format!(" {} | {} |\n", ratio(su_exec), ratio(floor));
    }
    text
}
