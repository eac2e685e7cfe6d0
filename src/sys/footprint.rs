//! Giving memory back: for a process that has done most of its work and stays.

use std::mem::size_of;
use std::os::fd::RawFd;

use super::descriptors::keep_the_terminal;
use super::{Alone, Plain};

/// Goes on with `run`, for good, and lets go of what the start has touched: all descriptors but stderr and the terminal,
/// code that is mapped (what is needed comes back from the page cache by itself), the stack below, and all that was
/// allocated. `run` is told where the terminal is now.
///
/// Whatever owned any of it is gone: the frames above are never returned to, there is no other thread, the state is
/// [`Plain`], a function pointer captures nothing, and no static owns anything ([`super::start`]).
///
/// A lie is harmless: memory stays used, and descriptors stay open in a process that is nobody; what the command reads ends
/// later.
pub fn go_on_without_the_start<S: Plain>(_: Alone, terminal: Option<RawFd>, state: S, run: fn(S, Option<RawFd>) -> !) -> ! {
    // SAFETY: as above.
    let terminal = unsafe {
        let terminal = keep_the_terminal(terminal);
        forget_the_start();
        terminal
    };
    run(state, terminal)
}

/// Apart, so that its frame is the lowest.
///
/// # Safety
/// Nothing that was allocated is used again, or freed.
#[inline(never)]
unsafe fn forget_the_start() {
    let mark = 0u8;
    // SAFETY: the code is a mapping of the file that nobody writes to. Two pages below this frame the stack holds nothing.
    // What was allocated is the caller's; what is allocated from now on lies behind it, or, where the counter was forgotten
    // with the rest, in its place.
    unsafe {
        forget_code();
        let here = (&raw const mark).addr();
        give_back(here.saturating_sub(STACK), here.saturating_sub(2 * PAGE));
        let (start, end) = super::arena::extent();
        give_back(start, end);
    }
}

const PAGE: usize = 4096;

/// As much as the kernel maps at once, and more than the start ever takes.
const STACK: usize = 128 * 1024;

/// The whole pages between two addresses; those that are not mapped are passed over.
unsafe fn give_back(start: usize, end: usize) {
    // SAFETY: takes a number.
    let page = usize::try_from(unsafe { libc::getauxval(libc::AT_PAGESZ) }).unwrap_or(0).max(PAGE);
    let (start, end) = (start.next_multiple_of(page), end - end % page);
    if start < end {
        // SAFETY: the caller's.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// The segments of this program that can't be written to, by its own program headers.
unsafe fn forget_code() {
    // SAFETY: the kernel put the headers' address and number there; they are part of the program.
    let headers = unsafe {
        let (first, count) = (libc::getauxval(libc::AT_PHDR), libc::getauxval(libc::AT_PHNUM));
        if first == 0 || usize::try_from(libc::getauxval(libc::AT_PHENT)) != Ok(size_of::<libc::Elf64_Phdr>()) {
            return;
        }
        std::slice::from_raw_parts(first as *const libc::Elf64_Phdr, usize::try_from(count).unwrap_or(0))
    };
    // Where it was loaded, in case that is not where it was linked for.
    let Some(own) = headers.iter().find(|header| header.p_type == libc::PT_PHDR) else { return };
    let base = headers.as_ptr().addr().wrapping_sub(own.p_vaddr as usize);
    for segment in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
        let start = base.wrapping_add(segment.p_vaddr as usize);
        let (start, end) = (start - start % PAGE, start + (segment.p_memsz as usize).next_multiple_of(PAGE));
        // SAFETY: a mapping of the file, which comes back as it was. Its last page is shared with nothing.
        unsafe {
            part_at(start + WINDOW, end);
            give_back(start, end);
        }
    }
}

/// In front of this lies what is needed from now on (`scripts/layout.ld`).
const WINDOW: usize = 64 * 1024;

/// Makes a mapping two, by advice that changes nothing else: a fault in the first maps nothing of the second, in however
/// large pieces the page cache holds the file (Linux 6.18 maps each as a whole).
unsafe fn part_at(place: usize, end: usize) {
    if place < end {
        // SAFETY: the caller's: a mapping of the file.
        unsafe { libc::madvise(place as *mut libc::c_void, end - place, libc::MADV_RANDOM) };
    }
}
