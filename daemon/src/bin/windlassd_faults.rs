//! windlassd with the faults
fn main() {}
