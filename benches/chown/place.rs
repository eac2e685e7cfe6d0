//! The file systems that the trees lie on, in a mount namespace of our own: whatever ends the bench, nothing is left mounted.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tmpfs,
    Ext4,
    Overlay,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Tmpfs, Self::Ext4, Self::Overlay];

    pub fn name(self) -> &'static str {
        match self {
            Self::Tmpfs => "tmpfs",
            Self::Ext4 => "ext4",
            Self::Overlay => "overlayfs",
        }
    }
}

/// A mounted file system with one tree on it.
pub struct Place {
    pub kind: Kind,
    work: PathBuf,
    files: u64,
}

/// Mounts that nobody else sees.
pub fn leave_the_others_mounts() {
    // SAFETY: a number; there is one thread.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0, "unshare: {}", std::io::Error::last_os_error());
    run("mount --make-rprivate /");
}

impl Place {
    /// The file system, empty.
    pub fn new(kind: Kind, work: &Path, files: u64) -> Self {
        let place = Self { kind, work: work.to_owned(), files };
        for directory in ["below", "above", "merged"] {
            fs::create_dir_all(place.at(directory)).expect("a directory");
        }
        if kind == Kind::Tmpfs {
            run(&format!("mount -t tmpfs -o mode=755,size=90%,nr_inodes={} none {}", place.inodes(), place.at("below")));
        } else {
            place.format("below");
            place.mount("below");
        }
        place
    }

    /// Where the tree is made and prepared; on overlayfs, that is in the lower layer.
    pub fn source(&self) -> String {
        format!("{}/tree", self.at("below"))
    }

    /// Where the tree is measured.
    pub fn tree(&self) -> String {
        match self.kind {
            Kind::Overlay => format!("{}/tree", self.at("merged")),
            _ => self.source(),
        }
    }

    /// What lies in the upper layer, if there is one.
    pub fn upper(&self) -> Option<String> {
        (self.kind == Kind::Overlay).then(|| format!("{}/upper", self.at("above")))
    }

    /// An overlay with a new upper layer, the lower layer being as it is.
    pub fn renew(&self) {
        if self.kind == Kind::Overlay {
            self.part();
            self.format("above");
            self.lay();
        }
    }

    /// So that the lower layer may change: beneath an overlay that would be undefined.
    pub fn lower_layer_alone(&self) {
        self.part();
    }

    /// Nothing that was written is still on its way.
    pub fn settle(&self) {
        let name = CString::new(self.at(if self.kind == Kind::Overlay { "above" } else { "below" })).expect("no null");
        // SAFETY: a C string, and the number it yielded.
        unsafe {
            let fd = libc::open(name.as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY);
            assert!(fd >= 0 && libc::syncfs(fd) == 0 && libc::close(fd) == 0, "syncfs: {}", std::io::Error::last_os_error());
        }
    }

    /// Nothing of the tree is in memory: the kernel has forgotten the file system, and the image's pages. Not on
    /// tmpfs, which is memory.
    pub fn chill(&self) {
        let overlay = self.kind == Kind::Overlay;
        if overlay {
            self.part();
            self.forget("above");
        }
        run(&format!("umount {}", self.at("below")));
        self.forget("below");
        self.mount("below");
        if overlay {
            self.lay();
        }
    }

    fn lay(&self) {
        self.mount("above");
        let above = self.at("above");
        for directory in ["upper", "work"] {
            fs::create_dir_all(format!("{above}/{directory}")).expect("a directory");
        }
        let options = format!("lowerdir={},upperdir={above}/upper,workdir={above}/work", self.at("below"));
        run(&format!("mount -t overlay -o {options} none {}", self.at("merged")));
    }

    fn part(&self) {
        for directory in ["merged", "above"].map(|name| self.at(name)) {
            if is_mounted(&directory) {
                run(&format!("umount {directory}"));
            }
        }
    }

    fn format(&self, name: &str) {
        let image = self.image(name);
        let file = File::create(&image).expect("an image");
        file.set_len((64 << 20) + self.files * 5 * 1024).expect("an image");
        run(&format!("mkfs.ext4 -q -F -N {} {image}", self.inodes()));
    }

    /// Without the thread that goes on initializing tables after the mount.
    fn mount(&self, name: &str) {
        run(&format!("mount -o loop,noinit_itable {} {}", self.image(name), self.at(name)));
    }

    fn forget(&self, name: &str) {
        let image = File::open(self.image(name)).expect("the image");
        image.sync_all().expect("fsync");
        // SAFETY: numbers.
        let failed = unsafe { libc::posix_fadvise(image.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        assert_eq!(failed, 0, "posix_fadvise");
    }

    fn inodes(&self) -> u64 {
        10_000 + self.files * 5 / 4
    }

    fn at(&self, name: &str) -> String {
        self.work.join(name).to_str().expect("a path of text").to_owned()
    }

    fn image(&self, name: &str) -> String {
        format!("{}.img", self.at(name))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.part();
        run(&format!("umount {}", self.at("below")));
    }
}

fn is_mounted(directory: &str) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc");
    mounts.lines().any(|line| line.split(' ').nth(1) == Some(directory))
}

fn run(line: &str) {
    let mut words = line.split_whitespace();
    let done = Command::new(words.next().unwrap_or_default()).args(words).status();
    assert!(done.as_ref().is_ok_and(std::process::ExitStatus::success), "{line}: {done:?}");
}
