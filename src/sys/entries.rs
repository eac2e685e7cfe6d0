//! The names in a directory: getdents64(2), and how what it says is read.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::Result;

/// One name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its name, neither `.` nor `..`.
    pub name: &'a CStr,
    /// Whether the file system said that it is a directory; it need not say.
    pub says_directory: bool,
    /// Whether there is none behind it in the list.
    pub is_last: bool,
    record: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The first one of a list that is neither `.` nor `..`, and how long the list is up to its end. Nothing of the list is
    /// believed: what is no record, or reaches beyond the list, ends it.
    #[must_use]
    pub fn first(list: &'a [u8]) -> Option<(Self, usize)> {
        // struct linux_dirent64: ino and off, 8 bytes each; reclen, 2; type, 1; the name.
        let mut start = 0;
        loop {
            let rest = list.get(start..)?;
            let length = usize::from(u16::from_ne_bytes([*rest.get(16)?, *rest.get(17)?]));
            let record = rest.get(..length)?;
            let name = CStr::from_bytes_until_nul(record.get(19..)?).ok()?;
            let end = start + length;
            if name != c"." && name != c".." {
                let says_directory = *record.get(18)? == libc::DT_DIR;
                return Some((Self { name, says_directory, is_last: end == list.len(), record }, end));
            }
            start = end;
        }
    }

    /// A list of this one.
    #[must_use]
    pub fn alone(&self) -> Entries {
        Entries { buffer: self.record.to_vec(), filled: self.record.len(), at: 0 }
    }
}

/// Names of a directory, in the form that getdents64(2) gives them.
#[derive(Default)]
pub struct Entries {
    buffer: Vec<u8>,
    filled: usize,
    at: usize,
}

impl Entries {
    /// None, with room to read so many bytes of them.
    #[must_use]
    pub fn with_room(size: usize) -> Self {
        Self { buffer: vec![0; size], filled: 0, at: 0 }
    }

    /// Whether there is room to read so many bytes.
    #[must_use]
    pub fn has_room(&self, size: usize) -> bool {
        self.buffer.len() >= size
    }

