//! Reading the daemon's status. What is missing in it counts as nothing.

use serde_json::Value;

/// A number at a JSON pointer; 0 where there is none.
pub(crate) fn number(status: &Value, pointer: &str) -> f64 {
    status.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0)
}

/// Every number of a list.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

/// Requests that ended in a result, and all that ended otherwise.
pub(crate) fn ended(status: &Value, operation: &str) -> (f64, f64) {
    let outcomes = status["requests"][operation].as_object();
    let counts =
        outcomes.into_iter().flatten().map(|(outcome, count)| (outcome, count.as_f64().unwrap_or(0.0)));
    let (done, failed): (Vec<_>, Vec<_>) = counts.partition(|(outcome, _)| *outcome == "done");
    // The sum of nothing is minus zero.
    let sum = |counts: Vec<(&String, f64)>| counts.iter().map(|(_, count)| count).sum::<f64>() + 0.0;
    (sum(done), sum(failed))
}

/// The value below which `share` of the measurements lie, placed within its bucket in proportion.
pub(crate) fn percentile(counts: &[f64], bounds: &[f64], share: f64) -> Option<f64> {
    let total: f64 = counts.iter().sum();
    let mut left = share * total;
    let last = *bounds.last()?;
    if total <= 0.0 {
        return None;
    }
    for (place, count) in counts.iter().enumerate() {
        if *count > 0.0 && left <= *count {
            let Some(high) = bounds.get(place) else { return Some(last) };
            let low = place.checked_sub(1).map_or(0.0, |below| bounds[below]);
            return Some(low + (high - low) * left / count);
        }
        left -= count;
    }
    Some(last)
}

/// What the daemon said, without what could move the cursor.
pub(crate) fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_above_the_last_bound_is_said_to_be_there() {
        assert_eq!(percentile(&[0.0, 0.0, 5.0], &[0.001, 0.01], 0.5), Some(0.01));
    }

    #[test]
    fn what_did_not_end_in_a_result_ended_otherwise() {
        let status = json!({ "requests": { "hash": { "done": 300, "overloaded": 2, "cancelled": 1 } } });
        assert_eq!(ended(&status, "hash"), (300.0, 3.0));
        assert_eq!(ended(&status, "echo"), (0.0, 0.0));
    }
}
