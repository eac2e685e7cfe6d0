//! What every bench needs: which stepdown, and whose turn it is.

use std::env;
use std::path::{Path, PathBuf};

/// The programs to be measured; several where `STEPDOWN_BIN` has colons.
pub fn stepdown() -> Vec<PathBuf> {
    if let Some(given) = env::var_os("STEPDOWN_BIN") {
        return env::split_paths(&given).collect();
    }
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    vec![target.join(format!("{}-unknown-linux-musl/release/stepdown", env::consts::ARCH))]
}

/// Another order each round: whoever comes after one that fills the processor's caches, or leaves much to write, pays
/// for it.
pub fn shuffle(order: &mut [usize], seed: &mut u64) {
    for last in (1..order.len()).rev() {
        // Knuth's MMIX; the high bits are the random ones.
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(last, (*seed >> 33) as usize % (last + 1));
    }
}
