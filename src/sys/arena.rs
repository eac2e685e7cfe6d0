//! The allocator: a fixed piece of zeroed memory first, the C library's heap when that is used up.
//!
//! A launcher allocates a few kilobytes and is gone. The C library would ask the kernel for memory some
//! dozen times on the way; this asks for none, which is worth a third of the time that a command line with
//! options takes (docs/performance.md).

mod counter;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use counter::Counter;

/// Pages of it that are not touched cost nothing.
const SIZE: usize = 128 * 1024;

/// Memory is handed out from the front; only the last piece is ever taken back or grown in place. The
/// counter lies in front of it, in the page that is touched anyway.
#[repr(C)]
pub struct Arena {
    used: Counter<SIZE>,
    memory: Memory,
}

#[repr(align(16))]
struct Memory(UnsafeCell<[u8; SIZE]>);

// SAFETY: each byte belongs to one piece at a time, and what its last owner did comes before what the next one does: see
// `Counter`.
unsafe impl Sync for Memory {}

// Miri has an allocator of its own, which sees more.
#[cfg_attr(not(miri), global_allocator)]
static ARENA: Arena = Arena { used: Counter(AtomicUsize::new(0)), memory: Memory(UnsafeCell::new([0; SIZE])) };

/// Where its memory begins and ends.
pub(super) fn extent() -> (usize, usize) {
    let start = ARENA.base().addr();
    (start, start + SIZE)
}

impl Arena {
    fn base(&self) -> *mut u8 {
        self.memory.0.get().cast()
    }

    /// Where a piece begins, counted from the front, if it is one of ours.
    fn offset_of(&self, piece: *mut u8) -> Option<usize> {
        piece.addr().checked_sub(self.base().addr()).filter(|&offset| offset < SIZE)
    }
}

// SAFETY: pieces are aligned, within the memory and never overlap; what is not ours is System's.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: what is taken lies within the memory; System gets what the caller asked for.
        unsafe { self.used.take(layout).map_or_else(|| System.alloc(layout), |start| self.base().add(start)) }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match self.offset_of(piece) {
            Some(start) => {
                self.used.move_end(start + layout.size(), start);
            }
            // SAFETY: not ours, so System's, and the layout is the caller's.
            None => unsafe { System.dealloc(piece, layout) },
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(start) = self.offset_of(piece) else {
            // SAFETY: not ours, so System's, and the layout is the caller's.
            return unsafe { System.realloc(piece, layout, size) };
        };
        if start.checked_add(size).is_some_and(|end| self.used.move_end(start + layout.size(), end)) {
            return piece;
        }
        // SAFETY: the caller's: size is not 0 and fits the alignment; both pieces hold what is copied.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                std::ptr::copy_nonoverlapping(piece, moved, size.min(layout.size()));
                self.dealloc(piece, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena() -> Box<Arena> {
        Box::new(Arena { used: Counter(AtomicUsize::new(0)), memory: Memory(UnsafeCell::new([0; SIZE])) })
    }

    #[test]
    fn pieces_are_aligned_and_never_overlap_and_the_rest_is_the_systems() {
        let arena = arena();
        let mut pieces = Vec::new();
        // More than it has room for; Miri takes its time for each.
        let (rounds, longer) = if cfg!(miri) { (200, 40) } else { (40_000, 1) };
        for round in 0..rounds {
            let layout = Layout::from_size_align((1 + round % 61) * longer, 1usize << (round % 5)).unwrap();
            // SAFETY: a layout with a size; the piece is freed with the same one.
            let piece = unsafe { arena.alloc(layout) };
            assert!(!piece.is_null() && piece.align_offset(layout.align()) == 0);
            // SAFETY: the piece is as long as the layout says.
            unsafe { piece.write_bytes(round as u8, layout.size()) };
            pieces.push((piece, layout, round as u8));
        }
        assert!(pieces.iter().any(|(piece, ..)| arena.offset_of(*piece).is_none()));
        for (piece, layout, value) in pieces {
            // SAFETY: as above.
            unsafe {
                assert!(std::slice::from_raw_parts(piece, layout.size()) == vec![value; layout.size()]);
                arena.dealloc(piece, layout);
            }
        }
    }

    #[test]
    fn a_piece_that_grows_keeps_what_it_holds() {
        let arena = arena();
        let mut layout = Layout::from_size_align(8, 8).unwrap();
        // SAFETY: layouts with a size; the piece is reallocated with the layout it has.
        unsafe {
            let mut piece = arena.alloc(layout);
            piece.write_bytes(7, 8);
            for size in [16, 64, SIZE - 64, SIZE + 1, SIZE * 2] {
                let between = arena.alloc(Layout::new::<u64>());
                piece = arena.realloc(piece, layout, size);
                layout = Layout::from_size_align(size, 8).unwrap();
                assert!(!piece.is_null() && std::slice::from_raw_parts(piece, 8) == [7; 8]);
                arena.dealloc(between, Layout::new::<u64>());
            }
            arena.dealloc(piece, layout);
        }
    }
}
