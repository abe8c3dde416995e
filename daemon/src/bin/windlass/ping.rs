//! `windlass ping`: is the daemon's I/O side awake?

use std::time::{Duration, Instant};

use windlass_protocol::client::Addresses;

use crate::exit::{Exit, Problem};
use crate::output::print;
use crate::{Persistence, units};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many round trips
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// Pause between two of them
    #[arg(long, default_value = "0s", value_parser = units::duration)]
    interval: Duration,
    #[command(flatten)]
    persistence: Persistence,
}

pub(crate) async fn run(addresses: &Addresses, arguments: &Arguments) -> Result<Exit, Problem> {
    let client = crate::connect(addresses, arguments.persistence.options()).await?;
    let mut times = Vec::new();
    for number in 1..=arguments.count {
        let began = Instant::now();
        let body = number.to_le_bytes();
        let pong = client
            .ping(&body)
            .await
            .map_err(|error| Problem::from_call(&format!("ping {number} of {addresses}"), &error))?;
        let time = began.elapsed();
        times.push(time);
        let address = pong.address;
        print(format_args!("pong {number} from {address}: {}\n", units::readable(time)))?;
        if number < arguments.count && !arguments.interval.is_zero() {
            tokio::time::sleep(arguments.interval).await;
        }
    }
    times.sort_unstable();
    let [min, median, p99, max] =
        [0, 50, 99, 100].map(|percent| units::readable(percentile(&times, percent)));
    print(format_args!("{} round trips: min {min}, median {median}, p99 {p99}, max {max}\n", times.len()))?;
    // The answers are there; how the connection ends changes nothing.
    let _totals = client.close().await;
    Ok(Exit::Done)
}

/// The smallest of the sorted `times` that at least `percent` of them do not exceed.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() * percent).div_ceil(100).saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        for (percent, expected) in [(0, 1), (50, 50), (99, 99), (100, 100)] {
            assert_eq!(percentile(&times, percent), Duration::from_millis(expected));
        }
        assert_eq!(percentile(&times[..1], 99), Duration::from_millis(1));
    }
}
