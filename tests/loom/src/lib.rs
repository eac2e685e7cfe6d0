//! The arena's counter under loom: every order of its steps, and every value that the memory model lets a thread read.
//! `cargo test` here, or scripts/check-memory.
#![cfg(test)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use std::alloc::Layout;

#[path = "../../../src/sys/arena/counter.rs"]
mod counter;

use counter::Counter;

const SIZE: usize = 4;

/// The counter, and memory whose every byte loom watches: two uses of one that nothing puts in order end the test.
struct Arena {
    used: Counter<SIZE>,
    memory: [UnsafeCell<usize>; SIZE],
}

// SAFETY: that is what is tested: loom ends the test where two threads use a byte at once.
unsafe impl Sync for Arena {}

impl Arena {
    fn new() -> Arc<Self> {
        Arc::new(Self { used: Counter(AtomicUsize::new(0)), memory: std::array::from_fn(|_| UnsafeCell::new(0)) })
    }

    fn take(&self, size: usize) -> Option<usize> {
        self.used.take(Layout::from_size_align(size, 1).unwrap())
    }

    fn write(&self, start: usize, end: usize, owner: usize) {
        // SAFETY: as above.
        self.memory[start..end].iter().for_each(|byte| byte.with_mut(|byte| unsafe { *byte = owner }));
    }

    fn check(&self, start: usize, end: usize, owner: usize) {
        // SAFETY: as above.
        self.memory[start..end].iter().for_each(|byte| byte.with(|byte| assert_eq!(unsafe { *byte }, owner)));
    }

    /// What every owner does with a piece.
    fn use_once(&self, size: usize, owner: usize) {
        let Some(start) = self.take(size) else { return };
        self.write(start, start + size, owner);
        self.check(start, start + size, owner);
        self.used.move_end(start + size, start);
    }
}

fn spawn(arena: &Arc<Arena>, work: impl FnOnce(&Arena) + 'static) -> thread::JoinHandle<()> {
    let arena = Arc::clone(arena);
    thread::spawn(move || work(&arena))
}

#[test]
fn a_byte_given_back_is_the_next_owners_alone() {
    loom::model(|| {
        let arena = Arena::new();
        let other = spawn(&arena, |arena| arena.use_once(1, 1));
        arena.use_once(1, 2);
        arena.use_once(2, 2);
        other.join().unwrap();
    });
}

#[test]
fn all_who_gave_back_one_behind_the_other_are_seen_by_the_next() {
    // Of three threads every order would take hours; more than two interruptions hardly ever matter.
    let mut few = loom::model::Builder::new();
    few.preemption_bound = Some(2);
    few.check(|| {
        let arena = Arena::new();
        let others = [1, 2].map(|owner| spawn(&arena, move |arena| arena.use_once(1, owner)));
        arena.use_once(2, 3);
        others.into_iter().for_each(|one| one.join().unwrap());
    });
}

#[test]
fn a_piece_that_grows_and_shrinks_in_place_takes_and_gives_back_as_well() {
    loom::model(|| {
        let arena = Arena::new();
        let other = spawn(&arena, |arena| arena.use_once(2, 2));
        if let Some(start) = arena.take(1) {
            arena.write(start, start + 1, 1);
            let grown = arena.used.move_end(start + 1, start + 2);
            if grown {
                arena.write(start + 1, start + 2, 1);
                arena.check(start, start + 2, 1);
                arena.used.move_end(start + 2, start + 1);
            }
            arena.check(start, start + 1, 1);
        }
        other.join().unwrap();
    });
}
