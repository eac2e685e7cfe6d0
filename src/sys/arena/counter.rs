//! How much of the arena is in use: the one number by which threads agree on whose a byte is. It stands apart because loom
//! (tests/loom) runs it with atomics of its own, which try every order that the memory model allows.

use std::alloc::Layout;

use super::{AtomicUsize, Ordering};

/// Bytes in use, counted from the front, of `SIZE`. It moves by read-modify-write alone.
///
/// Giving a piece back releases, taking one acquires: what the last owner did to its bytes has happened before what the next
/// one does. Without it a late write of the last owner's, or its late read, could meet the next owner's first write, on a
/// processor that does not keep the order by itself (aarch64). It holds for the first of many who gave back, too: each of the
/// later moves reads what it wrote, or what came of that, and so carries it on (a release sequence).
#[repr(transparent)]
pub struct Counter<const SIZE: usize>(pub AtomicUsize);

impl<const SIZE: usize> Counter<SIZE> {
    /// Takes a piece off the front of what is free; returns where it begins. The memory itself is aligned to 16.
    pub fn take(&self, layout: Layout) -> Option<usize> {
        let mut used = self.0.load(Ordering::Relaxed);
        loop {
            let start = used.checked_next_multiple_of(layout.align())?;
            let end = start.checked_add(layout.size()).filter(|&end| end <= SIZE && layout.align() <= 16)?;
            match self.0.compare_exchange_weak(used, end, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(start),
                Err(now) => used = now,
            }
        }
    }

    /// Moves the end of the last piece, if it is still the last: gives bytes back, or takes more.
    pub fn move_end(&self, from: usize, to: usize) -> bool {
        to <= SIZE && self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}