    /// Reads the next ones in place of those that are there; 0 at the directory's end.
    ///
    /// A lie goes unseen: that a directory has no more names nobody but its file system knows.
    pub fn read(&mut self, directory: BorrowedFd<'_>) -> Result<usize> {
        let (buffer, size) = (self.buffer.as_mut_ptr(), self.buffer.len());
        (self.filled, self.at) = (0, 0);
        // SAFETY: the kernel writes at most as many bytes as it is told there are.
        let read = || Errno::result(unsafe { libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), buffer, size) });
        let count = super::uninterrupted(read)?;
        self.filled = usize::try_from(count).unwrap_or(0).min(size);
        Ok(self.filled)
    }

    /// Whether the last read filled most of the room.
    #[must_use]
    pub fn is_over_half_full(&self) -> bool {
        self.filled > self.buffer.len() / 2
    }

    /// Puts one behind the others.
    pub fn push(&mut self, entry: &Entry<'_>) {
        self.buffer.truncate(self.filled);
        self.buffer.extend_from_slice(entry.record);
        self.filled = self.buffer.len();
    }

    /// The next one.
    #[allow(clippy::should_implement_trait, reason = "an entry borrows from the list")]
    pub fn next(&mut self) -> Option<Entry<'_>> {
        let (entry, length) = Entry::first(self.buffer.get(self.at..self.filled)?)?;
        self.at += length;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, prop_oneof};

    use super::*;

    fn record(name: &[u8], kind: u8) -> Vec<u8> {
        let mut record = vec![0; 16];
        let length = (19 + name.len() + 1).next_multiple_of(8);
        record.extend_from_slice(&u16::try_from(length).unwrap().to_ne_bytes());
        record.push(kind);
        record.extend_from_slice(name);
        record.resize(length, 0);
        record
    }

    fn list(bytes: Vec<u8>) -> Entries {
        Entries { filled: bytes.len(), buffer: bytes, at: 0 }
    }

    #[test]
    fn entries_come_as_the_kernel_put_them_without_dot_and_dot_dot() {
        let names: [(&[u8], u8); 5] =
            [(b".", libc::DT_DIR), (b"a", libc::DT_REG), (b"..", libc::DT_DIR), (b"\xff\n", libc::DT_DIR), (&[b'x'; 255], 0)];
        let mut entries = list(names.iter().flat_map(|&(name, kind)| record(name, kind)).collect());
        let mut copied = Entries::default();
        for (name, is_directory, is_last) in [(&b"a"[..], false, false), (b"\xff\n", true, false), (&[b'x'; 255], false, true)] {
            let entry = entries.next().unwrap();
            assert_eq!((entry.name.to_bytes(), entry.says_directory, entry.is_last), (name, is_directory, is_last));
            assert_eq!(entry.alone().next().unwrap().name.to_bytes(), name);
            copied.push(&entry);
        }
        assert!(entries.next().is_none());
        let copies: Vec<_> = std::iter::from_fn(|| copied.next().map(|entry| entry.name.to_bytes().to_vec())).collect();
        assert_eq!(copies, [b"a".to_vec(), b"\xff\n".to_vec(), vec![b'x'; 255]]);
    }

    /// A record as a kernel makes it, one whose length lies, one without an end, or any bytes.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        use proptest::collection::vec;
        let names = || prop_oneof![vec(1u8.., 1..20), vec(b'.'..=b'.', 1..4)];
        prop_oneof![
            4 => (names(), 0u8..16).prop_map(|(name, kind)| record(&name, kind)),
            1 => (names(), proptest::num::u16::ANY).prop_map(|(name, length)| {
                let mut record = record(&name, 0);
                record[16..18].copy_from_slice(&(length % 64).to_ne_bytes());
                record
            }),
            1 => names().prop_map(|name| record(&name, 0).into_iter().map(|byte| byte.max(1)).collect()),
            1 => vec(proptest::num::u8::ANY, 0..30),
        ]
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_file_system_says_reading_it_ends_and_stays_inside(pieces in proptest::collection::vec(piece(), 0..12)) {
            let bytes = pieces.concat();
            let mut at = 0;
            while let Some((entry, length)) = Entry::first(&bytes[at..]) {
                // In it, behind the one before, and with all of the name inside.
                let record = bytes[at..at + length].last_chunk::<1>().map(|_| &bytes[at + length - entry.record.len()..at + length]);
                proptest::prop_assert_eq!(record, Some(entry.record));
                proptest::prop_assert!(entry.name.count_bytes() + 20 <= entry.record.len());
                proptest::prop_assert!(entry.name != c"." && entry.name != c"..");
                proptest::prop_assert_eq!(entry.is_last, at + length == bytes.len());
                let mut alone = entry.alone();
                proptest::prop_assert_eq!(alone.next().map(|copy| copy.name), Some(entry.name));
                proptest::prop_assert!(alone.next().is_none());
                at += length;
            }
        }

        #[test]
        fn what_a_kernel_says_is_read_back_up_to_where_it_is_cut_off(
            names in proptest::collection::vec(proptest::collection::vec(1u8.., 3..20), 0..12),
            cut in 0usize..400,
        ) {
            let records: Vec<Vec<u8>> = names.iter().map(|name| record(name, 0)).collect();
            let mut bytes = records.concat();
            bytes.truncate(cut);
            let mut room = bytes.len();
            let whole = records.iter().take_while(|record| room.checked_sub(record.len()).inspect(|left| room = *left).is_some());
            let wanted: Vec<&[u8]> = whole.zip(&names).map(|(_, name)| name.as_slice()).collect();
            let mut entries = list(bytes);
            let read: Vec<Vec<u8>> = std::iter::from_fn(|| entries.next().map(|entry| entry.name.to_bytes().to_vec())).collect();
            proptest::prop_assert_eq!(read, wanted);
        }
    }
}
