//! Start-up time.
fn main() {}
