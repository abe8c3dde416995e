//! The pieces of a request's way, timed: `cargo bench -p windlass-bench`. Times are of one machine and one moment;
//! what is kept are the counts of instructions (`windlass-bench counts`).

use divan::counter::ItemsCount;
use windlass_bench::pieces::PIECES;

/// Repetitions of a piece in one sample, so that making ready what it needs does not count.
const REPETITIONS: usize = 10_000;

fn main() {
    divan::main();
}

#[divan::bench(args = PIECES.iter().map(|piece| piece.name))]
fn piece(bencher: divan::Bencher<'_, '_>, name: &str) {
    let piece = windlass_bench::pieces::find(name).expect("it is one of them");
    bencher.counter(ItemsCount::new(REPETITIONS)).bench_local(|| (piece.run)(REPETITIONS));
}
