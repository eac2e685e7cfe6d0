//! Threads: the one place that starts them, and that knows when they are gone.
//!
//! Ids, groups and capabilities belong to a thread. One that outlived the drop would keep root's.

use std::ffi::{c_long, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Result, getpid};

/// Started, and not yet seen to be gone.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// The thread ids of those.
static IDS: Mutex<Vec<c_long>> = Mutex::new(Vec::new());

/// Threads that all do the same work, joined when this is dropped. (What the standard library has for it
/// would make the program a thirtieth larger.)
struct Threads<'a> {
    work: &'a Work<'a>,
    handles: Vec<libc::pthread_t>,
}

/// What a thread does.
type Work<'a> = &'a (dyn Fn() + Sync);

/// Runs `lead`, which may start threads that do `work`: what it is given starts one, and is false where the
/// system has none to give. Returns when all are gone.
pub fn with_threads(work: &(dyn Fn() + Sync), lead: impl FnOnce(&mut dyn FnMut() -> bool)) -> Result<()> {
    let mut threads = Threads { work: &work, handles: Vec::new() };
    lead(&mut || threads.start());
    drop(threads);
    wait_until_alone()
}

impl Threads<'_> {
    fn start(&mut self) -> bool {
        let mut handle = MaybeUninit::uninit();
        STARTED.fetch_add(1, Ordering::Relaxed);
        let work = ptr::from_ref(self.work).cast_mut().cast::<c_void>();
        // SAFETY: the work is borrowed for longer than this is, whose drop waits for the thread's end; it is Sync.
        let started = unsafe { libc::pthread_create(handle.as_mut_ptr(), ptr::null(), run, work) == 0 };
        if started {
            // SAFETY: pthread_create succeeded and has filled it in.
            self.handles.push(unsafe { handle.assume_init() });
        } else {
            STARTED.fetch_sub(1, Ordering::Relaxed);
        }
        started
    }
}

impl Drop for Threads<'_> {
    fn drop(&mut self) {
        for &handle in &self.handles {
            // SAFETY: a thread that was started here and was not joined yet. It can't fail, then.
            unsafe { libc::pthread_join(handle, ptr::null_mut()) };
        }
    }
}

extern "C" fn run(work: *mut c_void) -> *mut c_void {
    // The raw call: std refers to the C library's gettid weakly, and so the linker leaves it out, undefined.
    // SAFETY: takes nothing, always succeeds (gettid(2)).
    let id = unsafe { libc::syscall(libc::SYS_gettid) };
    IDS.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    // SAFETY: points to what `Threads::start` was given, which lives until this thread has ended.
    let work = unsafe { *work.cast::<Work<'_>>() };
    work();
    ptr::null_mut()
}

/// Waits until no thread that was started is left. That it was joined says that its work is done: the kernel
/// wakes who waits for it before the thread is quite gone.
fn wait_until_alone() -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    if is_alone() {
        return Ok(());
    }
    let (pid, begun) = (getpid()?, Instant::now());
    let mut ids = IDS.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(&id) = ids.last() {
        // SAFETY: numbers; signal 0 is none, it asks whether the thread is there.
        match Errno::result(unsafe { libc::syscall(libc::SYS_tgkill, pid, id, 0) }) {
            Err(Errno::ESRCH) => {
                ids.pop();
                STARTED.fetch_sub(1, Ordering::Relaxed);
            }
            Err(errno) => return Err(errno),
            Ok(_) if begun.elapsed() > PATIENCE => return Err(Errno::ETIMEDOUT),
            // SAFETY: takes nothing.
            Ok(_) => unsafe {
                libc::sched_yield();
            },
        }
    }
    if is_alone() { Ok(()) } else { Err(Errno::ETIMEDOUT) }
}

/// Whether there is no thread but this one.
pub fn is_alone() -> bool {
    STARTED.load(Ordering::Relaxed) == 0
}

/// How many processors this thread may run on; 1 where that can't be told.
pub fn processors() -> usize {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: a buffer of the size that is told, a bit set all through.
    let count = unsafe {
        match libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) {
            0 => libc::CPU_COUNT(&set.assume_init()),
            _ => 1,
        }
    };
    usize::try_from(count).unwrap_or(1).max(1)
}
