//! Runs one piece a number of times and ends: `windlass-pieces PIECE N`. `windlass-bench counts` has callgrind count
//! its instructions.

use std::process::ExitCode;

use windlass_bench::pieces;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let piece = arguments.next().and_then(|name| pieces::find(&name));
    let n = arguments.next().and_then(|n| n.parse().ok());
    match (piece, n) {
        (Some(piece), Some(n)) => {
            (piece.run)(n);
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(2),
    }
}
