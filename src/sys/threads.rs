//! Threads: the one place that starts them, and that knows when they are gone.
//!
//! Ids, groups and capabilities belong to a thread. One that outlived the drop would keep root's.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Result, getpid};

/// Started, and not yet seen to be gone; or that there are none and will be none.
static STARTED: AtomicUsize = AtomicUsize::new(0);
const NO_MORE: usize = usize::MAX;

/// The thread ids of those, 0 where there is none. Of fixed size: what is allocated may be given back while a static lives.
static IDS: [AtomicI32; MOST] = [const { AtomicI32::new(0) }; MOST];
const MOST: usize = 64;

/// Whether somebody has promised that threads are started here alone.
static VOUCHED: AtomicBool = AtomicBool::new(false);

/// What [`super::start`] is promised.
pub(super) fn vouch() {
    VOUCHED.store(true, Ordering::Relaxed);
}

/// There is one thread, and there will be no other: from the making of this on none is started.
pub struct Alone(PhantomData<*const ()>);

impl Alone {
    /// None where there are others, or where nobody has promised that all are known here.
    pub fn for_good() -> Option<Self> {
        if !VOUCHED.load(Ordering::Relaxed) {
            return None;
        }
        let none = STARTED.compare_exchange(0, NO_MORE, Ordering::Acquire, Ordering::Relaxed);
        matches!(none, Ok(_) | Err(NO_MORE)).then_some(Self(PhantomData))
    }
}

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
///
/// A lie is seen: a thread that was not started, or has not ended, is counted: the run ends after ten seconds.
pub fn with_threads(work: &(dyn Fn() + Sync), lead: impl FnOnce(&mut dyn FnMut() -> bool)) -> Result<()> {
    let mut threads = Threads { work: &work, handles: Vec::new() };
    lead(&mut || threads.start());
    drop(threads);
    wait_until_alone()
}

impl Threads<'_> {
    fn start(&mut self) -> bool {
        let mut handle = MaybeUninit::uninit();
        if STARTED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < MOST).then_some(count + 1)).is_err() {
            return false;
        }
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
    let id = i32::try_from(id).unwrap_or(i32::MAX);
    // No more are started than there are places.
    let mut places = IDS.iter();
    while places.next().is_some_and(|place| place.compare_exchange(0, id, Ordering::Relaxed, Ordering::Relaxed).is_err()) {}
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
    for place in &IDS {
        while let id @ 1.. = place.load(Ordering::Relaxed) {
            // SAFETY: numbers; signal 0 is none, it asks whether the thread is there.
            match Errno::result(unsafe { libc::syscall(libc::SYS_tgkill, pid, id, 0) }) {
                Err(Errno::ESRCH) => {
                    place.store(0, Ordering::Relaxed);
                    STARTED.fetch_sub(1, Ordering::Release);
                }
                Err(errno) => return Err(errno),
                Ok(_) if begun.elapsed() > PATIENCE => return Err(Errno::ETIMEDOUT),
                // SAFETY: takes nothing.
                Ok(_) => unsafe {
                    libc::sched_yield();
                },
            }
        }
    }
    if is_alone() { Ok(()) } else { Err(Errno::ETIMEDOUT) }
}

/// Whether there is no thread but this one.
pub fn is_alone() -> bool {
    matches!(STARTED.load(Ordering::Acquire), 0 | NO_MORE)
}

/// How many processors this thread may run on; 1 where that can't be told.
///
/// A lie is harmless: 0 processors are 1.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nobody_promised_to_start_threads_here_alone_nothing_is_taken_for_alone() {
        // These tests' own threads are not counted.
        assert!(Alone::for_good().is_none());
    }

    #[test]
    fn threads_are_counted_until_the_kernel_says_that_they_are_gone_and_no_more_are_started_than_fit() {
        let (done, mut started) = (AtomicUsize::new(0), 0);
        let work = || {
            done.fetch_add(1, Ordering::Relaxed);
        };
        with_threads(&work, |start| {
            started = (0..MOST + 2).take_while(|_| start()).count();
            assert!(!is_alone());
        })
        .unwrap();
        assert!(started > 0 && started <= MOST && started == done.load(Ordering::Relaxed), "{started}");
        assert!(is_alone() && IDS.iter().all(|place| place.load(Ordering::Relaxed) == 0));
    }
}
