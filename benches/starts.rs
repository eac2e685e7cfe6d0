//! What the benches that start programs need: the programs, all written alike, a target that does nothing, and a start
//! that is timed.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs, ptr};

/// Rounds that are not counted.
pub const WARM_UP: usize = 20;

/// CAP_CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW,
/// SYS_CHROOT, MKNOD, AUDIT_WRITE and SETFCAP: Docker's default.
pub const CONTAINER: u64 =
    1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 13 | 1 << 18 | 1 << 27 | 1 << 29 | 1 << 31;

/// The options of setpriv for the drop that stepdown makes.
pub const SETPRIV: &str = "--reuid nobody --regid 65534 --init-groups --inh-caps=-all --ambient-caps=-all --bounding-set=-all \
                           --no-new-privs";

/// Takes away where cargo would have every program that is not static look for its libraries first.
pub fn leave_cargos_environment() {
    // SAFETY: there is one thread.
    unsafe { env::remove_var("LD_LIBRARY_PATH") };
}

/// The floor is no part of the package: nothing but the compiler is needed for it. Without arguments it exits at once.
pub fn build_floor(directory: &Path) -> PathBuf {
    let built = directory.join("built");
    let flags = "--edition 2024 -C opt-level=2 -C panic=abort -C linker=rust-lld -C link-self-contained=no \
                 -C relocation-model=static -C strip=symbols -C link-arg=--no-rosegment -C link-arg=-znorelro \
                 -C link-arg=--no-eh-frame-hdr";
    let done = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(flags.split_whitespace())
        .args(["--target", &format!("{}-unknown-linux-musl", env::consts::ARCH), "-o"])
        .arg(&built)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/floor.rs"))
        .status()
        .expect("rustc");
    assert!(done.success(), "rustc could not build benches/floor.rs");
    install(&built, directory, "floor")
}

/// Writes every program alike, in one go, onto the same file system: whether the page cache holds a file in
/// large pieces or in single pages makes 10 µs and more.
pub fn install(from: &Path, directory: &Path, name: &str) -> PathBuf {
    let to = directory.join(name);
    let bytes = fs::read(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    fs::write(&to, bytes).expect("a copy");
    set_open(&to);
    to
}

/// For everybody to read and to run.
pub fn set_open(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// Given by the variable, or found in PATH.
pub fn find(variable: &str, name: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .or_else(|| env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(|file| file.is_file()))
}

/// A program and its options.
pub fn command(program: &Path, options: &str) -> Vec<CString> {
    let options = options.split_whitespace().map(|word| CString::new(word).expect("no null"));
    std::iter::once(c_string(program)).chain(options).collect()
}

/// A path as a word of a command.
pub fn c_string(path: &Path) -> CString {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).expect("no null")
}

/// What is given up here can't be had back, so a child gives it up.
pub fn in_a_child(work: impl FnOnce()) {
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
pub fn set_streams_aside() -> OwnedFd {
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

/// Ends what [`set_streams_aside`] began.
pub fn bring_back(stdout: &OwnedFd) {
    // SAFETY: numbers.
    assert_eq!(unsafe { libc::dup2(stdout.as_raw_fd(), 1) }, 1, "dup2");
}

/// What root's programs get from now on: an execve gives root its bounding set, and what is inheritable.
pub fn bound_by(set: u64) {
    // SAFETY: numbers.
    unsafe {
        for number in (0..64).filter(|number| set >> number & 1 == 0) {
            if libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) != 0 {
                break;
            }
        }
    }
    hold(u64::MAX);
}

/// Of what is permitted, this stays permitted and effective; nothing is inheritable.
pub fn hold(set: u64) {
    let header = [0x2008_0522u32, 0];
    let mut data = [0u32; 6];
    // SAFETY: a header and two structures of three numbers, as capget(2) and capset(2) take them.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()), 0, "capget");
        let (low, high) = (data[1] & set as u32, data[4] & (set >> 32) as u32);
        let data = [low, low, 0, high, high, 0];
        assert_eq!(libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()), 0, "capset");
    }
}

/// Starts it; returns when its execve is done.
pub fn spawn(command: &[CString]) -> libc::pid_t {
    unsafe extern "C" {
        static environ: *const *mut libc::c_char;
    }
    let words: Vec<_> = command.iter().map(|word| word.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect();
    let mut child = 0;
    // SAFETY: C strings, and arrays of them that end with a null pointer.
    let failed = unsafe { libc::posix_spawn(&raw mut child, words[0], ptr::null(), ptr::null(), words.as_ptr(), environ) };
    assert_eq!(failed, 0, "posix_spawn");
    child
}

/// Waits for its end; how it ended.
pub fn wait(child: libc::pid_t) -> i32 {
    let mut status = -1;
    // SAFETY: a number and a place for one.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child, "waitpid");
    status
}

/// Of sorted times, in microseconds.
pub fn percentile(took: &[Duration], percent: usize) -> Option<f64> {
    took.get(took.len() * percent / 100).map(|took| took.as_secs_f64() * 1e6)
}
