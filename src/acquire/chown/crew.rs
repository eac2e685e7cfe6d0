//! The threads that walk a tree together. They are started here, and gone before [`walk`] returns.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Error};
use nix::sys::resource::{Resource, getrlimit};

use super::Order;
use super::tree::{Directory, SHARED_DEPTH};
use super::walk::{HELD, Walker, Work};
use crate::failure::call;
use crate::sys;

/// More than this gain little.
const THREADS_MAX: usize = 8;

/// What a thread may hold open: its place in the tree, and that of each piece of work that lies ready for it.
const DESCRIPTORS: usize = (READY + 1) * SHARED_DEPTH + HELD + 1;

/// How much lies ready for each thread: the next piece is there when one is done.
const READY: usize = 2;

/// What is shared between the threads.
pub struct Crew {
    queue: Mutex<Queue>,
    news: Condvar,
    /// How much more the queue takes. Read without the lock, as a hint.
    room: AtomicUsize,
}

struct Queue {
    works: Vec<Work>,
    capacity: usize,
    /// Threads that may still find work for others.
    busy: usize,
    waiting: usize,
}

/// Walks a tree with as many threads as there are processors, where it is large enough.
pub fn walk(order: &Order<'_>, top: Arc<Directory>) -> Result<(), Error> {
    let crew = Crew::of_one();
    let threads = threads(top.descriptor().map_or(0, |open| open.as_raw_fd()));
    let serve = || Walker::new(order, &crew).serve();
    let lead = |start: &mut dyn FnMut() -> bool| {
        Walker::new(order, &crew).lead(top, || {
            for _ in 1..threads {
                crew.join();
                // Without it (a limit, a seccomp filter) those that are there do the work.
                if !start() {
                    crew.resign();
                    break;
                }
            }
        });
    };
    sys::with_threads(&serve, lead).map_err(|errno| call("tgkill", errno)).context("a thread of the walk does not end")
}

/// How many there are to be, with whoever asks. The number of a descriptor tells how many others are open: it was the
/// lowest that was free.
fn threads(open: RawFd) -> usize {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let free = limit.saturating_sub(usize::try_from(open).unwrap_or(0));
    sys::processors().min(THREADS_MAX).min(free / DESCRIPTORS)
}

impl Crew {
    fn of_one() -> Self {
        let queue = Queue { works: Vec::new(), capacity: 0, busy: 1, waiting: 0 };
        Self { queue: Mutex::new(queue), news: Condvar::new(), room: AtomicUsize::new(0) }
    }

    fn join(&self) {
        let mut queue = self.queue();
        queue.busy += 1;
        queue.capacity += READY;
        self.tell_room(&queue);
    }

    fn resign(&self) {
        let mut queue = self.queue();
        queue.busy -= 1;
        queue.capacity -= READY;
        self.tell_room(&queue);
    }

    /// Whether [`Crew::offer`] is welcome.
    pub fn has_room(&self) -> bool {
        self.room.load(Ordering::Relaxed) > 0
    }

    /// Puts work where another thread finds it. There may be a little more of it than there is room for.
    pub fn offer(&self, work: Work) {
        let mut queue = self.queue();
        queue.works.push(work);
        self.tell_room(&queue);
        if queue.waiting > 0 {
            self.news.notify_one();
        }
    }

    /// The oldest work, which is likely to be the largest; waits for some while others may find more. `None`
    /// when all is done.
    pub fn take(&self) -> Option<Work> {
        let mut queue = self.queue();
        queue.busy -= 1;
        loop {
            if !queue.works.is_empty() {
                let work = queue.works.remove(0);
                queue.busy += 1;
                self.tell_room(&queue);
                return Some(work);
            }
            if queue.busy == 0 {
                self.news.notify_all();
                return None;
            }
            queue.waiting += 1;
            queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.waiting -= 1;
        }
    }

    fn tell_room(&self, queue: &Queue) {
        self.room.store(queue.capacity.saturating_sub(queue.works.len()), Ordering::Relaxed);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
