//! The floor: a walk by the bare system calls, with nothing of what makes it safe.
//!
//! Entries are looked at and changed by name, so whoever renames them meanwhile has the wrong file changed; hard
//! links, mounts and the order of the changes don't count. The same walk prepares the trees and checks them.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex};
use std::{mem, ptr, thread};

const BUFFER: usize = 32 * 1024;

/// What becomes of an entry, by its number and owner: the owner it shall have, or nothing.
pub type Judge = dyn Fn(&libc::statx) -> Option<u32> + Sync;

/// How many were looked at, and how many of them were to be changed.
#[derive(Default)]
pub struct Count {
    pub seen: u64,
    pub wrong: u64,
}

enum Job {
    Enter(Arc<OwnedFd>, CString),
    /// What one call of getdents64 brought, of a directory so large that it is worth sharing.
    Names(Arc<OwnedFd>, Vec<u8>),
}

struct Queue {
    jobs: Vec<Job>,
    /// Taken or waiting; none left is the end.
    open: usize,
}

struct Walk<'a> {
    threads: usize,
    judge: &'a Judge,
    change: bool,
    queue: Mutex<Queue>,
    news: Condvar,
}

/// Walks the tree and gives every entry the owner that `judge` wants; or only counts, unless `change`.
pub fn walk(top: &CStr, threads: usize, change: bool, judge: &Judge) -> Count {
    let first = Job::Enter(Arc::new(open(libc::AT_FDCWD, c"/")), top.to_owned());
    let queue = Mutex::new(Queue { jobs: vec![first], open: 1 });
    let walk = Walk { threads, judge, change, queue, news: Condvar::new() };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| walk.work())).collect();
        let mut sum = walk.work();
        for other in others {
            let count = other.join().expect("a thread of the floor");
            sum.seen += count.seen;
            sum.wrong += count.wrong;
        }
        sum
    })
}

impl Walk<'_> {
    fn work(&self) -> Count {
        let (mut count, mut buffer) = (Count::default(), vec![0; BUFFER]);
        while let Some(job) = self.take() {
            let below = match job {
                Job::Enter(parent, name) => self.enter(&parent, &name, &mut buffer, &mut count),
                Job::Names(directory, names) => self.look_at_all(&directory, &names, &mut count),
            };
            self.done(below);
        }
        count
    }

    fn take(&self) -> Option<Job> {
        let mut queue = self.queue.lock().expect("the queue");
        loop {
            match queue.jobs.pop() {
                None if queue.open > 0 => queue = self.news.wait(queue).expect("the queue"),
                job => return job,
            }
        }
    }

    fn done(&self, below: Vec<Job>) {
        let mut queue = self.queue.lock().expect("the queue");
        queue.open = queue.open + below.len() - 1;
        queue.jobs.extend(below);
        if queue.jobs.len() > 1 || queue.open == 0 {
            self.news.notify_all();
        }
    }

    fn enter(&self, parent: &OwnedFd, name: &CStr, buffer: &mut Vec<u8>, count: &mut Count) -> Vec<Job> {
        let directory = Arc::new(open(parent.as_raw_fd(), name));
        let mut below = Vec::new();
        loop {
            let filled = getdents(directory.as_raw_fd(), buffer);
            match filled {
                0 => break,
                _ if filled > BUFFER / 2 && self.others_have_nothing() => {
                    let mut names = mem::replace(buffer, vec![0; BUFFER]);
                    names.truncate(filled);
                    self.share(Job::Names(Arc::clone(&directory), names));
                }
                _ => below.extend(self.look_at_all(&directory, &buffer[..filled], count)),
            }
        }
        self.look_at(directory.as_raw_fd(), c"", libc::AT_EMPTY_PATH, count);
        below
    }

    fn share(&self, job: Job) {
        let mut queue = self.queue.lock().expect("the queue");
        queue.open += 1;
        queue.jobs.push(job);
        self.news.notify_one();
    }

    /// Names handed over lie in memory; a few in store are enough.
    fn others_have_nothing(&self) -> bool {
        self.threads > 1 && self.queue.lock().expect("the queue").jobs.len() < 2 * self.threads
    }

    fn look_at_all(&self, directory: &Arc<OwnedFd>, mut names: &[u8], count: &mut Count) -> Vec<Job> {
        let mut below = Vec::new();
        while names.len() > 19 {
            // struct linux_dirent64: ino and off, 8 bytes each; reclen, 2; type, 1; the name.
            let (entry, rest) = names.split_at(usize::from(u16::from_ne_bytes([names[16], names[17]])));
            names = rest;
            let name = CStr::from_bytes_until_nul(&entry[19..]).expect("a name");
            match (name.to_bytes(), entry[18]) {
                (b"." | b"..", _) => {}
                (_, libc::DT_DIR) => below.push(Job::Enter(Arc::clone(directory), name.to_owned())),
                _ => self.look_at(directory.as_raw_fd(), name, libc::AT_SYMLINK_NOFOLLOW, count),
            }
        }
        below
    }

    fn look_at(&self, directory: RawFd, name: &CStr, flags: i32, count: &mut Count) {
        let facts = statx(directory, name, flags);
        count.seen += 1;
        let Some(owner) = (self.judge)(&facts) else { return };
        count.wrong += 1;
        if self.change {
            // SAFETY: numbers and a C string.
            let result = unsafe { libc::fchownat(directory, name.as_ptr(), owner, owner, flags) };
            assert_eq!(result, 0, "fchownat {name:?}: {}", std::io::Error::last_os_error());
        }
    }
}

fn open(directory: RawFd, name: &CStr) -> OwnedFd {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: a number and a C string; the descriptor is ours alone.
    unsafe {
        let fd = libc::openat(directory, name.as_ptr(), flags);
        assert!(fd >= 0, "openat {name:?}: {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    }
}

fn getdents(directory: RawFd, buffer: &mut [u8]) -> usize {
    // SAFETY: the kernel writes at most as many bytes as it is told there are.
    let count = unsafe { libc::syscall(libc::SYS_getdents64, directory, buffer.as_mut_ptr(), buffer.len()) };
    usize::try_from(count).expect("getdents64")
}

fn statx(directory: RawFd, name: &CStr, flags: i32) -> libc::statx {
    let mask = libc::STATX_UID | libc::STATX_GID | libc::STATX_INO;
    // SAFETY: a C string and room of the right size; integers all through, of which zero is a value.
    unsafe {
        let mut facts: libc::statx = mem::zeroed();
        let result = libc::syscall(libc::SYS_statx, directory, name.as_ptr(), flags, mask, ptr::from_mut(&mut facts));
        assert_eq!(result, 0, "statx {name:?}: {}", std::io::Error::last_os_error());
        facts
    }
}
